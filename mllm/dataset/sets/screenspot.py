"""ScreenSpot: where on a screen would one click to do something?"""

from __future__ import annotations

import random
from typing import Annotated, Any, Literal

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import EXPR, Questions, fill, text_field
from mllm.errors import DataError
from mllm.fields import Fits, PathName, is_finite, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE, POINTS

PointAnswer = Annotated[str, Fits(f"a text with {POINTS} in it once", lambda text: text.count(POINTS) == 1)]
PLATFORMS = {"windows": "desktop", "macos": "desktop", "ios": "mobile", "android": "mobile"}
"""Of the operating systems that ScreenSpot names as sources; its other sources are web sites."""


@DATASETS.register_module()
class ScreenSpot(LineDataset):
    """ScreenSpot: where to click for an instruction; the point must lie in the box of the element.

    Args:
        filename: the public JSON array.
            `version="v1"` or `"v2"`: `{img_filename, bbox, instruction, data_type, data_source}`, bbox [x, y, width,
            height] in pixels. `version="pro"`: `{img_filename, bbox, instruction, ui_type, platform, application,
            group}`, bbox [x1, y1, x2, y2] in pixels.
        questions: a pool with `<image>` and `<expr>`.
        answer: the text of every answer; holds `<points>` once.

    The group of an item: `type` ("text" or "icon"), `platform` ("mobile", "desktop", "web"; of Pro the system), `cell`,
    the cell of the published tables ("mobile text", ...; of Pro "Dev icon", ...); of Pro also `application`.

    Source: Cheng et al. 2024, SeeClick, arXiv 2401.10935; Wu et al. 2024, OS-Atlas, arXiv 2410.23218; Li et al. 2025,
    ScreenSpot-Pro, arXiv 2504.07981.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        version: Literal["v1", "v2", "pro"],
        image_folder: str | None = None,
        answer: PointAnswer = "<points>",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, EXPR))
        self.is_pro = version == "pro"
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        x1, y1, x2, y2 = box = self._box(line)
        instruction = text_field(line, "instruction")
        question = fill(self.questions.draw(rng), {EXPR: instruction})
        return {
            "image": field(line, "img_filename", str),
            "target": {"boxes": [box], "points": [[(x1 + x2) / 2, (y1 + y2) / 2]]},
            "conversations": [
                {"from": "human", "value": question},
                {"from": "gpt", "value": self.answer, "points_seq": [[0]]},
            ],
            "truth": {"points": [0], "candidates": [0]},
            "group": self._group(line),
            "expression": instruction,
        }

    def _box(self, line: dict[str, Any]) -> list[float]:
        numbers = field(line, "bbox", list)
        if len(numbers) != 4 or not all(map(is_finite, numbers)):
            raise DataError(field="bbox", expected="4 numbers", found=show(numbers), kind="coordinates")
        if self.is_pro:
            return numbers
        x, y, width, height = numbers
        return [x, y, x + width, y + height]

    def _group(self, line: dict[str, Any]) -> dict[str, str]:
        if self.is_pro:
            names = {"type": "ui_type", "platform": "platform", "application": "application"}
            group = {name: field(line, theirs, str) for name, theirs in names.items()}
            return {**group, "cell": f"{field(line, 'group', str)} {group['type']}"}
        kind = field(line, "data_type", str)
        platform = PLATFORMS.get(field(line, "data_source", str).lower(), "web")
        return {"type": kind, "platform": platform, "cell": f"{platform} {kind}"}

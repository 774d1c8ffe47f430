"""Expressions that mean any number of points."""

from __future__ import annotations

import random
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import EXPR, Questions, fill, text_field
from mllm.dataset.sets.screenspot import PointAnswer
from mllm.fields import PathName
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE


@DATASETS.register_module()
class PointList(LineDataset):
    """A point on each object that an expression refers to, as one answer.

    Lines: `{img_path, expression, points}`, points [[x, y], ...] in pixels, [] where there is no such thing; `masks`
    (optional), one for each point, which pixels it may lie on, in COCO's run-length encoding.

    Args:
        questions: a pool with `<image>` and `<expr>`.
        answer: the text of every answer; holds `<points>` once.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        answer: PointAnswer = "<points>",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, EXPR))
        self.answer = answer

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        expression = text_field(line, "expression")
        points = field(line, "points", list)
        numbers = list(range(len(points)))
        return {
            "image": field(line, "img_path", str),
            "target": {"points": points},
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {EXPR: expression})},
                {"from": "gpt", "value": self.answer, "points_seq": [numbers]},
            ],
            "truth": {"points": numbers, "masks": line.get("masks") or []},
            "expression": expression,
        }

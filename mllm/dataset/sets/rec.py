"""Referring expressions: from words to a box (REC), and from a box to words (REG)."""

from __future__ import annotations

import random
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.expressions import ExpressionDataset
from mllm.dataset.questions import OBJS, Questions, text_field
from mllm.fields import PathName
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE


@DATASETS.register_module()
class REC(ExpressionDataset):
    """Referring expression comprehension: which box does an expression refer to?

    Lines: `{img_path, expression, bbox}`, bbox [x1, y1, x2, y2] in pixels, or [] where there is no such object: the
    codec then writes in place of `<boxes>` that there is none. `questions` is a pool with `<image>` and
    `<expr>`; `answer` is the text of every answer: it holds `<boxes>` once, and may hold `<expr>`.
    """

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        expression, bbox = text_field(line, "expression"), field(line, "bbox", list)
        return self.asked(field(line, "img_path", str), expression, {"boxes": [bbox] if bbox else []}, rng)


@DATASETS.register_module()
class REG(LineDataset):
    """Referring expression generation, or the caption of a region: what is in a box?

    Lines as for REC. `questions` is a pool with `<image>` and `<objs>`; the answer is the expression.
    """

    def __init__(
        self, *, filename: PathName, questions: PathName, image_folder: str | None = None, seed: int = 0
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, OBJS))

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = self.questions.draw(rng).replace(OBJS, BOXES)
        return {
            "image": field(line, "img_path", str),
            "target": {"boxes": [field(line, "bbox", list)]},
            "conversations": [
                {"from": "human", "value": question, "boxes_seq": [[0]]},
                {"from": "gpt", "value": text_field(line, "expression")},
            ],
        }

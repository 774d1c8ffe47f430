"""What datasets of referring expressions share: an expression in, the boxes that it means out."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import EXPR, BoxAnswer, Questions, fill
from mllm.fields import PathName
from mllm.types import IMAGE


class ExpressionDataset(LineDataset):
    """An expression of each line, answered with a list of boxes.

    Args:
        questions: a pool with `<image>` and `<expr>`.
        answer: the text of every answer; holds `<boxes>` once, and may hold `<expr>`.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        answer: BoxAnswer = "Answer: <boxes> .",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, EXPR))
        self.answer = answer

    def asked(self, image: str, expression: str, target: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        """The record of a question for all boxes of `target`."""
        boxes: Sequence[Any] = target["boxes"]
        return {
            "image": image,
            "target": target,
            "expression": expression,
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {EXPR: expression})},
                {"from": "gpt", "value": fill(self.answer, {EXPR: expression}), "boxes_seq": [list(range(len(boxes)))]},
            ],
        }

"""Expressions that mean any number of boxes: detection, phrases of captions, generalised referring expressions."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.questions import EXPR, BoxAnswer, Questions, fill, words_of
from mllm.fields import PathName, field
from mllm.registry import DATASETS
from mllm.types import IMAGE


class Listed(LineDataset):
    """An expression of each line, answered with a list of boxes.

    Args:
        questions: a pool with `<image>` and `<expr>`.
        answer: the text of every answer; holds `<boxes>` once.
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
            "conversations": [
                {"from": "human", "value": fill(self.questions.draw(rng), {EXPR: expression})},
                {"from": "gpt", "value": self.answer, "boxes_seq": [list(range(len(boxes)))]},
            ],
        }


@DATASETS.register_module()
class BoxList(Listed):
    """All boxes that an expression means, as one answer.

    Lines: `{img_path, expression, boxes}`, boxes [[x1, y1, x2, y2], ...] in pixels, [] where there is no such object;
    `labels` (optional), the name of each box, and `group` (optional).
    """

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        target: dict[str, Any] = {"boxes": field(line, "boxes", list)}
        if line.get("labels") is not None:
            target["labels"] = line["labels"]
        return self.asked(field(line, "img_path", str), words_of(line, "expression"), target, rng)


@DATASETS.register_module()
class HumanRef(Listed):
    """HumanRef: all people that a phrase means, of many in an image, or none.

    Lines: the public annotations.jsonl, `{image_name, referring, domain, sub_domain, answer_boxes}`, boxes in pixels,
    none in the domain "rejection". `domain` and `sub_domain` are the group of each item.

    Source: Jiang et al. 2025, RexSeek, arXiv 2503.08507.
    """

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        boxes = [box for box in field(line, "answer_boxes", list) if box != []]
        record = self.asked(field(line, "image_name", str), words_of(line, "referring"), {"boxes": boxes}, rng)
        return {**record, "group": {name: field(line, name, str) for name in ("domain", "sub_domain")}}

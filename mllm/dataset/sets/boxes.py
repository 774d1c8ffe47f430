"""Expressions that mean any number of boxes: detection, phrases of captions, generalised referring expressions."""

from __future__ import annotations

import random
from typing import Any

from mllm.dataset.expressions import ExpressionDataset
from mllm.dataset.questions import text_field
from mllm.json_fields import field
from mllm.registry import DATASETS


@DATASETS.register_module()
class BoxList(ExpressionDataset):
    """All boxes that an expression refers to, as one answer.

    Lines: `{img_path, expression, boxes}`, boxes [[x1, y1, x2, y2], ...] in pixels, [] where there is no such object;
    `labels` (optional), the name of each box, and `group` (optional).
    """

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        target: dict[str, Any] = {"boxes": field(line, "boxes", list)}
        if line.get("labels") is not None:
            target["labels"] = line["labels"]
        return self.asked(field(line, "img_path", str), text_field(line, "expression"), target, rng)


@DATASETS.register_module()
class HumanRef(ExpressionDataset):
    """HumanRef: all people that a phrase refers to, among many in an image, or none.

    Lines: the public annotations.jsonl, `{image_name, referring, domain, sub_domain, answer_boxes}`, boxes in pixels,
    none in the domain "rejection". `domain` and `sub_domain` are the group of each item.

    Source: Jiang et al. 2025, RexSeek, arXiv 2503.08507.
    """

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        boxes = [box for box in field(line, "answer_boxes", list) if box != []]
        record = self.asked(field(line, "image_name", str), text_field(line, "referring"), {"boxes": boxes}, rng)
        return {**record, "group": {name: field(line, name, str) for name in ("domain", "sub_domain")}}

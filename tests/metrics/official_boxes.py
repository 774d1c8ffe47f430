"""Lists of boxes as predictions, and what the public evaluation codes make of them (`boxes_official.json`)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mllm.types import Box, GroundTruth, Prediction

STORED: dict[str, Any] = json.loads(Path(__file__).with_name("boxes_official.json").read_text(encoding="utf-8"))
ITEMS: list[dict[str, Any]] = STORED["items"]
SCORES: dict[str, Any] = STORED["scores"]


def boxes(*values: Sequence[float], label: str | None = None) -> tuple[Box, ...]:
    return tuple(Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label) for x1, y1, x2, y2 in values)


def answer(index: int, found: Sequence[Box] = (), true: Sequence[Box] = (), **given: Any) -> Prediction:
    """An answer about these true boxes; without any there is no target."""
    truth = GroundTruth(boxes=tuple(true), no_target=not true)
    return Prediction(key=f"a:{index}", index=index, text="", boxes=tuple(found), truth=truth, **given)


def stored_answers(group: str) -> list[Prediction]:
    return [
        answer(index, boxes(*item["found"]), boxes(*item["true"]), group={group: item[group]})
        for index, item in enumerate(ITEMS)
    ]

"""Answers read back as in a rollout, for rewards."""

from __future__ import annotations

from typing import Any

from mllm.conversation.pixels import PixelCodec
from mllm.geometry import place
from mllm.registry import CODECS
from mllm.types import Box, GroundTruth, Prediction

SIZE = (400, 400)


def box(*xyxy: float, label: str | None = None) -> Box:
    x1, y1, x2, y2 = xyxy
    return Box(x1=x1, y1=y1, x2=x2, y2=y2, label=label)


def truth(*boxes: Box, **rest: Any) -> GroundTruth:
    return GroundTruth(boxes=boxes, **rest)


def answered(text: str, given: GroundTruth, *, codec: str = "qwen25_vl") -> Prediction:
    """An answer about an image of SIZE, read by the codec in original pixels."""
    prediction = Prediction(key="a.jsonl:1", index=0, text=text, truth=given)
    return PixelCodec(CODECS.make(codec), place("squash", SIZE, SIZE[0]), image=0).read_into(prediction)


def said(text: str, *texts: str) -> Prediction:
    return Prediction(key="a.jsonl:1", index=0, text=text, truth=GroundTruth(texts=texts))

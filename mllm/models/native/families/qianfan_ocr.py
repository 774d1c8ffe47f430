"""Qianfan-OCR: InternVL's tiles; its chat template marks an image by another token than that of its features."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module("qianfan_ocr")
def qianfan_ocr() -> Family:
    """Boxes as InternVL writes them. Source: transformers, models/qianfan_ocr."""
    return Family(codec="internvl", token="<image>")

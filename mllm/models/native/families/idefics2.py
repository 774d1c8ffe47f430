"""Idefics2: an image within two edges, aspect kept, and with splitting its quarters before it; marks around images."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES

AROUND_IMAGE = "<fake_token_around_image>"


@FAMILIES.register_module("idefics2")
def idefics2() -> Family:
    """Boxes are spoken as Shikra writes them.

    Source: Laurencon et al. 2024 (arXiv 2405.02246).
    """
    return Family(codec="shikra", between=AROUND_IMAGE, spaced=True)

"""GLM-4.1V, 4.5V and 4.6V, and GLM-OCR: images of any size, resized to whole patches with their aspect kept."""

from __future__ import annotations

from mllm.models.native.family import Family
from mllm.registry import FAMILIES


@FAMILIES.register_module(["glm4v", "glm4v_moe", "glm46v", "glmga", "glm_ocr"])
def glm() -> Family:
    """Source: GLM-V Team 2025 (arXiv 2507.01006); github.com/zai-org/GLM-V, README, "Grounding"."""
    return Family(codec="glm")

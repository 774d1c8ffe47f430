"""Names of parameters in the LLaVA and LLaVA-NeXT of transformers, and ours."""

from __future__ import annotations

from typing import Any

OURS = {
    "model.vision_tower.": "vision_tower.encoder.",
    "model.multi_modal_projector.linear_1.": "connector.layers.0.",
    "model.multi_modal_projector.linear_2.": "connector.layers.2.",
    "model.image_newline": "mosaic.newline",
    "lm_head.": "language_model.lm_head.",
}


def our_name(name: str, model: Any) -> str:
    base = f"language_model.{model.language_model.base_model_prefix}."
    for theirs, ours in {**OURS, "model.language_model.": base}.items():
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    raise AssertionError(name)

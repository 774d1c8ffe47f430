"""PEFT: adapters put into a model that stays of its own class."""

from __future__ import annotations

from typing import Any

from torch import nn

from mllm.compat.notes import without_notes

with without_notes():  # PEFT imports bitsandbytes, whether or not anything is quantised
    from peft import LoraConfig, PeftModel, inject_adapter_in_model
    from peft.tuners.tuners_utils import BaseTunerLayer as AdaptedLayer

__all__ = ["AdaptedLayer", "LoraConfig", "PeftModel", "inject"]

LOOKED_FOR = ("is_loaded_in_4bit", "is_loaded_in_8bit", "hf_quantizer")
"""What PEFT asks of the outermost module, and transformers leaves on the quantised part of it."""


def inject(config: LoraConfig, model: nn.Module) -> None:
    """Put adapters into a model of which one part may be quantised: PEFT then chooses the layers for that kind."""
    whole: Any = model
    left = {name: vars(part)[name] for part in model.children() for name in LOOKED_FOR if name in vars(part)}
    for name, value in left.items():
        setattr(whole, name, value)
    inject_adapter_in_model(config, whole)
    for name in left:
        delattr(whole, name)

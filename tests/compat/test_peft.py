from __future__ import annotations

from peft import LoraConfig
from torch import nn

from mllm.compat import peft


def test_inject_adapts_layers_and_leaves_no_flag_behind() -> None:
    model = nn.Sequential()
    model.add_module("part", nn.Sequential(nn.Linear(4, 4)))
    model.part.is_loaded_in_4bit = False
    peft.inject(LoraConfig(r=1, target_modules=["part.0"]), model)
    assert isinstance(model.part[0], peft.AdaptedLayer)
    assert "is_loaded_in_4bit" not in vars(model)
    assert isinstance(model.part[0].get_base_layer(), nn.Linear)

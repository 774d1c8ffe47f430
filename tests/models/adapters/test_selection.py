"""Which layers a target means."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from transformers import CONFIG_MAPPING, AutoModelForImageTextToText

from mllm.errors import ConfigError
from mllm.models.adapters.selection import linear_layers
from tools.native.sizes import tiny


def model_of(model_type: str) -> Any:
    settings = tiny(CONFIG_MAPPING[model_type]().to_dict())
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(CONFIG_MAPPING[model_type](**settings), trust_remote_code=False)


def test_a_router_that_gives_several_tensors_is_no_target() -> None:
    model = model_of("llama4")
    routers = [name for name, layer in model.named_modules() if type(layer).__name__ == "Llama4Router"]
    assert routers
    assert all(isinstance(model.get_submodule(name), nn.Linear) for name in routers)
    assert not set(routers) & set(linear_layers(model, ["language_model"]))
    with pytest.raises(ConfigError, match="whose weights the model reads without calling them"):
        linear_layers(model, [r"language_model.*\.router$"])

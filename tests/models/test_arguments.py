"""Settings of transformers configs in model_args: each has its usual type and a range."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import LlamaConfig

from mllm.errors import ConfigError
from mllm.models.arguments import check_spec

LLAMA = {"model_type": "llama"}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({**LLAMA, "attention_dropout": 2.0}, "attention_dropout: expected a number from 0 to 1"),
        ({**LLAMA, "attention_dropout": -0.1}, "attention_dropout: expected a number from 0 to 1"),
        ({"model_type": "gpt2", "resid_pdrop": 1.5}, "resid_pdrop: expected a number from 0 to 1"),
        ({"model_type": "gpt2", "n_layer": 2000}, "n_layer: expected a whole number from 1 to 1,000"),
        ({**LLAMA, "rms_norm_eps": -1.0}, "rms_norm_eps: expected a number above 0"),
        ({**LLAMA, "rms_norm_eps": 0}, "rms_norm_eps: expected a number above 0"),
        ({**LLAMA, "tie_word_embeddings": "x"}, "tie_word_embeddings: expected True or False"),
        ({**LLAMA, "attention_bias": 1}, "attention_bias: expected True or False"),
        ({**LLAMA, "hidden_act": 7}, "hidden_act: expected a text"),
        ({"model_type": "qwen2_vl", "vision_config": 7}, "vision_config: expected a dict or None"),
        ({"model_type": "swin", "depths": "x"}, "depths: expected a list"),
        ({**LLAMA, "dtype": "nonsense"}, "dtype: expected .*'float32'.*, found str 'nonsense'"),
        ({**LLAMA, "dtype": -7}, "dtype: expected "),
        ({**LLAMA, "architectures": -7}, "architectures: expected a list"),
        ({**LLAMA, "pad_token_id": -1}, "pad_token_id: expected a whole number of at least 0"),
        ({**LLAMA, "eos_token_id": [1, -7]}, r"eos_token_id\.1: expected a whole number of at least 0"),
    ],
)
def test_check_spec_refuses_values_of_another_type_or_range(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{message}"):
        check_spec(spec)


@pytest.mark.parametrize("name", ["id2label", "output_hidden_states", "return_dict"])
def test_check_spec_refuses_what_says_nothing_of_the_model(name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: unknown name"):
        check_spec({**LLAMA, name: "other"})


def test_check_spec_takes_a_whole_config_json() -> None:
    config = LlamaConfig(hidden_size=32, num_attention_heads=2, architectures=["LlamaForCausalLM"])
    check_spec({**config.to_dict(), "dtype": "float32"})


@pytest.mark.parametrize(
    "spec",
    [
        {**LLAMA, "attention_dropout": 0, "eos_token_id": [1, 2], "num_key_value_heads": 2},
        {"model_type": "t5", "dropout_rate": 0, "num_layers": 2},
        {"model_type": "swin", "depths": [1, 1]},
        {"model_type": "mpt", "attn_config": {"alibi": True}},
    ],
)
def test_check_spec_takes_values_of_the_usual_type(spec: dict[str, Any]) -> None:
    check_spec(spec)

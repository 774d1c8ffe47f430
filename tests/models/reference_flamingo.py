"""Flamingos of the sizes that the numbers of the reference implementation were made with."""

from __future__ import annotations

import pytest
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from mllm.models.flamingo.builder import compose
from mllm.models.flamingo.model import Flamingo
from tests.models.tiny_flamingo import PARITY

REFERENCE = PARITY / "openflamingo_llama.pt"


needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="no numbers of the reference at hand")


_SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4}


_GPT = {"n_embd": 32, "n_layer": 4, "n_head": 4, "n_inner": 64}


REFERENCE_LMS = {
    "llama": {"model_type": "llama", "bos_token_id": 1, "eos_token_id": 2, **_SIZES},
    "mpt": {"model_type": "mpt", "d_model": 32, "n_heads": 4, "n_layers": 4, "expansion_ratio": 4},
    "gpt_neox": {"model_type": "gpt_neox", **_SIZES},
    "gptj": {"model_type": "gptj", "rotary_dim": 4, **_GPT},
    "opt": {"model_type": "opt", "ffn_dim": 64, "word_embed_proj_dim": 32, "max_position_embeddings": 128, **_SIZES},
}


del REFERENCE_LMS["opt"]["intermediate_size"]


def reference_model(text: str = "llama") -> Flamingo:
    """Of the sizes that the reference's numbers were made with."""
    vision = {**_SIZES, "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "hidden_act": "gelu"}
    settings = {**REFERENCE_LMS[text], "vocab_size": 100, "pad_token_id": 99}
    return compose(
        AutoModel.from_config(AutoConfig.for_model("clip_vision_model", image_size=28, patch_size=7, **vision)),
        AutoModelForCausalLM.from_config(AutoConfig.for_model(settings.pop("model_type"), **settings)),
        cross_attn_every_n_layers=2,
        image_token_id=98,
        new_token_ids=[97, 98],
    )

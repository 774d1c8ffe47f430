"""`PreTrainedConfig._attn_implementation`, `PreTrainedModel._from_config`, `_is_hf_initialized` and others."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Gemma2Config, Gemma2ForCausalLM, LlamaConfig, LlamaForCausalLM, MambaForCausalLM
from transformers.integrations import sdpa_attention
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS, PreTrainedModel

from mllm.compat import transformers_models as compat

SIZES: dict[str, Any] = dict(
    vocab_size=16, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1
)


def test_attention_of_reads_what_a_model_was_built_with() -> None:
    assert compat.attention_of(LlamaConfig(**SIZES)) is None
    model = compat.from_config(LlamaForCausalLM, LlamaConfig(**SIZES), attn_implementation="eager")
    assert compat.attention_of(model.config) == "eager"
    assert compat.attention_of(LlamaForCausalLM(LlamaConfig(**SIZES)).config) == "sdpa"


def test_set_attention_reaches_the_model_built_next() -> None:
    config = LlamaConfig(**SIZES)
    compat.set_attention(config, "eager")
    assert compat.attention_of(LlamaForCausalLM(config).config) == "eager"


def test_experts_of_is_none_until_a_model_chooses() -> None:
    assert compat.experts_of(LlamaConfig(**SIZES)) is None


def test_known_attentions_are_those_of_the_interface() -> None:
    assert {"sdpa", "eager", "flex_attention"} - {"eager"} <= set(compat.known_attentions())
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is sdpa_attention.sdpa_attention_forward


def test_caps_scores_itself_means_gemma2_alone() -> None:
    gemma = Gemma2ForCausalLM(Gemma2Config(**SIZES, head_dim=8))
    llama = LlamaForCausalLM(LlamaConfig(**SIZES))
    assert not compat.caps_scores_itself(llama)
    compat.set_attention(gemma.config, "eager")
    assert compat.caps_scores_itself(gemma) == (not gemma._supports_sdpa)


def test_is_stateful_tells_mamba_from_llama() -> None:
    assert compat.is_stateful(MambaForCausalLM)
    assert not compat.is_stateful(LlamaForCausalLM)


def test_kept_in_float32_is_empty_where_a_model_names_nothing() -> None:
    assert compat.kept_in_float32(LlamaForCausalLM(LlamaConfig(**SIZES))) == set()


def test_from_config_builds_in_the_dtype_asked_for() -> None:
    model = compat.from_config(LlamaForCausalLM, LlamaConfig(**SIZES), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


def test_shard_by_is_what_accelerate_asks_a_model_for() -> None:
    from accelerate.utils import FullyShardedDataParallelPlugin

    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    compat.shard_by(model, ["LlamaAttention"])
    plugin = FullyShardedDataParallelPlugin(fsdp_version=2, auto_wrap_policy="transformer_based_wrap")
    plugin.set_auto_wrap_policy(model)
    wrapped = plugin.auto_wrap_policy.keywords["transformer_layer_cls"]
    assert {kind.__name__ for kind in wrapped} == {"LlamaAttention"}


def test_mark_initialised_keeps_values_from_initialize_weights() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    for layer in (model.lm_head, model.model.layers[0].mlp):
        for parameter in layer.parameters():
            torch.nn.init.constant_(parameter, 7)
    compat.mark_initialised(model.model.layers[0].mlp)
    for module in model.modules():
        if module is model.lm_head:
            module._is_hf_initialized = False
    model.initialize_weights()
    assert (model.model.layers[0].mlp.up_proj.weight == 7).all()
    assert not (model.lm_head.weight == 7).all()


def test_mark_what_was_read_marks_modules_whose_tensors_are_all_marked() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    marks: Any = (model[0].weight, model[0].bias, model[1].weight)
    for tensor in marks:
        tensor._is_hf_initialized = True
    compat.mark_what_was_read(model)
    assert [hasattr(layer, "_is_hf_initialized") for layer in model] == [True, False]


def test_text_models_declare_what_transformers_asks_for() -> None:
    """`TextModel` sets these class attributes; under other names nobody would read them."""
    for name in ("sdpa", "flash_attn", "flex_attn", "attention_backend"):
        assert hasattr(PreTrainedModel, f"_supports_{name}")


def test_positions_of_prompts_leave_padding_out() -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES))
    ids, mask = torch.tensor([[1, 2, 3]]), torch.tensor([[0, 1, 1]])
    found = compat.positions_of_prompts(model, ids, {"attention_mask": mask})
    assert found[:, 1:].tolist() == [[0, 1]]

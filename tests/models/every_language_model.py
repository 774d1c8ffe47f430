"""A tiny config of every causal language model that transformers has."""

from __future__ import annotations

from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

PAD = 3
TYPES = sorted(name for name in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES if name in CONFIG_MAPPING)

_WIDE = (
    *("hidden_size", "d_model", "n_embd", "emb_dim", "attention_hidden_size", "embedding_size", "embedding_dim"),
    *("word_embed_proj_dim", "lru_width"),
)
_INSIDE = (
    *("intermediate_size", "ffn_dim", "decoder_ffn_dim", "encoder_ffn_dim", "dff", "dim_ff", "n_inner", "d_inner"),
    *("ffn_hidden_size", "intermediate_size_mlp", "prefix_dense_intermediate_size", "dense_intermediate_size"),
)
_EXPERT = (
    *("moe_intermediate_size", "expert_ffn_hidden_size", "shared_expert_intermediate_size", "shared_intermediate_size"),
    *("moe_shared_expert_intermediate_size", "shared_experts_intermediate_size"),
)
_LAYERS = (
    *("num_hidden_layers", "n_layer", "n_layers", "num_layers", "decoder_layers", "encoder_layers"),
    *("num_decoder_layers", "num_encoder_layers"),
)
_HEADS = (
    *("num_attention_heads", "n_head", "n_heads", "num_heads", "attention_heads", "decoder_attention_heads"),
    *("encoder_attention_heads", "num_decoder_attention_heads", "num_encoder_attention_heads", "mamba_n_heads"),
    *("mamba_num_heads", "n_mamba_heads", "swa_num_attention_heads", "linear_num_value_heads", "linear_num_heads"),
)
_LENGTHS = (
    *("max_position_embeddings", "n_positions", "max_seq_len", "max_target_positions", "model_max_length"),
    "context_length",
)
_WINDOWS = (*("sliding_window", "sliding_window_size", "window_size", "attention_window_size", "attention_window"),)
_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout", "activation_dropout"),
    *("resid_pdrop", "embd_pdrop", "attn_pdrop", "hidden_dropout", "residual_dropout", "dropout_p", "mlp_dropout"),
    *("embedding_dropout", "layerdrop", "decoder_layerdrop", "router_jitter_noise", "input_jitter_noise"),
    *("resid_dropout", "embed_dropout"),
)
SMALL: dict[str, Any] = {
    **dict.fromkeys(_WIDE, 32),
    **dict.fromkeys(_INSIDE, 40),
    **dict.fromkeys(_EXPERT, 24),
    **dict.fromkeys(_LAYERS, 2),
    **dict.fromkeys(_HEADS, 4),
    **dict.fromkeys(_LENGTHS, 128),
    **dict.fromkeys(_WINDOWS, 5),
    **dict.fromkeys(_DROPOUTS, 0.0),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "swa_num_key_value_heads", "linear_num_key_heads"), 2),
    **dict.fromkeys(("head_dim", "dim_head", "d_head", "attention_head_dim", "v_head_dim", "qk_nope_head_dim"), 8),
    **dict.fromkeys(("swa_head_dim", "linear_key_head_dim", "linear_value_head_dim", "linear_head_dim"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 16),
    **dict.fromkeys(("mamba_d_state", "ssm_state_size", "state_size", "mamba_chunk_size", "chunk_size"), 8),
    **dict.fromkeys(("mamba_n_groups", "mamba_ngroups", "n_groups", "n_group", "num_expert_group", "topk_group"), 1),
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts"), 2),
    **dict.fromkeys(("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("mamba_dt_rank", "time_step_rank", "conv_kernel", "rotary_dim", "qk_rope_head_dim"), 4),
    **dict.fromkeys(("d_rel", "hidden_size_per_layer_input", "laurel_rank", "adapter_rank", "gated_norm_rank"), 4),
    **dict.fromkeys(("attention_chunk_size", "block_size", "index_topk", "index_block_size", "prompt_length"), 4),
    **dict.fromkeys(("local_attention", "rel_extent", "kv_lora_rank", "o_lora_rank", "router_hidden_size"), 8),
    # few heads of an indexer give many scores of zero, and which of equal ones count is nobody's promise
    **dict.fromkeys(("index_n_heads", "index_head_dim", "keep_window_size", "num_buckets"), 8),
    **dict.fromkeys(("index_topk_blocks", "o_groups", "hc_mult", "zero_expert_num", "num_layers_per_stack"), 2),
    **{"mamba_d_ssm": 64, "qk_head_dim": 12, "q_lora_rank": 12, "vocab_size_per_layer_input": 60},
    **{"index_local_blocks": 1, "num_kv_shared_layers": 0, "pronunciation_embed_dim": 8, "shape_embed_dim": 8},
    **{"position_bias_num_buckets": 32, "position_bias_max_distance": 64, "num_blocks": 2},
}
"""A small value for each setting that says how large a model is, or that draws random numbers."""
KINDS_OF_LAYERS = ("layer_types", "mlp_layer_types", "layers_block_type", "indexer_types", "kv_sharing_modes")
_LATENT: dict[str, Any] = {"num_key_value_heads": 4, "head_dim": None}
_TWICE: dict[str, Any] = {"encoder_layers": 2, "decoder_layers": 2}
_STATES = {
    "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
    **{"num_hidden_layers": 4, "attention_hidden_size": 64, "attention_head_dim": 16, "num_key_value_heads": 4},
}
OWN: dict[str, dict[str, Any]] = {
    **dict.fromkeys(
        (
            *("axk1", "axk2", "bailing_hybrid", "deepseek_v3", "deepseek_v32", "glm4_moe_lite", "glm_moe_dsa", "hy_v4"),
            *("kimi_linear", "minicpm3", "youtu"),
        ),
        _LATENT,
    ),
    "deepseek_v2": {**_LATENT, "num_experts_per_tok": 2},
    "longcat_flash": {"num_key_value_heads": 4, "head_dim": 4},
    "dots3_note_text": {"per_layer_config": {}, "pad_token_id": PAD, "num_key_value_heads": 4, "head_dim": 12},
    "dots3_note_vision_encoder": {"per_layer_config": {}, "adapter_in_dim": 32, "adapter_out_dim": 32},
    "dots3_note_audio_encoder": {"adapter_input_size": 32, "adapter_out_dim": 32},
    "bamba": {"num_hidden_layers": 3, "attn_layer_indices": [1]},
    "jamba": {"num_hidden_layers": 3, "attn_layer_period": 3, "attn_layer_offset": 1},
    "granitemoehybrid": {
        "layer_types": ["linear_attention", "full_attention", "linear_attention"],
        **{"num_hidden_layers": 3, "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_expand": 2, "head_dim": None},
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3},
    "lfm2_moe": {"layer_types": ["conv", "full_attention", "conv"], "num_hidden_layers": 3, "num_dense_layers": 1},
    "mamba2": {"num_heads": 4, "head_dim": 16, "expand": 2},
    "zamba": {**_STATES, "n_mamba_heads": 2, "attn_layer_period": 2, "attn_layer_offset": 1},
    "zamba2": {**_STATES, "n_mamba_heads": 4, "mamba_headdim": 16, "hybrid_layer_ids": [1, 3]},
    **{name: {"head_dim": 8} for name in ("hunyuan_v1_dense", "hunyuan_v1_moe", "ministral")},
    "recurrent_gemma": {"num_hidden_layers": 3},
    "zaya": {"num_experts_per_tok": 1},
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_blocks": None},
    "nemotron": {"num_key_value_heads": 2},
    "dots1": {"n_routed_experts": 4, "n_shared_experts": 1, "num_experts_per_tok": 2},
    "gpt_neo": {"attention_types": [[["global", "local"], 1]], "num_layers": 2},
    "hrm_text": {"num_hidden_layers": 16, "num_layers_per_stack": 2},
    "cohere_compass_text": {
        "rope_parameters": {
            "sliding_attention": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]},
            "full_attention": None,
        }
    },
    "qwen4_exp_text": {
        **{"indexer_n_heads": 8, "indexer_kv_heads": 1, "indexer_head_dim": 8, "indexer_budget": 4},
        **{"indexer_compress_ratio": 2, "hc_lowrank": 8, "hc_count": 2, "ple_embed_dim": 8},
        "ngram_vocab_size_base": 50,
    },
    "gemma4_text": {"per_layer_config": {"1": {"head_dim": 16}}, "hidden_size_per_layer_input": 0},
    "gemma4_unified_text": {"per_layer_config": {"1": {"head_dim": 16}}},
    "mpt": {"attn_pdrop": None, "emb_pdrop": None, "resid_pdrop": None, "attn_config": None},
    "dbrx": {
        "attn_config": {"kv_n_heads": 2, "clip_qkv": 8.0, "rope_theta": 10000.0},
        "ffn_config": {"ffn_hidden_size": 40, "moe_num_experts": 4, "moe_top_k": 2},
    },
}
"""Settings of a type beside those that `SMALL` says; None leaves one out."""
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "falcon with ALiBi": ("falcon", {"alibi": True}),
    "falcon, new architecture": ("falcon", {"new_decoder_architecture": True}),
    "mpt without ALiBi": ("mpt", {"attn_config": {"alibi": False}}),
    "qwen2 with a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 5, "max_window_layers": 1}),
    "phi3 with a window": ("phi3", {"sliding_window": 5}),
    "starcoder2 with a window": ("starcoder2", {"sliding_window": 5}),
    "opt with norms behind": ("opt", {"do_layer_norm_before": False, "word_embed_proj_dim": 16}),
    "gpt_bigcode with all heads": ("gpt_bigcode", {"multi_query": False}),
    "gpt_neox in sequence": ("gpt_neox", {"use_parallel_residual": False}),
    "granitemoehybrid of states alone": (
        "granitemoehybrid",
        {"layer_types": ["linear_attention"] * 2, "num_hidden_layers": 2},
    ),
}
"""Other architectures under the same names."""


def tiny(model_type: str) -> dict[str, Any]:
    """A config dict for `language_model`; its layers are one of each kind that the type has."""
    try:
        default = AutoConfig.for_model(model_type)
    except StrictDataclassError:
        return {"model_type": model_type}  # one without defaults
    return shrunk(default, OWN.get(model_type, {}))


def variant(name: str) -> dict[str, Any]:
    model_type, changes = VARIANTS[name]
    return {name: value for name, value in {**tiny(model_type), **changes}.items() if value is not None}


def shrunk(default: PreTrainedConfig, own: dict[str, Any]) -> dict[str, Any]:
    known = default.to_dict()
    found = {name: SMALL[name] for name, value in known.items() if name in SMALL and isinstance(value, (int, float))}
    lists = {name: known[name] for name in KINDS_OF_LAYERS if isinstance(known.get(name), list)}
    if lists:
        columns = list(zip(*lists.values(), strict=False))
        kinds = list(dict.fromkeys(columns)) * (2 if len(set(columns)) < 2 else 1)
        found |= {name: list(column) for name, column in zip(lists, zip(*kinds, strict=True), strict=True)}
        found |= {name: len(kinds) for name in ("num_hidden_layers", "num_layers", "n_layer") if name in known}
    if known["model_type"] not in OWN or "attn_config" not in OWN[known["model_type"]]:
        for name, part in vars(default).items():
            if isinstance(part, PreTrainedConfig):
                words = {"vocab_size": 40} if hasattr(part, "vocab_size") else {}
                found[name] = shrunk(part, {**OWN.get(part.model_type, {}), **words})
    found |= own
    return {"model_type": known["model_type"], **{name: value for name, value in found.items() if value is not None}}

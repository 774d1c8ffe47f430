"""A model's config with every size made tiny, whatever its family: told by the names of its settings."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

TILE, PATCH = 32, 4
"""Pixels a side of an image, or of a tile, and of a patch."""
WIDTH, WIDER, HEAD = 32, 48, 16
LAYERS = 2
DEPTHS = r"(num_(hidden_|decoder_|global_)?layers|n_layers|layers|(en|de)coder_layers|depth|resampler_depth)"
RULES: tuple[tuple[str, int], ...] = (
    (DEPTHS, LAYERS),
    (r"(\w+_)?(num|n)_\w*heads|\w*attention_heads|resampler_heads|num_heads", 2),
    (r"num_mel_bins|input_feat_size", 16),
    (r"\w*(intermediate_size|ffn_dim|d_ff|mlp_dim|_mlp|ffn_size|expert_dim)", WIDER),
    (r"qk_rope_head_dim", HEAD // 2),
    (r"qk_head_dim", HEAD + HEAD // 2),
    (r"(\w*_)?(head_dim|dim_head|d_kv)|d_kv", HEAD),
    (r"\w*lora_rank", HEAD),
    (r"\w*(num|n)_(routed_|local_)?experts|num_experts|n_routed_experts", 4),
    (r"n_group|topk_group|\w*shared_experts", 1),
    (r"(num_|top_k_)?experts_per_tok|moe_k|moe_topk|top_k_experts", 2),
    (
        r"\w*(hidden_size|embed_dim|hidden_dim|d_model|projection_dim|proj_dim|token_embed_dim|output_dim|input_dim)",
        WIDTH,
    ),
    (r"(\w+_)?image_size|resolution", TILE),
    (r"(\w+_)?patch_size", PATCH),
    (r"num_position_embeddings|num_patches|position_embedding_size|max_num_patches", (TILE // PATCH) ** 2),
    (r"pos_emb_(height|width)|posemb_grid_size", TILE // PATCH),
    (r"max_position_embeddings|model_max_length|max_source_positions", 2048),
    (r"sliding_window(_size)?|attention_chunk_size", 16),
    (r"window_size", 16),
    (r"num_query_tokens|latent_query_num|resampler_n_latents", 4),
    (r"initializer_range|init_std", 0),
)
"""Names of settings, whole, and what they become. The first that fits holds."""
PLACES = r"\w*(indexes|indices|_idxs|_layers|layer_ids)"
SPREAD = 0.1
LEFT_OUT = ("transformers_version", "id2label", "label2id", "per_layer_config")
"""Settings that follow from others."""


def tiny(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a config, with those of its parts."""
    layers = next((value for name, value in config.items() if re.fullmatch(DEPTHS, name) and _number(value)), 0)
    kept = _kept(config, layers)
    found: dict[str, Any] = {}
    for name, value in config.items():
        if name in LEFT_OUT:
            continue
        if isinstance(value, Mapping):
            part = "model_type" in value or name.endswith("_config")
            found[name] = tiny(value) if part else _rope(value) if name == "rope_parameters" else value
        elif isinstance(value, list) and len(value) == layers > LAYERS:
            found[name] = [value[place] for place in kept]
        elif isinstance(value, list) and re.fullmatch(PLACES, name) and value and all(_number(v) for v in value):
            found[name] = [LAYERS - 1]
        else:
            found[name] = _setting(name, value, config)
    return found


def _kept(config: Mapping[str, Any], layers: int) -> list[int]:
    """Numbers of the layers that stay: two, of different kinds where there are some."""
    for name in ("layer_types", "mlp_layer_types"):
        kinds = config.get(name)
        if isinstance(kinds, list) and len(kinds) == layers:
            other = next((place for place, kind in enumerate(kinds) if kind != kinds[0]), 1)
            return [0, other]
    return list(range(LAYERS))


def _number(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _setting(name: str, value: Any, config: Mapping[str, Any]) -> Any:
    if not value or isinstance(value, (bool, str)):
        return value
    small = next((small for pattern, small in RULES if re.fullmatch(pattern, name)), None)
    if small is None:
        return value
    if isinstance(value, float):
        return SPREAD if small == 0 else value
    if "key_value_heads" in name:  # as many as heads, or fewer
        return 2 if value == config.get(name.replace("key_value", "attention")) else 1
    if isinstance(value, list):
        return [small] * len(value) if all(_number(v) for v in value) else value
    return min(small, value) if _number(value) else value


def _rope(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Half of a head turns, where not all of it does."""
    if any(isinstance(value, Mapping) for value in rope.values()):
        return {name: _rope(value) if isinstance(value, Mapping) else value for name, value in rope.items()}
    found = dict(rope)
    part = found.get("partial_rotary_factor", 1) < 1
    if part:
        found["partial_rotary_factor"] = 0.5
    if "mrope_section" in found:
        found["mrope_section"] = [2, 1, 1] if part else [4, 2, 2]
    return found

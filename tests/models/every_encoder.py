"""A tiny config of every vision encoder that transformers has, and of the text-image models that hold one."""

from __future__ import annotations

from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CONFIG_MAPPING, AutoConfig, PreTrainedConfig
from transformers.models.auto import modeling_auto as auto

TYPES = sorted(
    {
        *auto.MODEL_FOR_IMAGE_MAPPING_NAMES,
        *auto.MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        *auto.MODEL_FOR_BACKBONE_MAPPING_NAMES,
        *auto.MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING_NAMES,
        *(name for name in CONFIG_MAPPING if "vision" in name),
    }
    & set(CONFIG_MAPPING)
)
_WIDE = ("hidden_size", "embed_dim", "d_model", "decoder_hidden_size", "hidden_dim", "embedding_dim")
_HEADS = ("num_attention_heads", "num_key_value_heads", "decoder_num_attention_heads", "attention_heads")
_DROPOUTS = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "drop_path_rate", "dropout", "attention_dropout"),
    *("drop_connect_rate", "dropout_rate", "layerdrop", "hidden_dropout"),
)
SMALL: dict[str, Any] = {
    **dict.fromkeys(_WIDE, 16),
    **dict.fromkeys(("intermediate_size", "mlp_dim", "decoder_intermediate_size"), 24),
    **dict.fromkeys(("num_hidden_layers", *_HEADS, "mlp_ratio", "num_register_tokens", "window_size"), 2),
    **dict.fromkeys(("image_size", "pretrained_image_size"), 32),
    **dict.fromkeys(("patch_size", "spatial_patch_size", "projection_dim", "embedding_size", "output_channels"), 8),
    **dict.fromkeys(("stem_hidden_channels", "num_pos_feats", "pooler_output_size", "head_dim", "query_dim"), 8),
    **dict.fromkeys(("num_pooler_layers", "decoder_num_hidden_layers", "num_frames", "tubelet_size"), 1),
    **dict.fromkeys(("global_layers", "num_global_layers"), 1),
    **dict.fromkeys(_DROPOUTS, 0.0),
    **{"num_channels": 3, "num_patches": 16, "out_hidden_size": 16, "vision_output_dim": 16, "depth_multiplier": 0.25},
    **{"vocab_size": 50, "max_position_embeddings": 32},
}
_WINDOWS: dict[str, Any] = {
    **{"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [2, 2, 2], "patch_size": 2, "window_size": 2},
}
_STAGES: dict[str, Any] = {"hidden_sizes": [8, 8, 16], "depths": [1, 1, 1]}
_RESNET: dict[str, Any] = {**_STAGES, "embedding_size": 8, "layer_type": "basic"}
_PYRAMID: dict[str, Any] = {
    **{"hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "mlp_ratios": [2, 2, 2, 2]},
    **{"num_attention_heads": [1, 1, 2, 2], "sr_ratios": [1, 1, 1, 1]},
}
_SEGMENTS: dict[str, Any] = {
    **{"num_encoder_blocks": 3, "num_attention_heads": [1, 2, 2], "mlp_ratios": [2, 2, 2]},
    **{"patch_sizes": [7, 3, 3], "strides": [4, 2, 2], "sr_ratios": [2, 1, 1], **_STAGES},
}
OWN: dict[str, dict[str, Any]] = {
    **{name: {**_WINDOWS, "hidden_size": None} for name in ("swin", "donut-swin", "maskformer-swin")},
    "swinv2": {**_WINDOWS, "pretrained_window_sizes": [0, 0, 0]},
    "swin2sr": {
        **{"image_size": 16, "embed_dim": 8, "depths": [1, 1], "num_heads": [2, 2], "window_size": 4, "patch_size": 1}
    },
    "focalnet": {
        **{"embed_dim": 8, "depths": [1, 1, 1], "hidden_sizes": [8, 8, 16], "focal_levels": [1, 1, 1]},
        **{"focal_windows": [3, 3, 3], "patch_size": 2},
    },
    "hiera": {
        **{"embed_dim": 8, "depths": [1, 1, 1], "num_heads": [1, 2, 4], "image_size": [32, 32], "patch_size": [3, 3]},
        **{"patch_stride": [2, 2], "patch_padding": [1, 1], "masked_unit_size": [4, 4], "num_query_pool": 2},
        **{"query_stride": [2, 2], "decoder_hidden_size": 8, "decoder_depth": 1, "decoder_num_heads": 1},
    },
    **{name: {**_STAGES, "num_stages": 3, "patch_size": 4} for name in ("convnext", "convnextv2")},
    "dinov3_convnext": {"hidden_sizes": [8, 8, 8, 16], "depths": [1, 1, 1, 1], "image_size": 64},
    "resnet": _RESNET,
    "rt_detr_resnet": _RESNET,
    "regnet": {**_STAGES, "embedding_size": 8, "groups_width": 4},
    "bit": {**_STAGES, "embedding_size": 8, "num_groups": 2},
    "hgnet_v2": {
        **{"embedding_size": 8, "hidden_sizes": [8, 16], "depths": [1, 1], "stem_channels": [3, 8, 8]},
        **{"stage_in_channels": [8, 8], "stage_mid_channels": [8, 8], "stage_out_channels": [8, 16]},
        **{"stage_num_blocks": [1, 1], "stage_downsample": [False, True], "stage_light_block": [False, True]},
        **{"stage_kernel_size": [3, 3], "stage_numb_of_layers": [1, 1]},
    },
    "efficientnet": {
        **{"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.1, "hidden_dim": 320},
        **{"kernel_sizes": [3, 3], "in_channels": [16, 16], "out_channels": [16, 24], "strides": [1, 2]},
        **{"num_block_repeats": [1, 1], "expand_ratios": [1, 2], "depthwise_padding": [], "num_hidden_layers": 8},
    },
    "levit": {
        **{"hidden_sizes": [16, 16], "num_attention_heads": [2, 2], "depths": [1, 1], "key_dim": [8, 8]},
        **{"image_size": 64, "mlp_ratio": [2, 2], "attention_ratio": [2, 2], "patch_size": 16},
        "down_ops": [["Subsample", 8, 2, 4, 2, 2], [""]],
    },
    "mobilevit": {
        **{"image_size": 64, "hidden_sizes": [16, 16, 16], "neck_hidden_sizes": [8, 8, 8, 16, 16, 16, 24]},
        "patch_size": 2,
    },
    "mobilevitv2": {
        **{"image_size": 64, "width_multiplier": 0.25, "patch_size": 2, "n_attn_blocks": [1, 1, 1]},
        "base_attn_unit_dims": [32, 32, 32],
    },
    "mobilenet_v1": {"image_size": 64, "depth_multiplier": 0.125},
    "mobilenet_v2": {"image_size": 64, "depth_multiplier": 0.125},
    "pvt": {
        **_PYRAMID,
        **{"image_size": 64, "num_encoder_blocks": 4, "patch_sizes": [4, 2, 2, 2], "strides": [4, 2, 2, 2]},
        **{"sequence_reduction_ratios": [1, 1, 1, 1], "sr_ratios": None},
    },
    "pvt_v2": {**_PYRAMID, "image_size": 64},
    "segformer": _SEGMENTS,
    "glpn": _SEGMENTS,
    "poolformer": {"depths": [1, 1, 1, 1], "hidden_sizes": [8, 8, 8, 16], "patch_size": 16},
    "swiftformer": {"image_size": 64, "depths": [1, 1, 1, 1], "embed_dims": [8, 8, 8, 16]},
    "cvt": {"embed_dim": [8, 8, 16], "num_heads": [1, 2, 2], "depth": [1, 2, 3], "mlp_ratio": [2.0, 2.0, 2.0]},
    "textnet": {
        **{"image_size": [64, 64], "hidden_sizes": [8, 8, 8, 8, 16], "stem_out_channels": 8},
        **{"conv_layer_kernel_sizes": [[[3, 3]]] * 4, "conv_layer_strides": [[1], [2], [2], [2]]},
    },
    **{
        name: {"image_size": 32, "patch_size": 4, "window_size": 0}
        for name in ("sam_vision_model", "sam_hq_vision_model")
    },
    "siglip2_vision_model": {"patch_size": 8, "num_patches": 16},
    **{name: {"image_size": [32, 32], "patch_size": [8, 8]} for name in ("internvl_vision", "qianfan_ocr_vision")},
    "sam2_vision_model": {
        **{"backbone_channel_list": [16, 8], "fpn_hidden_size": 8, "backbone_feature_sizes": [[8, 8], [4, 4]]},
        **{"num_feature_levels": 2, "fpn_top_down_levels": [1], "image_size": None},
    },
    "sam2_hiera_det_model": {
        **{"hidden_size": 8, "embed_dim_per_stage": [8, 16], "num_attention_heads_per_stage": [1, 2]},
        **{"blocks_per_stage": [1, 2], "window_size_per_stage": [4, 2], "global_attention_blocks": [2]},
        **{"image_size": [32, 32], "num_query_pool_stages": 1, "num_attention_heads": 1, "patch_stride": [4, 4]},
        "window_positional_embedding_background_size": [4, 4],
    },
    "vitpose_backbone": {"image_size": [32, 32], "patch_size": [8, 8]},
    "lw_detr_vit": {"num_windows": 4},
    "dots3_note_vision_encoder": {"per_layer_config": {}, "adapter_in_dim": 16},
    "dab-detr": {"query_dim": 4},
    "yolos": {"image_size": [32, 32], "num_detection_tokens": 4},
    "beit": {"out_indices": [0, 1, 2]},
    "data2vec-vision": {"out_indices": [0, 1, 1, 2]},
    "dpt": {"backbone_out_indices": [0, 1, 1, 2], "neck_hidden_sizes": [8, 8, 8, 8], "fusion_hidden_size": 8},
}
"""Settings of a type beside those that `SMALL` says; None leaves one out."""


def tiny(model_type: str) -> dict[str, Any]:
    """A config dict for `vision_tower`."""
    try:
        return shrunk(AutoConfig.for_model(model_type), OWN.get(model_type, {}))
    except (StrictDataclassError, ImportError):
        return {"model_type": model_type}  # one without defaults, or without its library


def shrunk(default: PreTrainedConfig, own: dict[str, Any]) -> dict[str, Any]:
    known = default.to_dict()
    found: dict[str, Any] = {}
    for name, value in known.items():
        if name in SMALL and isinstance(value, (int, float)):
            found[name] = type(value)(SMALL[name])  # configs tell 2 from 2.0
    for name, part in vars(default).items():
        if isinstance(part, PreTrainedConfig):
            found[name] = shrunk(part, OWN.get(part.model_type, {}))
    found |= own
    return {"model_type": known["model_type"], **{name: value for name, value in found.items() if value is not None}}

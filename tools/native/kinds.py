"""What cannot be guessed about the folder of each family."""

from __future__ import annotations

from dataclasses import replace

from tools.native.kind import (
    BLOCKS,
    CODES,
    COHERE,
    CROPPED,
    GEMMA,
    GEMMA_4,
    GEMMA_TOKENS,
    GRANITE,
    IDEFICS,
    IDEFICS_TOKENS,
    IMAGE,
    INTERN,
    LLAVA,
    LOCATIONS,
    PINPOINTS,
    PLAIN,
    ROPE,
    SPLIT_ROWS,
    SQUARE,
    TILES,
    VISUAL,
    Kind,
    glm,
    qwen,
)
from tools.native.kinds_more import MORE_KINDS
from tools.native.sizes import PATCH, TILE

KINDS: dict[str, Kind] = {
    "aria": Kind(
        tokens={"image_token": "<|img|>"},
        image="<fim_prefix><|img|><fim_suffix>",
        more=["<fim_prefix>", "<fim_suffix>"],
        processor={"size_conversion": {"490": 16, "980": 16}},
        pixels={"max_image_size": 980, "min_image_size": 140},
        config={
            "projector_patch_to_query_dict": {"49": 16, "196": 16},
            "vision_config": {"image_size": 980, "patch_size": 70},
        },
    ),
    "aya_vision": Kind(
        tokens=IMAGE,
        form=COHERE,
        more=["<|START_OF_IMG|>", "<|END_OF_IMG|>", "<|IMG_PATCH|>", "<|IMG_LINE_BREAK|>"],
        ids={"image_token_index": "<|IMG_PATCH|>"},
        processor={"patch_size": PATCH, "img_size": TILE, "downsample_factor": 2},
        pixels=TILES,
    ),
    "blip": Kind(form=None, pixels={"size": SQUARE}),
    "blip-2": Kind(
        form=None,
        more=["<image>"],
        ids={"image_token_index": "<image>"},
        processor={"num_query_tokens": 4},
        pixels={"size": SQUARE},
    ),
    "chameleon": Kind(
        tokens={"image_token": "<image>", "boi_token": "<racm3:break>", "eoi_token": "<eoss>"},
        form=PLAIN,
        processor={"image_seq_length": 16},
        pixels=CROPPED,
        more=[f"IMGIMG{letters}Z" for letters in CODES],
        config={"vq_config": {"channel_multiplier": [1, 1, 1, 1], "base_channels": 32, "num_embeddings": VISUAL}},
        ids={"vocabulary_map": {name: name for name in ("<image>", *(f"IMGIMG{letters}Z" for letters in CODES))}},
    ),
    "cohere2_vision": Kind(
        tokens={
            **{"image_token": "<|IMG_PATCH|>", "boi_token": "<|START_OF_IMG|>", "eoi_token": "<|END_OF_IMG|>"},
            "img_line_break_token": "<|IMG_LINE_BREAK|>",
        },
        form=COHERE,
        pixels={**TILES, "patch_size": PATCH},
    ),
    "cohere_compass": Kind(
        tokens={
            **{"image_token": "<|IMAGE_PAD|>", "video_token": "<|VIDEO_PAD|>"},
            **{"vision_start_token": "<|VISION_START|>", "vision_end_token": "<|VISION_END|>"},
        },
        form=COHERE,
        image="<|VISION_START|><|IMAGE_PAD|><|VISION_END|>",
        pixels=BLOCKS,
        config={
            "text_config": {
                "rope_parameters": {
                    name: {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
                    for name in ("full_attention", "sliding_attention")
                }
            }
        },
    ),
    "cosmos3_edge": qwen(),
    "cosmos3_omni": qwen(processor_class="Qwen3VLProcessor"),
    "deepseek_ocr2": Kind(
        tokens=IMAGE,
        form=PLAIN,
        processor={"patch_size": PATCH, "downsample_ratio": 4},
        pixels={"size": {"height": 256, "width": 256}, "tile_size": 192, "max_patches": 4},
        config={
            "text_config": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
            "vision_config": {
                "sam_config": {"downsample_channels": [32, 32], "output_channels": 32, "image_size": 256}
            },
        },
    ),
    "deepseek_vl": Kind(
        tokens={"image_token": "<image_placeholder>"},
        form=PLAIN,
        processor={"num_image_tokens": 64},
        pixels={"size": SQUARE, "min_size": PATCH},
        config={"vision_config": {"vision_use_head": False}},
    ),
    "deepseek_vl_hybrid": Kind(
        tokens={"image_token": "<image_placeholder>"},
        form=PLAIN,
        processor={"num_image_tokens": 64},
        pixels={"size": SQUARE, "min_size": PATCH, "high_res_size": {"height": 64, "width": 64}},
        config={
            "vision_config": {"vision_use_head": False},
            "high_res_vision_config": {"image_size": 64, "output_channels": 32, "window_size": 4},
        },
    ),
    "diffusion_gemma": Kind(
        tokens=GEMMA_4,
        form=GEMMA,
        pixels={"max_soft_tokens": 70, "patch_size": PATCH},
        image_class="Gemma4ImageProcessor",
        config={"text_config": {"moe_intermediate_size": 48, "num_experts": 4, "top_k_experts": 2}},
    ),
    "dots3_note": qwen(
        tokens={"image_token": "<|imgpad|>", "video_token": "<|video_pad|>", "audio_token": "<|audio_comp_pad|>"},
        image="<|imgpad|>",
        pixels={**BLOCKS, "temporal_patch_size": 1},
        config={
            "audio_config": {"adapter_input_size": 32, "adapter_out_dim": 32},
            "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32},
        },
    ),
    "emu3": Kind(
        tokens={
            **{"image_token": "<image>", "boi_token": "<|image start|>", "eoi_token": "<|image end|>"},
            **{"image_wrapper_token": "<|image token|>", "eof_token": "<|extra_201|>"},
        },
        form=replace(PLAIN, start=""),  # its processor writes the first token
        more=["<|extra_200|>", *(f"<|visual token {number:06d}|>" for number in range(VISUAL))],
        pixels={"min_pixels": 16 * 16, "max_pixels": 64 * 64},
        config={"vq_config": {"base_channels": 32, "channel_multiplier": [1, 1, 1, 1], "codebook_size": VISUAL}},
        ids={
            "vocabulary_map": {
                name: name
                for name in ("<image>", "<|extra_200|>", *(f"<|visual token {n:06d}|>" for n in range(VISUAL)))
            }
        },
    ),
    "ernie4_5_vl_moe": Kind(
        tokens={
            **{"image_token": "<|IMAGE_PLACEHOLDER|>", "video_token": "<|VIDEO_PLACEHOLDER|>"},
            **{"image_start_token": "<|IMAGE_START|>", "image_end_token": "<|IMAGE_END|>"},
            **{"video_start_token": "<|VIDEO_START|>", "video_end_token": "<|VIDEO_END|>"},
        },
        form=PLAIN,
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        pixels=BLOCKS,
        config={"text_config": {"rope_parameters": {**ROPE, "mrope_section": [3, 3, 2]}}},
    ),
    "evolla": Kind(form=None),
    "exaone4_5": qwen(),
    "fast_vlm": Kind(
        tokens=IMAGE,
        processor={"patch_size": 32, "vision_feature_select_strategy": "full"},
        config={
            "vision_config": {
                "architecture": "fastvit_t8",
                "hidden_size": 768,
                "image_size": 128,
                "model_args": {"inference_mode": True},
            }
        },
        pixels={"size": {"shortest_edge": 128}, "crop_size": {"height": 128, "width": 128}, "do_center_crop": True},
        processor_class="LlavaProcessor",
        image_class="CLIPImageProcessor",
    ),
    "florence2": Kind(
        tokens=IMAGE,
        form=None,
        image="",
        more=[*LOCATIONS, "<od>", "</od>", "<ocr>", "</ocr>", "<cap>", "</cap>"],
        pixels={
            **{"size": {"height": 64, "width": 64}, "crop_size": {"height": 64, "width": 64}},
            **{"do_center_crop": False, "image_seq_length": 5},
        },
        config={
            "vision_config": {
                **{"embed_dim": [8, 16, 16, 32], "num_heads": [1, 2, 2, 2], "num_groups": [1, 2, 2, 2]},
                **{"depths": [1, 1, 1, 1], "window_size": 4, "patch_size": [7, 3, 3, 3]},
                **{"max_position_embeddings": 50, "drop_path_rate": 0.0},
            }
        },
    ),
    "fuyu": Kind(
        form=None,
        more=["|SPEAKER|", "|NEWLINE|", "<0x04>"],
        pixels={"size": {"height": 32, "width": 64}, "patch_size": {"height": 8, "width": 8}},
        config={"patch_size": 8},
        ids={"image_token_id": "|SPEAKER|"},
    ),
    "gemma3": Kind(
        tokens=GEMMA_TOKENS,
        form=GEMMA,
        image="<start_of_image>",
        processor={"image_seq_length": 16},
        pixels={"size": SQUARE},
        config={"mm_tokens_per_image": 16, "vision_config": {"vision_use_head": False}},
    ),
    "gemma3n": Kind(
        tokens={
            **GEMMA_TOKENS,
            "boa_token": "<start_of_audio>",
            "eoa_token": "<end_of_audio>",
            "audio_token": "<audio_soft_token>",
        },
        form=GEMMA,
        processor={"image_seq_length": 16, "audio_seq_length": 4},
        pixels={"size": {"height": 128, "width": 128}},
        config={
            "vision_soft_tokens_per_image": 16,
            "text_config": {"num_kv_shared_layers": 0},
            "vision_config": {"architecture": "test_convnext", "hidden_size": 64},
        },
    ),
    "gemma4": Kind(
        tokens=GEMMA_4,
        form=GEMMA,
        pixels={"max_soft_tokens": 70, "patch_size": PATCH},
        config={"vision_config": {"model_type": "gemma4_vision"}},
    ),
    "gemma4_unified": Kind(
        tokens=GEMMA_4,
        form=GEMMA,
        pixels={"max_soft_tokens": 70, "patch_size": PATCH},
        config={
            "text_config": {"sliding_window": 80},
            "vision_config": {"model_type": "gemma4_unified_vision", "mm_embed_dim": 32, "output_proj_dims": 32},
        },
    ),
    "git": Kind(form=None, pixels=CROPPED),
    "glm46v": glm(processor_class=None, image_class=None),
    "glm4v": glm(processor_class=None, image_class=None),
    "glm4v_moe": glm(processor_class=None, image_class="Glm4vImageProcessor"),
    "glm5_next": glm(
        processor_class=None,
        image_class=None,
        pixels={"patch_size": PATCH, "merge_size": 2, "min_image_tokens": 4, "max_image_tokens": 64},
    ),
    "glm_ocr": glm(),
    "glmga": glm(image_class=None),
    "got_ocr2": Kind(
        tokens={"image_token": "<imgpad>"},
        image="<img><imgpad></img>",
        more=["<img>", "</img>"],
        pixels={"size": {"height": 256, "width": 256}, "crop_to_patches": False},
        config={"vision_config": {"image_size": 256, "output_channels": 32}},
    ),
    "granite4_vision": Kind(
        tokens=IMAGE,
        form=GRANITE,
        processor={**LLAVA, "downsample_rate": "1/2"},
        pixels={**CROPPED, "image_grid_pinpoints": PINPOINTS},
        config={
            **{"image_grid_pinpoints": PINPOINTS, "deepstack_layer_map": [[-1, 0]], "downsample_rate": "4/8"},
            **{"spatial_target_layers": [1, 2, 3, 4], "text_config": {"num_hidden_layers": 5}},  # each its own layer
            **{"vision_config": {"hidden_size": 64}, "qformer_config": {"hidden_size": 64, "encoder_hidden_size": 64}},
        },
    ),
    "granite_docling": Kind(
        tokens=IMAGE,
        form=GRANITE,
        more=[*IDEFICS_TOKENS, "<global-img>", *SPLIT_ROWS],
        processor={"image_seq_len": 4},
        pixels=TILES,
    ),
    "hunyuan_vl": Kind(
        tokens={
            "image_token": "<｜hy_place▁holder▁no▁102｜>",
            "image_start_token": "<｜hy_place▁holder▁no▁100｜>",
            "image_end_token": "<｜hy_place▁holder▁no▁101｜>",
        },
        image="<｜hy_place▁holder▁no▁100｜><｜hy_place▁holder▁no▁102｜><｜hy_place▁holder▁no▁101｜>",
        form=PLAIN,
        pixels=BLOCKS,
        more=["<｜hy_place▁holder▁no▁103｜>"],
        config={"text_config": {"head_dim": 16, "rope_parameters": {**ROPE, "mrope_section": [2, 2, 2, 2]}}},
        ids={
            "im_start_id": "<｜hy_place▁holder▁no▁100｜>",
            "im_end_id": "<｜hy_place▁holder▁no▁101｜>",
            "im_newline_id": "<｜hy_place▁holder▁no▁103｜>",
        },
    ),
    "hyperclovax_vision_v2": qwen(),
    "idefics": Kind(
        tokens=IMAGE,
        form=replace(IDEFICS, start="{{ bos_token }}"),
        more=IDEFICS_TOKENS,
        pixels={"image_size": TILE},
    ),
    "idefics2": Kind(
        form=IDEFICS,
        image="<image>",
        more=["<image>", *IDEFICS_TOKENS],
        ids={"image_token_id": "<image>"},
        processor={"image_seq_len": 4},
        pixels={"size": {"shortest_edge": 24, "longest_edge": 64}},
        config={"vision_config": {"image_size": 64}, "perceiver_config": {"resampler_n_latents": 4}},
    ),
    "idefics3": Kind(
        tokens=IMAGE,
        form=IDEFICS,
        more=[*IDEFICS_TOKENS, "<global-img>", *SPLIT_ROWS],
        processor={"image_seq_len": 16},
        pixels={"size": {"longest_edge": 2 * TILE}, "max_image_size": {"longest_edge": TILE}},
    ),
    "inkling2": Kind(tokens={"image_token": "<|unused_200054|>"}, pixels={"size": {"height": 8, "width": 8}}),
    "inkling_mm_model": Kind(
        tokens={"image_token": "<|unused_200054|>", "audio_token": "<|unused_200053|>"},
        image="<|content_image|><|unused_200054|>",
        more=["<|content_image|>", "<|content_audio_input|>"],
        ids={"image_bos_token_id": "<|content_image|>", "audio_bos_token_id": "<|content_audio_input|>"},
        pixels={"size": {"height": 8, "width": 8}},
        config={"vision_config": {"patch_size": 8, "num_hidden_layers": 5}},
    ),
    "instructblip": Kind(
        form=None,
        more=["<image>"],
        ids={"image_token_index": "<image>"},
        processor={"num_query_tokens": 4},
        pixels={"size": SQUARE},
        parts=["qformer_tokenizer"],
    ),
    "instructblipvideo": Kind(
        form=None,
        more=["<video>"],
        ids={"video_token_index": "<video>"},
        processor={"num_query_tokens": 4},
        image_class="BlipImageProcessor",
        parts=["qformer_tokenizer"],
    ),
    "internvl": Kind(
        tokens=INTERN,
        image="<IMG_CONTEXT>\n",
        more=["<ref>", "</ref>", "<box>", "</box>"],
        processor={"image_seq_length": 16},
        pixels=TILES,
        ids={"image_token_id": "<IMG_CONTEXT>"},
    ),
    "janus": Kind(
        tokens={
            "image_token": "<image_placeholder>",
            "boi_token": "<begin_of_image>",
            "eoi_token": "<end_of_image>",
        },
        form=PLAIN,
        processor={"num_image_tokens": 64},
        pixels={"size": SQUARE, "min_size": PATCH},
        config={"vq_config": {"base_channels": 32, "channel_multiplier": [1, 1], "latent_channels": 32}},
    ),
    **MORE_KINDS,
}

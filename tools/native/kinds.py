"""What cannot be guessed about the folder of a family: its tokens, the form of its conversations, its processor's settings.

Tokens and forms are those of the public folders, read in transformers' processors and their documentation; sizes are tiny.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tools.native.sizes import PATCH, TILE

SQUARE = {"height": TILE, "width": TILE}
CROPPED = {"size": {"shortest_edge": TILE}, "crop_size": SQUARE}
BLOCKS = {
    "size": {"shortest_edge": 16 * 16, "longest_edge": 64 * 64},
    "patch_size": PATCH,
    "merge_size": 2,
}
TILES = {"size": SQUARE, "crop_to_patches": True, "max_patches": 4}
PINPOINTS = [[TILE, 2 * TILE], [2 * TILE, TILE], [2 * TILE, 2 * TILE], [3 * TILE, TILE], [TILE, 3 * TILE]]


@dataclass(frozen=True, slots=True)
class Form:
    """How a conversation is written around its texts."""

    asked: str
    asked_end: str
    answered: str
    answered_end: str
    start: str = ""

    def template(self, image: str) -> str:
        parts = (
            "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
            "{% if p['type'] == 'image' %}IMAGE{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}"
            "{% endfor %}{% endif %}"
        ).replace("IMAGE", image)
        asked = f"{self.asked}{parts}{self.asked_end}"
        answered = f"{self.answered}{parts}{self.answered_end}"
        return (
            f"{self.start}{{% for m in messages %}}"
            f"{{% if m['role'] == 'assistant' %}}{answered}{{% else %}}{asked}{{% endif %}}{{% endfor %}}"
            f"{{% if add_generation_prompt %}}{self.answered}{{% endif %}}"
        )


CHATML = Form("<|im_start|>user\n", "<|im_end|>\n", "<|im_start|>assistant\n", "<|im_end|>\n")
GEMMA = Form("<start_of_turn>user\n", "<end_of_turn>\n", "<start_of_turn>model\n", "<end_of_turn>\n", "{{ bos_token }}")
VICUNA = Form("USER: ", " ", "ASSISTANT: ", "</s>")
LLAMA = Form(
    "<|start_header_id|>user<|end_header_id|>\n\n",
    "<|eot_id|>",
    "<|start_header_id|>assistant<|end_header_id|>\n\n",
    "<|eot_id|>",
    "{{ bos_token }}",
)
MISTRAL = Form("[INST]", "[/INST]", "", "</s>", "{{ bos_token }}")
GLM = Form("<|user|>\n", "", "<|assistant|>\n", "", "[gMASK]<sop>")
PLAIN = Form("User: ", "\n\n", "Assistant: ", "</s>", "{{ bos_token }}")
COHERE = Form(
    "<|START_OF_TURN_TOKEN|><|USER_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "{{ bos_token }}",
)
GRANITE = Form(
    "<|start_of_role|>user<|end_of_role|>",
    "<|end_of_text|>\n",
    "<|start_of_role|>assistant<|end_of_role|>",
    "<|end_of_text|>\n",
)
IDEFICS = Form("User:", "<end_of_utterance>\n", "Assistant:", "<end_of_utterance>\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """The folder of a family.

    Attributes:
        tokens: special tokens by the names under which its tokenizer has them.
        form: of its conversations; None: it has no chat template.
        image: what its template writes for an image; default: its `image_token`.
        processor: settings of processor_config.json.
        pixels: settings of preprocessor_config.json.
        config: settings of config.json that follow from the others.
        ids: settings of config.json that are the ids of tokens.
        more: further tokens.
        processor_class, image_class: where transformers has none listed for the type.
        parts: further tokenizers, by the folder in the folder.
    """

    tokens: Mapping[str, str] = field(default_factory=dict)
    form: Form | None = CHATML
    image: str | None = None
    processor: Mapping[str, Any] = field(default_factory=dict)
    pixels: Mapping[str, Any] = field(default_factory=dict)
    config: Mapping[str, Any] = field(default_factory=dict)
    ids: Mapping[str, Any] = field(default_factory=dict)
    more: Sequence[str] = ()
    processor_class: str | None = None
    image_class: str | None = None
    parts: Sequence[str] = ()


IMAGE = {"image_token": "<image>"}
QWEN = {
    "image_token": "<|image_pad|>",
    "video_token": "<|video_pad|>",
    "vision_start_token": "<|vision_start|>",
    "vision_end_token": "<|vision_end|>",
}
QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
BOXES = ["<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>"]
GLM_TOKENS = {
    "image_token": "<|image|>",
    "video_token": "<|video|>",
    "image_start_token": "<|begin_of_image|>",
    "image_end_token": "<|end_of_image|>",
    "video_start_token": "<|begin_of_video|>",
    "video_end_token": "<|end_of_video|>",
}
GEMMA_TOKENS = {
    "boi_token": "<start_of_image>",
    "eoi_token": "<end_of_image>",
    "image_token": "<image_soft_token>",
}
GEMMA_4 = {
    **{"boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>", "video_token": "<|video|>"},
    **{"boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>"},
}
SPLIT_ROWS = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
IDEFICS_TOKENS = ["<fake_token_around_image>", "<end_of_utterance>"]
INTERN = {
    "start_image_token": "<img>",
    "end_image_token": "</img>",
    "context_image_token": "<IMG_CONTEXT>",
    "video_token": "<video>",
}
CPM = {
    **{"image_token": "<|image_pad|>", "video_token": "<|video_pad|>"},
    **{"image_start_token": "<image>", "image_end_token": "</image>"},
    **{"slice_start_token": "<slice>", "slice_end_token": "</slice>"},
    **{"image_id_start_token": "<image_id>", "image_id_end_token": "</image_id>"},
}
OMNI = {
    **{"image_token": "<|IMAGE|>", "audio_token": "<|AUDIO|>", "video_token": "<|VIDEO|>"},
    **{"vision_bos_token": "<|vision_bos|>", "vision_eos_token": "<|vision_eos|>"},
    **{"audio_bos_token": "<|audio_bos|>", "audio_eos_token": "<|audio_eos|>"},
}
LLAVA = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
PIXTRAL = {
    "image_token": "[IMG]",
    "image_break_token": "[IMG_BREAK]",
    "image_end_token": "[IMG_END]",
}

ROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [4, 2, 2]}
HALF_ROPE = {**ROPE, "mrope_section": [2, 1, 1], "partial_rotary_factor": 0.5}
ROPED = {"text_config": {"rope_parameters": ROPE}}
LOCATIONS = [f"<loc_{number}>" for number in range(1000)]
VISUAL = 16
CODES = [f"{'ABCDEFGHIJ'[number // 10]}{'ABCDEFGHIJ'[number % 10]}" for number in range(VISUAL)]
"""Entries of a code book of images."""


def _qwen(**given: Any) -> Kind:
    return Kind(**{"tokens": QWEN, "image": QWEN_IMAGE, "pixels": BLOCKS, "more": BOXES, **given})


def _glm(**given: Any) -> Kind:
    return Kind(
        **{
            "tokens": GLM_TOKENS,
            "form": GLM,
            "image": "<|begin_of_image|><|image|><|end_of_image|>",
            "pixels": {**BLOCKS, "size": {"shortest_edge": 16 * 16, "longest_edge": 2 * 64 * 64}},
            "more": ["<|begin_of_box|>", "<|end_of_box|>"],
            "config": {"text_config": {"rope_parameters": HALF_ROPE}},
            "processor_class": "Glm46VProcessor",
            "image_class": "Glm46VImageProcessor",
            **given,
        }
    )


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
    "cosmos3_edge": _qwen(),
    "cosmos3_omni": _qwen(processor_class="Qwen3VLProcessor"),
    "deepseek_ocr2": Kind(
        tokens=IMAGE,
        form=PLAIN,
        processor={"patch_size": PATCH, "downsample_ratio": 4},
        pixels={"size": {"height": 64, "width": 64}, "tile_size": 32, "max_patches": 4},
        config={
            "text_config": {"mlp_layer_types": ["dense", "sparse"], "num_experts_per_tok": 2},
            "vision_config": {"sam_config": {"downsample_channels": [32, 32], "output_channels": 32, "image_size": 64}},
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
    "dots3_note": _qwen(
        tokens={"image_token": "<|imgpad|>", "video_token": "<|video_pad|>", "audio_token": "<|audio_comp_pad|>"},
        image="<|imgpad|>",
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
        form=PLAIN,
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
    "exaone4_5": _qwen(),
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
        config={"vision_config": {"model_type": "gemma4_unified_vision", "mm_embed_dim": 32, "output_proj_dims": 32}},
    ),
    "git": Kind(form=None, pixels=CROPPED),
    "glm46v": _glm(processor_class=None, image_class=None),
    "glm4v": _glm(processor_class=None, image_class=None),
    "glm4v_moe": _glm(processor_class=None, image_class="Glm4vImageProcessor"),
    "glm5_next": _glm(
        processor_class=None,
        image_class=None,
        pixels={"patch_size": PATCH, "merge_size": 2, "min_image_tokens": 4, "max_image_tokens": 64},
    ),
    "glm_ocr": _glm(),
    "glmga": _glm(image_class=None),
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
            **{"spatial_target_layers": [0, 1, 0, 1]},
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
    "hyperclovax_vision_v2": _qwen(),
    "idefics": Kind(
        tokens=IMAGE,
        form=IDEFICS,
        image="<fake_token_around_image><image><fake_token_around_image>",
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
    "kimi_k25": Kind(
        tokens={
            **{"image_token": "<|media_pad|>", "video_token": "<|kimi_k25_video_placeholder|>"},
            **{"vision_start_token": "<|media_begin|>", "vision_end_token": "<|media_end|>"},
        },
        image="<|media_begin|><|media_pad|><|media_end|>",
        pixels={"patch_size": PATCH, "merge_size": 2, "max_patches": 256},
        config={"text_config": {"head_dim": 8}},
    ),
    "kosmos-2": Kind(
        form=None,
        processor_class="Kosmos2Processor",
        processor={"num_patch_index_tokens": 1024},
        pixels={"size": SQUARE, "crop_size": SQUARE},
        more=[
            *("</doc>", "<image>", "</image>", "</chunk>", "</line>", "<phrase>", "</phrase>", "<object>", "</object>"),
            *("</delimiter_of_multi_objects/>", "<grounding>", *(f"<patch_index_{n:04d}>" for n in range(1024))),
        ],
    ),
    "kosmos-2.5": Kind(
        form=None,
        tokens={"image_token": "<s>", "boi_token": "<image>", "eoi_token": "</image>"},
        processor_class="Kosmos2_5Processor",
        pixels={"patch_size": {"height": PATCH, "width": PATCH}, "max_patches": 64},
        config={"vision_config": {"patch_embed_hidden_size": 48}},
    ),
    "lfm2_vl": Kind(
        tokens={
            **{"image_token": "<image>", "image_start_token": "<|image_start|>"},
            **{"image_end_token": "<|image_end|>", "image_thumbnail_token": "<|img_thumbnail|>"},
        },
        more=[f"<|img_row_{row}_col_{column}|>" for row in range(1, 11) for column in range(1, 11)],
        pixels={
            **{"tile_size": TILE, "encoder_patch_size": PATCH, "min_image_tokens": 4, "max_image_tokens": 16},
            **{"max_tiles": 4, "size": SQUARE, "max_num_patches": 64},
        },
        config={"vision_config": {"vision_use_head": False}},
    ),
    "lfm3_vl": _qwen(),
    "lighton_ocr": Kind(
        tokens={
            **{"image_token": "<|image_pad|>", "image_break_token": "<|vision_pad|>"},
            "image_end_token": "<|vision_end|>",
        },
        processor={"patch_size": PATCH, "spatial_merge_size": 2},
        pixels={"size": {"longest_edge": 48}, "patch_size": {"height": PATCH, "width": PATCH}},
        config={"vision_config": {"image_size": 64}},
    ),
    "llama4": Kind(
        form=LLAMA,
        image="<|image|>",
        tokens={"boi_token": "<|image_start|>", "eoi_token": "<|image_end|>"},
        more=["<|image|>", "<|patch|>", "<|tile_x_separator|>", "<|tile_y_separator|>"],
        ids={"image_token_index": "<|patch|>"},
        processor={"patch_size": PATCH},
        pixels={"size": SQUARE, "max_patches": 4},
        config={"vision_config": {"vision_output_dim": 32, "intermediate_size": 128}},
    ),
    "llava": Kind(tokens=IMAGE, form=VICUNA, image="<image>\n", processor=LLAVA, pixels=CROPPED),
    "llava_next": Kind(
        tokens=IMAGE,
        form=MISTRAL,
        image="<image>\n",
        processor=LLAVA,
        pixels={**CROPPED, "image_grid_pinpoints": PINPOINTS},
        config={"image_grid_pinpoints": PINPOINTS},
    ),
    "llava_next_video": Kind(
        tokens={"image_token": "<image>", "video_token": "<video>"},
        form=VICUNA,
        image="<image>\n",
        processor=LLAVA,
        pixels={**CROPPED, "image_grid_pinpoints": PINPOINTS},
        config={"image_grid_pinpoints": PINPOINTS},
    ),
    "llava_onevision": Kind(
        tokens={"image_token": "<image>", "video_token": "<video>"},
        image="<image>\n",
        processor={"num_image_tokens": 64, "vision_feature_select_strategy": "full"},
        pixels={"size": SQUARE, "image_grid_pinpoints": PINPOINTS},
        config={"image_grid_pinpoints": PINPOINTS, "vision_config": {"vision_use_head": False}},
    ),
    "minicpm_ocr": Kind(tokens=CPM, pixels={"scale_resolution": TILE, "patch_size": PATCH, "max_slice_nums": 4}),
    "minicpmv4_6": Kind(tokens=CPM, pixels={"scale_resolution": TILE, "patch_size": PATCH, "max_slice_nums": 4}),
    "minicpmv4_7": Kind(tokens=CPM, pixels={"scale_resolution": TILE, "patch_size": PATCH, "max_slice_nums": 4}),
    "minimax_m3_vl": Kind(
        tokens={"image_token": "]<]image[>[", "video_token": "]<]video[>["},
        more=["]<]start of image[>[", "]<]end of image[>["],
        pixels=BLOCKS,
    ),
    "mistral3": Kind(
        tokens=PIXTRAL,
        form=MISTRAL,
        processor={"patch_size": PATCH, "spatial_merge_size": 2},
        pixels={"size": {"longest_edge": 48}, "patch_size": {"height": PATCH, "width": PATCH}},
        config={"vision_config": {"image_size": 64}},
    ),
    "mistral4": Kind(form=MISTRAL, image=""),
    "mistral_large4": Kind(
        tokens=PIXTRAL,
        form=MISTRAL,
        processor={"patch_size": PATCH, "spatial_merge_size": 2},
        pixels={"size": {"longest_edge": 48}, "patch_size": {"height": PATCH, "width": PATCH}},
        config={"vision_config": {"image_size": 64}},
    ),
    "mllama": Kind(
        tokens={"image_token": "<|image|>"},
        form=LLAMA,
        more=["<|python_tag|>"],
        pixels={"size": SQUARE, "max_image_tiles": 4},
        config={"vision_config": {"vision_output_dim": 64}},
    ),
    "molmo2": Kind(
        tokens={
            **{"image_token": "<|image|>", "video_token": "<|video|>"},
            **{"image_start_token": "<im_start>", "low_res_image_start_token": "<low_res_im_start>"},
            **{"image_end_token": "<im_end>", "frame_start_token": "<frame_start>", "frame_end_token": "<frame_end>"},
        },
        more=["<im_patch>", "<im_col>", "<im_low>"],
        ids={"image_patch_id": "<im_patch>"},
        pixels={"size": SQUARE, "max_crops": 4, "overlap_margins": [2, 2], "patch_size": PATCH},
        config={"adapter_config": {"vision_feature_layer": [1, 0]}},
    ),
    "muse_glimmer": Kind(
        tokens={"image_token": "<|patch|>", "video_token": "<|video|>"},
        form=LLAMA,
        more=["<|image_start|>", "<|image_end|>", "<|vid_start|>", "<|vid_end|>", "<|vid_frame_separator|>"],
        pixels={"patch_size": PATCH, "merge_size": 2, "max_image_tokens": 64},
        config={"out_hidden_size": 128},
    ),
    "muse_spark": Kind(
        tokens={"image_token": "<|patch|>", "video_token": "<|video|>", "audio_token": "<|audio|>"},
        form=LLAMA,
        more=["<|image_start|>", "<|image_end|>", "<|vid_start|>", "<|vid_end|>", "<|vid_frame_separator|>"],
        pixels={"patch_size": PATCH, "merge_size": 2, "max_image_tokens": 64},
        config={"out_hidden_size": 128},
    ),
    "nemotron_h_omni": Kind(
        tokens={"image_token": "<image>", "video_token": "<video>", "audio_token": "<so_embedding>"},
        more=["<img>", "</img>", "<so_start>", "<so_end>"],
        pixels={"patch_size": PATCH, "min_num_patches": 16, "max_num_patches": 64},
        config={"text_config": {"n_groups": 1, "ssm_state_size": 16}},
    ),
    "ovis2": Kind(
        tokens={"image_token": "<image>"},
        more=["<IMG_ATOM>", "<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"],
        ids={
            "image_token_id": "<IMG_ATOM>",
            "visual_indicator_token_ids": ["<IMG_START>", "<IMG_GRID>", "<IMG_COL>", "<IMG_ROW>", "<IMG_END>"],
        },
        image="<image>\n",
        processor={"image_seq_length": 16},
        pixels=TILES,
        config={"vision_config": {"vocab_size": 64, "hidden_stride": 2}},
    ),
    "paddleocr_vl": Kind(
        tokens={
            **{"image_token": "<|IMAGE_PLACEHOLDER|>", "video_token": "<|VIDEO_PLACEHOLDER|>"},
            **{"vision_start_token": "<|IMAGE_START|>", "vision_end_token": "<|IMAGE_END|>"},
        },
        form=PLAIN,
        image="<|IMAGE_START|><|IMAGE_PLACEHOLDER|><|IMAGE_END|>",
        pixels=BLOCKS,
        config=ROPED,
    ),
    "paligemma": Kind(
        tokens=IMAGE,
        form=None,
        more=[*(f"<loc{n:04d}>" for n in range(1024)), *(f"<seg{n:03d}>" for n in range(128))],
        pixels={"size": SQUARE, "image_seq_length": 64},
        config={"vision_config": {"vision_use_head": False}},
    ),
    "perception_lm": Kind(
        tokens={"image_token": "<|image|>", "video_token": "<|video|>"},
        form=LLAMA,
        processor={"patch_size": PATCH, "pooling_ratio": 2},
        pixels={"size": SQUARE, "tile_size": TILE, "max_num_tiles": 4},
    ),
    "pi0": Kind(form=None, pixels={"size": {"max_height": TILE, "max_width": TILE}, "image_seq_length": 64}),
    "pix2struct": Kind(
        form=None,
        pixels={"patch_size": {"height": PATCH, "width": PATCH}, "max_patches": 64},
        config={"vision_config": {"patch_embed_hidden_size": 48}},
    ),
    "pp_chart2table": Kind(
        tokens={"image_token": "<imgpad>"},
        image="<img>" + "<imgpad>" * 256 + "</img>\n",
        more=["<img>", "</img>"],
        pixels={"size": {"height": 256, "width": 256}},
        config={"vision_config": {"image_size": 256, "output_channels": 32}},
    ),
    "pp_formulanet": Kind(form=None, pixels={"size": SQUARE}),
    "qianfan_ocr": Kind(
        tokens=INTERN,
        image="<image>\n",
        more=["<image>"],
        processor={"image_seq_length": 16},
        pixels=TILES,
        ids={"image_token_id": "<IMG_CONTEXT>"},
    ),
    "qwen2_5_omni_thinker": Kind(
        tokens=OMNI,
        image="<|vision_bos|><|IMAGE|><|vision_eos|>",
        ids={"vision_start_token_id": "<|vision_bos|>", "vision_end_token_id": "<|vision_eos|>"},
        config=ROPED,
        pixels=BLOCKS,
        processor_class="Qwen2_5OmniProcessor",
        image_class="Qwen2VLImageProcessor",
    ),
    "qwen2_5_vl": _qwen(config=ROPED),
    "qwen2_vl": _qwen(config=ROPED),
    "qwen3_5": _qwen(),
    "qwen3_5_moe": _qwen(),
    "qwen3_omni_moe_thinker": Kind(
        tokens=OMNI,
        image="<|vision_bos|><|IMAGE|><|vision_eos|>",
        ids={"vision_start_token_id": "<|vision_bos|>", "vision_end_token_id": "<|vision_eos|>"},
        config=ROPED,
        pixels=BLOCKS,
        processor_class="Qwen3OmniMoeProcessor",
        image_class="Qwen2VLImageProcessor",
    ),
    "qwen3_vl": _qwen(),
    "qwen3_vl_moe": _qwen(image_class="Qwen2VLImageProcessor"),
    "qwen4_exp": _qwen(
        config={
            "text_config": {
                **{"indexer_n_heads": 2, "indexer_kv_heads": 1, "indexer_head_dim": 16},
                **{"indexer_budget": 64, "indexer_compress_ratio": 4},
            }
        }
    ),
    "shieldgemma2": Kind(
        tokens=GEMMA_TOKENS,
        form=GEMMA,
        image="<start_of_image>",
        processor={"image_seq_length": 16},
        pixels={"size": SQUARE},
        config={"mm_tokens_per_image": 16, "vision_config": {"vision_use_head": False}},
    ),
    "smolvlm": Kind(
        tokens=IMAGE,
        form=Form("<|im_start|>User:", "<end_of_utterance>\n", "Assistant:", "<end_of_utterance>\n"),
        more=[*IDEFICS_TOKENS, "<global-img>", "<|im_start|>", *SPLIT_ROWS],
        processor={"image_seq_len": 16},
        pixels={"size": {"longest_edge": 2 * TILE}, "max_image_size": {"longest_edge": TILE}},
    ),
    "step3p7": Kind(
        tokens={"image_token": "<im_patch>"},
        more=["<im_start>", "<im_end>", "<patch_start>", "<patch_end>", "<patch_newline>"],
        pixels={"size": SQUARE, "patch_size": 16, "vision_patch_size": PATCH, "max_image_size": 128},
        config={"text_config": {"sliding_window": 16}},
    ),
    "t5gemma2": Kind(
        tokens=GEMMA_TOKENS,
        form=None,
        image="<start_of_image>",
        processor={"image_seq_length": 16},
        pixels={"size": SQUARE},
        config={"encoder": {"mm_tokens_per_image": 16, "vision_config": {"vision_use_head": False}}},
    ),
    "udop": Kind(form=None, pixels={"size": SQUARE, "apply_ocr": False}),
    "unlimited_ocr": Kind(
        tokens=IMAGE,
        form=PLAIN,
        processor={"patch_size": PATCH, "downsample_ratio": 4},
        pixels={"size": {"height": 64, "width": 64}, "tile_size": 32, "max_patches": 4},
        config={
            "vision_config": {"sam_config": {"downsample_channels": [32, 32], "output_channels": 32, "image_size": 64}},
        },
    ),
    "video_llama_3": _qwen(pixels={**BLOCKS, "merge_size": 1}),
    "video_llava": Kind(
        tokens={"image_token": "<image>", "video_token": "<video>"},
        form=VICUNA,
        image="<image>\n",
        processor=LLAVA,
        pixels=CROPPED,
    ),
    "vipllava": Kind(
        tokens=IMAGE,
        form=VICUNA,
        image="<image>\n",
        processor={**LLAVA},
        pixels=CROPPED,
        config={"vision_feature_layers": [-2, -1]},
    ),
    "vision-encoder-decoder": Kind(form=None),
}

"""What the folders of several families have in common: forms of conversations, tokens, settings of image processors.

Tokens and forms are those of the public folders, read in transformers' processors and their documentation; sizes are
tiny.
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


def qwen(**given: Any) -> Kind:
    return Kind(**{"tokens": QWEN, "image": QWEN_IMAGE, "pixels": BLOCKS, "more": BOXES, **given})


def glm(**given: Any) -> Kind:
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

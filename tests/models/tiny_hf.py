"""Tiny random checkpoints of transformers' vision language models, as their makers lay them out: weights, a tokenizer
with the family's own tokens, its chat template and its image processor."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import (
    AddedToken,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoTokenizer,
    CLIPImageProcessorPil,
    GotOcr2ImageProcessorPil,
    PreTrainedTokenizerFast,
    Qwen2VLImageProcessorPil,
    SiglipImageProcessorPil,
    SmolVLMImageProcessorPil,
)

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.models.prompt_format import usual_prompt_format
from mllm.records import read_item
from mllm.registry import CODECS, MODELS
from mllm.registry import TEMPLATES as FORMATS
from mllm.types import Item
from tests.conftest import CORPUS

LIMITS = {"shortest_edge": 16 * 16, "longest_edge": 48 * 48}
"""Pixels of a Qwen-VL image; at least a patch of 16 or so each way."""
TILE = 16
QUESTION, ANSWER = "Where is the red circle?", "Answer: <boxes> ."

# What the public templates (Qwen/Qwen2.5-VL-7B-Instruct, OpenGVLab/InternVL3-1B-hf, HuggingFaceTB/SmolVLM-Instruct)
# write of images and texts
_CHATML = (
    "{% for message in messages %}FIRST<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}IMAGE{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
)
_QWEN_IMAGE = "<|vision_start|><|image_pad|><|vision_end|>"
QWEN2 = _CHATML.replace("FIRST", _SYSTEM).replace("IMAGE", _QWEN_IMAGE)
QWEN3 = _CHATML.replace("FIRST", "").replace("IMAGE", _QWEN_IMAGE)
INTERNVL = _CHATML.replace("FIRST", "").replace("IMAGE", "<IMG_CONTEXT>\n")
SMOLVLM = (
    "<|im_start|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)

_QWEN = [
    *("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"),
    *("<|object_ref_start|>", "<|object_ref_end|>", "<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"),
]
_TILES = [f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7)]
_KOSMOS = ["</doc>", "<image>", "</image>", "</chunk>", "</line>", "<phrase>", "</phrase>", "<object>", "</object>"]
_KOSMOS += ["</delimiter_of_multi_objects/>", "<grounding>", *(f"<patch_index_{n:04d}>" for n in range(1024))]
TOKENS: dict[str, Sequence[str]] = {
    "qwen2_vl": _QWEN,
    "qwen2_5_vl": _QWEN,
    "qwen3_vl": _QWEN,
    "internvl": [
        *("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"),
        *("<ref>", "</ref>", "<box>", "</box>"),
    ],
    "smolvlm": ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>", *_TILES],
    "idefics3": ["<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>", *_TILES],
    "paligemma": [*(f"<loc{n:04d}>" for n in range(1024)), *(f"<seg{n:03d}>" for n in range(128)), "<image>"],
    "kosmos-2": _KOSMOS,
}
TEMPLATES = {
    "qwen2_vl": QWEN2,
    "qwen2_5_vl": QWEN2,
    "qwen3_vl": QWEN3,
    "internvl": INTERNVL,
    "smolvlm": SMOLVLM,
    "idefics3": SMOLVLM,
}
FAMILIES = tuple(TOKENS)
INTERNVL_NAMES = {
    **{"start_image_token": "<img>", "end_image_token": "</img>"},
    **{"context_image_token": "<IMG_CONTEXT>", "video_token": "<video>"},
}
"""What its folders' tokenizers call their tokens."""

_TEXT = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 1024,
    "initializer_range": 0.2,
    "use_cache": True,
}
_QWEN_VISION = {"depth": 2, "num_heads": 2, "patch_size": 4, "spatial_merge_size": 2, "initializer_range": 0.2}
_SIGLIP = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": TILE,
    "patch_size": 4,
    "initializer_range": 0.2,
}


def make_tokenizer(family: str) -> PreTrainedTokenizerFast:
    tokenizer = train_tokenizer(CORPUS, vocab_size=400)
    if family == "kosmos-2":  # as its processor adds them
        tokenizer.add_tokens([AddedToken(token, lstrip=True, normalized=False) for token in TOKENS[family]])
    else:
        tokenizer.add_special_tokens({"additional_special_tokens": list(TOKENS[family])})
    if family in TEMPLATES:
        tokenizer.chat_template = TEMPLATES[family]
    return tokenizer


def make_config(family: str, tokenizer: PreTrainedTokenizerFast, *, tied: bool | None = None, **more: Any) -> Any:
    """`tied`: whether the head is tied to the embeddings; `more`: settings of the language model that differ."""
    number = tokenizer.convert_tokens_to_ids
    ends = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id}
    ends["pad_token_id"] = tokenizer.pad_token_id
    text: dict[str, Any] = {**_TEXT, **ends, "vocab_size": len(tokenizer)}
    rest: dict[str, Any] = {}
    if family in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl"):
        rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [2, 1, 1]}
        text |= {"rope_parameters": rope, "head_dim": 8} if family == "qwen3_vl" else {"rope_parameters": rope}
        vision: dict[str, Any] = {
            "qwen2_vl": {"embed_dim": 16, "hidden_size": 16, "mlp_ratio": 2},
            "qwen2_5_vl": {
                **{"hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 24},
                **{"window_size": 16, "fullatt_block_indexes": [1]},
            },
            "qwen3_vl": {
                **{"hidden_size": 16, "out_hidden_size": 16, "intermediate_size": 24},
                **{"num_position_embeddings": 16, "deepstack_visual_indexes": [0]},
            },
        }[family]
        vision |= _QWEN_VISION
        names = {"image": "<|image_pad|>", "video": "<|video_pad|>"}
        names |= {"vision_start": "<|vision_start|>", "vision_end": "<|vision_end|>"}
        rest = {f"{name}_token_id": number(token) for name, token in names.items()}
    elif family == "internvl":
        text |= {"model_type": "qwen2"}
        vision = {**_SIGLIP, "image_size": [TILE, TILE], "patch_size": [4, 4]}
        rest = {"image_token_id": number("<IMG_CONTEXT>"), "image_seq_length": 4}
    elif family in ("smolvlm", "idefics3"):
        text |= {"model_type": "llama"}
        vision = _SIGLIP
        rest = {"image_token_id": number("<image>"), "scale_factor": 2, "pad_token_id": tokenizer.pad_token_id}
    elif family == "paligemma":
        text |= {"model_type": "gemma", "head_dim": 8}
        vision = {**_SIGLIP, "model_type": "siglip_vision_model", "vision_use_head": False}
        rest = {"image_token_id": number("<image>"), "projection_dim": 16, "hidden_size": 16}
    else:
        text = {
            **{"vocab_size": len(tokenizer), "embed_dim": 16, "ffn_dim": 24, "layers": 2, "attention_heads": 2},
            **{"max_position_embeddings": 1024, "dropout": 0.0, "attention_dropout": 0.0, "init_std": 0.2, **ends},
        }
        vision = {**_SIGLIP}
        rest = {"latent_query_num": 4}
    if tied is not None:
        text["tie_word_embeddings"] = rest["tie_word_embeddings"] = tied
    text |= more
    return AutoConfig.for_model(family, text_config=text, vision_config=vision, **rest)


def make_image_processor(family: str, scale: int = 1) -> Any:
    """`scale` times as many pixels a side as the tiny model takes."""
    side = scale * TILE
    square = {"height": side, "width": side}
    if family.startswith("qwen"):
        limits = {name: pixels * scale**2 for name, pixels in LIMITS.items()}
        return Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size=limits)
    if family == "internvl":
        return GotOcr2ImageProcessorPil(size=square, max_patches=4)
    if family in ("smolvlm", "idefics3"):
        tiles = {"size": {"longest_edge": 2 * side}, "max_image_size": {"longest_edge": side}}
        return SmolVLMImageProcessorPil(**tiles)
    if family == "paligemma":
        processor = SiglipImageProcessorPil(size=square)
        processor.image_seq_length = (side // 4) ** 2
        return processor
    return CLIPImageProcessorPil(size=square, crop_size=square, do_center_crop=True)


def save_tiny(family: str, folder: Path, seed: int = 0, *, tied: bool | None = None, **text: Any) -> Path:
    """A folder as it would be downloaded."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(family)
    model = AutoModelForImageTextToText.from_config(make_config(family, tokenizer, tied=tied, **text))
    with torch.no_grad():  # zeros and ones would hide a norm or a bias that is left out
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    save_processor(family, tokenizer, folder)
    return folder


def save_processor(family: str, tokenizer: Any, folder: Path) -> None:
    """All of a folder that is no weight and no config."""
    tokenizer.save_pretrained(folder)
    if family == "internvl":
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "model_specific_special_tokens": INTERNVL_NAMES}))
        (folder / "processor_config.json").write_text('{"processor_class": "InternVLProcessor", "image_seq_length": 4}')
    make_image_processor(family).save_pretrained(folder)
    path = folder / "preprocessor_config.json"
    assert json.loads(path.read_text())["image_processor_type"]


def build(folder: str, **arguments: Any) -> tuple[Any, Processor]:
    args = {"type": "hf", "model_name_or_path": folder, **arguments}
    prompt_format = usual_prompt_format(args)
    tokenizer = cast("Any", AutoTokenizer.from_pretrained(folder))
    model = MODELS.make(args, tokenizer=tokenizer)
    return model, Processor(
        tokenizer=tokenizer,
        template=FORMATS.make(prompt_format.template),
        codec=CODECS.make(prompt_format.codec),
        view=model.image_preprocessor(),
    )


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ask(*sizes: tuple[int, int], key: str = "a", question: str = QUESTION, seed: int = 0) -> Item:
    """An item with an image of each size, and the box of its second quarter in the last one."""
    images = [photo(size, seed + number) for number, size in enumerate(sizes)]
    turns: list[dict[str, Any]] = [
        {"from": "human", "value": "<image>" * len(sizes) + ("\n" if sizes else "") + question}
    ]
    if not sizes:
        turns.append({"from": "gpt", "value": "A dog."})
        return read_item({"conversations": turns}, key=key)
    width, height = sizes[-1]
    box = [width / 4, height / 4, width / 2, height / 2]
    turns[0]["image"] = len(sizes) - 1
    turns.append({"from": "gpt", "value": ANSWER, "boxes_seq": [[0]]})
    target = {"boxes": [box], "boxes_image": [len(sizes) - 1]} if len(sizes) > 1 else {"boxes": [box]}
    source = {"images": images} if len(sizes) > 1 else {"image": images[0]}
    return read_item({**source, "target": target, "conversations": turns}, key=key)


def batch_of(processor: Processor, items: list[Item], *, answer: bool = True) -> dict[str, Tensor]:
    examples = [processor.encode(item, number, answer=answer) for number, item in enumerate(items)]
    batch = cast("dict[str, Tensor]", Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id))(examples))
    return {name: tensor for name, tensor in batch.items() if name not in ("index", "label_sources")}


_BUILT: dict[str, tuple[Any, Processor]] = {}


def cached(folder: str) -> tuple[Any, Processor]:
    """Built once, for tests that change nothing."""
    if folder not in _BUILT:
        _BUILT[folder] = build(folder)
    return _BUILT[folder]

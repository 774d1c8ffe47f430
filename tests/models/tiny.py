"""Tiny random models of every family, their tokenizer and a batch for them."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.models.llava.model import Llava
from mllm.registry import MODELS

SIDE, PATCH, WORDS = 8, 4, 40
PATCHES = (SIDE // PATCH) ** 2
PINPOINTS = [[8, 16], [16, 8], [16, 16], [24, 8]]
IMAGES = [(20, 9), (7, 12)]
"""(width, height) of the images of a batch, in turn."""

SIZES = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 4}
_VISION = {**SIZES, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": PATCH}
_DINO = {**_VISION, "mlp_ratio": 2}
del _DINO["intermediate_size"]
_TEXT = {**SIZES, "num_hidden_layers": 2, "max_position_embeddings": 64, "initializer_range": 0.2}
_OPT = {**_TEXT, "ffn_dim": 24, "init_std": 0.2, "dropout": 0.0}
del _OPT["intermediate_size"], _OPT["initializer_range"]
_STAGES = {"hidden_sizes": [16, 24], "depths": [1, 1]}
_WINDOWS = {"depths": [1, 1], "num_heads": [2, 2], "window_size": 2}
_SIGLIP2 = {name: value for name, value in _VISION.items() if name != "image_size"}
_STATISTICS = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
ASKED: dict[str, dict[str, Any]] = {
    "convnext": _STATISTICS,
    "resnet": {"image_size": SIDE, **_STATISTICS},
    "swin": _STATISTICS,
}
"""What has to be said beside such a vision tower."""
VISION: dict[str, dict[str, Any]] = {
    "clip": {"model_type": "clip_vision_model", **_VISION},
    "siglip": {"model_type": "siglip_vision_model", **_VISION},
    "dinov2": {"model_type": "dinov2", **_DINO},
    "dinov2_with_registers": {"model_type": "dinov2_with_registers", "num_register_tokens": 4, **_DINO},
    # whose last hidden state but one is a map of 2 x 2 places, 16 wide
    "convnext": {"model_type": "convnext", "image_size": SIDE, "num_stages": 2, "patch_size": 4, **_STAGES},
    "resnet": {"model_type": "resnet", "embedding_size": 8, "layer_type": "basic", **_STAGES},
    "swin": {"model_type": "swin", "image_size": SIDE, "patch_size": 2, "embed_dim": 8, **_WINDOWS},
    "siglip2": {"model_type": "siglip2_vision_model", "num_patches": (SIDE // PATCH) ** 2, **_SIGLIP2},
}
_LINEAR = {
    **{"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 4, "linear_value_head_dim": 4},
    **{"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 8, "shared_expert_intermediate_size": 8},
    "layer_types": ["linear_attention", "full_attention"],
}
_STATES = {"hidden_size": 16, "num_hidden_layers": 2, "chunk_size": 8, "initializer_range": 0.2}
TEXT: dict[str, dict[str, Any]] = {
    "llama": {"model_type": "llama", "num_key_value_heads": 2, **_TEXT},
    "qwen2": {"model_type": "qwen2", "num_key_value_heads": 2, "tie_word_embeddings": True, **_TEXT},
    "gpt_neox": {"model_type": "gpt_neox", **_TEXT},
    "gemma2": {"model_type": "gemma2", "num_key_value_heads": 2, "head_dim": 4, **_TEXT},
    "cohere": {"model_type": "cohere", "num_key_value_heads": 2, "logit_scale": 0.25, **_TEXT},
    "granite": {"model_type": "granite", "num_key_value_heads": 2, "logits_scaling": 4.0, **_TEXT},
    "mpt": {"model_type": "mpt", "d_model": 16, "n_heads": 4, "n_layers": 2, "max_seq_len": 64},
    "opt": {"model_type": "opt", **_OPT},
    # layers that keep a state, with and without attention between them
    "qwen3_next": {"model_type": "qwen3_next", "num_key_value_heads": 2, "head_dim": 4, **_TEXT, **_LINEAR},
    "mamba2": {"model_type": "mamba2", "num_heads": 4, "head_dim": 8, "state_size": 4, "n_groups": 1, **_STATES},
}


def make_tokenizer(extra: int = 0) -> PreTrainedTokenizerFast:
    words = ["<unk>", "<s>", "</s>", "<pad>", *(f"w{number}" for number in range(WORDS - 5 + extra)), "<image>"]
    raw = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="<unk>"))
    raw.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=raw, unk_token="<unk>", bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    return tokenizer


def make(vision: str = "clip", text: str = "llama", seed: int = 0, **arguments: Any) -> Llava:
    torch.manual_seed(seed)
    parts = {"vision_tower": dict(VISION[vision]), "language_model": dict(TEXT[text])}
    asked = {} if "vision_tower" in arguments else ASKED.get(vision, {})
    model = MODELS.make({"type": "llava", **parts, **asked, **arguments}, tokenizer=make_tokenizer())
    with torch.no_grad():  # zeros and ones would hide a norm or a bias that is left out
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def make_batch(model: Llava, images: int = 2, seed: int = 1) -> dict[str, Tensor]:
    """Two rows, right-padded: two slots in the first and one in the second, of `images` distinct images."""
    torch.manual_seed(seed)
    view = model.image_preprocessor()
    sizes = [IMAGES[number % 2] for number in range(images)]
    slots = [[model.config.image_token_id] * view.placeholder_tokens(size).count(view.token) for size in sizes]
    a, b = slots[0], slots[1 % images]
    words = torch.randint(4, WORDS - 1, (12,)).tolist()
    rows = [
        [1, *words[:2], *a, *words[2:4], *b, *words[4:8], 2],
        [1, *a, *words[8:], 2],
    ]
    length = max(map(len, rows))
    ids = torch.tensor([row + [3] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for number, (row, supervised) in enumerate(zip(rows, (4, 3), strict=True)):
        labels[number, len(row) - supervised : len(row)] = ids[number, len(row) - supervised : len(row)]
    tiles = images if isinstance(view, SquarePreprocessor) else sum(layout.tiles for layout in map(view.layout, sizes))
    batch = {
        "input_ids": ids,
        "attention_mask": mask,
        "labels": labels,
        "pixels": torch.randn(tiles, 3, *[model.vision_tower.size] * 2),
        "image_index": torch.tensor([0, 1 % images, 0]),
    }
    return batch if model.tiling is None else {**batch, "image_sizes": torch.tensor(sizes)}


def without_images(batch: dict[str, Tensor], model: Llava) -> dict[str, Tensor]:
    """The batch with words in its slots."""
    ids = batch["input_ids"].masked_fill(batch["input_ids"] == model.config.image_token_id, 5)
    return {"input_ids": ids, "attention_mask": batch["attention_mask"], "labels": batch["labels"]}


def prompts(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    """The batch as prompts, padded on the left."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    shifts = (1 - mask).sum(1).tolist()
    return {
        "input_ids": torch.stack([row.roll(shift) for row, shift in zip(ids, shifts, strict=True)]),
        "attention_mask": torch.stack([row.roll(shift) for row, shift in zip(mask, shifts, strict=True)]),
        **{name: batch[name] for name in ("pixels", "image_index", "image_sizes") if name in batch},
    }


def gradients(model: torch.nn.Module) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

"""Tiny random Flamingos around every family of language models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mllm.models.flamingo.model import Flamingo
from mllm.registry import MODELS
from tests.models.tiny import SIDE, TEXT, VISION, WORDS, make_tokenizer

PARITY = Path(__file__).parents[3] / "shared" / "parity"
"""Numbers of the reference implementations; tests against them are skipped where they are not at hand."""

LMS: dict[str, dict[str, Any]] = {
    **{name: TEXT[name] for name in ("llama", "qwen2", "gpt_neox", "gemma2", "mpt", "opt")},
    "gptj": {"model_type": "gptj", "n_embd": 16, "n_layer": 2, "n_head": 4, "rotary_dim": 4, "n_inner": 24},
    "gpt2": {"model_type": "gpt2", "n_embd": 16, "n_layer": 2, "n_head": 4},
}
for _name in ("gptj", "gpt2"):
    _no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    LMS[_name] = {**LMS[_name], **_no_dropout, "n_positions": 64, "initializer_range": 0.2}
PERCEIVER = {"depth": 1, "latents": 3, "heads": 2, "head_width": 4}
TOKENS = ("<|endofchunk|>", "<answer>")


def tokenizer() -> Any:
    """Ids: words below 39, `<image>` 39, `<|endofchunk|>` 40, `<answer>` 41."""
    made = make_tokenizer()
    made.add_tokens(list(TOKENS), special_tokens=True)
    return made


def make(text: str = "llama", seed: int = 0, kind: str = "openflamingo", **arguments: Any) -> Flamingo:
    torch.manual_seed(seed)
    given = {
        "vision_tower": dict(VISION["clip"]),
        "language_model": dict(LMS[text]),
        "cross_attn_every_n_layers": 1,
        "perceiver": PERCEIVER,
        **arguments,
    }
    model = MODELS.make({"type": kind, **given}, tokenizer=tokenizer())
    disturb(model)
    return model


def disturb(model: torch.nn.Module) -> None:
    """Open the gates; zeros and ones would hide a norm or a bias that is left out."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):
                parameter.fill_(0.8)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))


def make_batch(model: Flamingo, frames: int | None = None, seed: int = 1) -> dict[str, Tensor]:
    """Two rows, right-padded: two slots in the first and one in the second, of two distinct media."""
    torch.manual_seed(seed)
    image, end = model.config.image_token_id, 40
    words = torch.randint(4, WORDS - 1, (12,)).tolist()
    rows = [
        [1, *words[:2], image, *words[2:4], end, image, *words[4:8], end, 2],
        [1, image, *words[8:], end, 2],
    ]
    length = max(map(len, rows))
    ids = torch.tensor([row + [3] * (length - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for number, (row, supervised) in enumerate(zip(rows, (5, 4), strict=True)):
        labels[number, len(row) - supervised : len(row)] = ids[number, len(row) - supervised : len(row)]
    size = (2, 3, SIDE, SIDE) if frames is None else (2, frames, 3, SIDE, SIDE)
    return {
        "input_ids": ids,
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows]),
        "labels": labels,
        "pixels": torch.randn(size),
        "image_index": torch.tensor([0, 1, 0]),
    }


def trainable(model: torch.nn.Module) -> set[str]:
    return {name for name, parameter in model.named_parameters() if parameter.requires_grad}

"""Tiny models that read packed rows, and what their loss and gradients are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch

from mllm.pipeline.build import build_model
from mllm.registry import DATASETS
from mllm.types import Batch
from tests.pipeline.tiny import CONFIG, SCENES

SIZES = dict(
    hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, max_position_embeddings=512
)


LANGUAGE_MODELS = {
    "llama": dict(SIZES, model_type="llama", num_key_value_heads=1),
    "qwen2": dict(SIZES, model_type="qwen2", num_key_value_heads=2),
    "gpt_neox": dict(SIZES, model_type="gpt_neox"),
    "phi": dict(SIZES, model_type="phi"),
    "gemma2": dict(SIZES, model_type="gemma2", num_key_value_heads=1, head_dim=8, sliding_window=40),
    "mpt": dict(model_type="mpt", d_model=16, n_layers=2, n_heads=2, max_seq_len=512),
}


def build(*, without: Sequence[str] = (), **changes: Any) -> tuple[Any, Any, Any]:
    items = DATASETS.make(dict(SCENES, count=6, objects=[1, 4], questions_per_scene=4))
    model_args = {name: value for name, value in CONFIG["model_args"].items() if name not in without} | changes
    processor, model = build_model(model_args, {}, items)
    items.set_epoch(0)
    return items, processor, model


def loss_and_gradients(model: Any, batch: Batch) -> tuple[float, dict[str, torch.Tensor]]:
    model.zero_grad()
    inputs = {name: value for name, value in batch.items() if name not in ("index", "label_sources")}
    loss = model(**inputs).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def same(model: Any, packed: Batch, single: Batch) -> None:
    packed_loss, found = loss_and_gradients(model, packed)
    loss, expected = loss_and_gradients(model, single)
    assert packed_loss == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for parameter, gradient in expected.items():
        scale = max(gradient.abs().max().item(), 1e-3)
        assert (found[parameter] - gradient).abs().max().item() <= 1e-5 * scale, parameter

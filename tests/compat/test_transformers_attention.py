"""`sdpa_attention_forward`, `flex_attention_forward`, `sdpa_mask`."""

from __future__ import annotations

import inspect

import torch

from mllm.compat.transformers_attention import flex_attention_forward, sdpa_attention_forward, sdpa_mask


def test_sdpa_attention_forward_is_pytorchs_attention() -> None:
    query, key, value = torch.randn(3, 1, 2, 4, 8)
    module = torch.nn.Module()
    found, _ = sdpa_attention_forward(module, query, key, value, None, dropout=0.0, scaling=None, is_causal=True)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    assert torch.allclose(found, expected.transpose(1, 2), atol=1e-6)


def test_flex_attention_forward_takes_a_block_mask_scale_and_cap() -> None:
    taken = list(inspect.signature(flex_attention_forward).parameters)
    assert taken[:5] == ["module", "query", "key", "value", "attention_mask"]
    assert {"scaling", "softcap"} <= set(taken)


def test_sdpa_mask_is_a_mask_function() -> None:
    assert {"batch_size", "mask_function", "attention_mask"} <= set(inspect.signature(sdpa_mask).parameters)

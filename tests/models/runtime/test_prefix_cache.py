"""Beginnings are kept as they were read, and the oldest are forgotten."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from mllm.compat.transformers_generation import CACHE
from mllm.models.runtime.kv_cache import roomy_cache
from mllm.models.runtime.prefix_cache import Prefix, PrefixCache, PrefixRows


def prefix(length: int, seed: int = 0) -> Prefix:
    made = torch.Generator().manual_seed(seed)
    layers = [(torch.randn(2, length, 4, generator=made), torch.randn(2, length, 4, generator=made)) for _ in range(2)]
    return Prefix(layers=layers, beside={"delta": torch.tensor([seed])})


@pytest.fixture(scope="module")
def llama() -> Any:
    sizes: dict[str, Any] = dict(hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2)
    return LlamaForCausalLM(LlamaConfig(vocab_size=16, **sizes)).eval()


def test_rows_of_prefixes_are_the_prefixes_again(llama: Any) -> None:
    given = [prefix(3, 1), prefix(5, 2), prefix(1, 3)]
    rows = PrefixRows.of(llama, given)
    assert rows.cache.get_seq_length() == 5
    assert [bool((layer.keys[0, :, :2] == 0).all()) for layer in rows.cache.layers] == [True, True]
    rows.select(torch.tensor([2, 0, 1, 0]))
    rows.beside = {"delta": rows.beside["delta"][torch.tensor([2, 0, 1, 0])]}
    for row, expected in enumerate([given[2], given[0], given[1], given[0]]):
        found = rows.prefix(row, expected.layers[0][0].shape[1])
        for mine, its in zip(found.layers, expected.layers, strict=True):
            assert all(torch.equal(*pair) for pair in zip(mine, its, strict=True))
        assert torch.equal(found.beside["delta"], expected.beside["delta"])


def test_a_prefix_goes_on_as_the_whole_prompt(llama: Any) -> None:
    ids = torch.randint(0, 16, (1, 9), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        whole = llama(input_ids=ids).logits[:, 6:]
        read = llama(input_ids=ids[:, :6], use_cache=True, **roomy_cache(llama, {}))[CACHE]
        kept = PrefixRows(cache=read).prefix(0, 6)
        for _ in range(2):  # one that was used is as it was
            behind = PrefixRows.of(llama, [kept]).cache
            rest = llama(input_ids=ids[:, 6:], **{CACHE: behind}, use_cache=True).logits
            assert torch.allclose(rest, whole, atol=1e-5)
    assert kept.size == 2 * 2 * 6 * 8 * 4


def test_the_prefix_used_longest_ago_makes_room() -> None:
    cache = PrefixCache(2 * prefix(4).size)
    for name in "ab":
        cache.put(name, prefix(4))
    assert cache.get("a") is not None
    cache.put("c", prefix(4))
    assert ["a" in cache, "b" in cache, "c" in cache] == [True, False, True]
    assert cache.get("b") is None
    assert (len(cache), cache.size) == (2, cache.room)
    cache.put("a", prefix(4))
    cache.put("large", prefix(40))
    assert (len(cache), cache.size) == (2, cache.room), "what is kept already, or larger than all room, changes nothing"
    cache.put("d", prefix(5))
    assert (len(cache), cache.size) == (1, prefix(5).size)
    cache.clear()
    assert (len(cache), cache.size) == (0, 0)

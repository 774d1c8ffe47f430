"""The roomy cache holds what transformers' own holds, whatever is done to it in between."""

from typing import Any

import pytest
import torch
from transformers import DynamicCache, LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from mllm.compat.transformers_generation import CACHE
from mllm.models.runtime.kv_cache import ROOM, PreallocatedCacheLayer, roomy_cache

TINY = dict(
    vocab_size=20, hidden_size=8, intermediate_size=8, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1
)


def test_keys_and_values_are_those_of_the_usual_cache() -> None:
    torch.manual_seed(0)
    config = LlamaConfig(**TINY)
    ours = roomy_cache(LlamaForCausalLM(config), {})[CACHE]
    theirs = DynamicCache(config=config)
    assert [type(layer) for layer in ours.layers] == [PreallocatedCacheLayer] * 2

    def add(rows, tokens):
        keys, values = torch.randn(2, rows, 1, tokens, 4)
        for found, expected in zip(ours.update(keys, values, 0), theirs.update(keys, values, 0), strict=True):
            assert found.equal(expected)

    add(2, 5)
    for _ in range(ROOM + 3):  # past its room
        add(2, 1)
    for cache in (ours, theirs):
        cache.batch_select_indices(torch.tensor([1, 0, 1]))
    add(3, 2)
    for cache in (ours, theirs):
        cache.reorder_cache(torch.tensor([2, 2, 0]))
    add(3, 1)
    for cache in (ours, theirs):
        cache.crop(-4)
    add(3, 2)
    for reordered in (False, True):  # rows go, and the last takes the place of the first: in the buffer, and beside it
        for cache in (ours, theirs):
            if reordered:
                cache.reorder_cache(torch.tensor([1, 0]))
            cache.batch_select_indices(torch.tensor([1] if reordered else [2, 1]))
        add(1 if reordered else 2, 1)
    assert ours.get_seq_length() == theirs.get_seq_length()


def test_a_step_copies_nothing_but_itself() -> None:
    layer = PreallocatedCacheLayer()
    layer.update(*torch.zeros(2, 1, 1, 3, 4))
    place = layer.keys.data_ptr()
    for _ in range(ROOM):
        layer.update(*torch.zeros(2, 1, 1, 1, 4))
    assert layer.keys.data_ptr() == place
    layer.update(*torch.zeros(2, 1, 1, 1, 4))
    assert layer.keys.data_ptr() != place


@pytest.mark.parametrize("chosen", [{"use_cache": False}, {"cache_implementation": "static"}])
def test_the_callers_choice_and_other_memories_stand(chosen: dict[str, Any]) -> None:
    assert roomy_cache(LlamaForCausalLM(LlamaConfig(**TINY)), chosen) == {}
    assert roomy_cache(MistralForCausalLM(MistralConfig(**TINY, sliding_window=4)), {}) == {}

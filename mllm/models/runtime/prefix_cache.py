"""Beginnings of prompts that were read: kept beyond their batch, so that later prompts begin behind them.

Shape suffixes: R rows, H heads, P tokens of a beginning, D width of a head.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from transformers import Cache, PreTrainedModel

from mllm.compat.transformers_generation import CACHE
from mllm.models.runtime.decoding import beams
from mllm.models.runtime.kv_cache import PreallocatedCacheLayer, roomy_cache
from mllm.models.runtime.position_table import within_positions

Rows = tuple[Tensor, Tensor]
Settings = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefix:
    """One beginning, without padding."""

    layers: Sequence[tuple[Tensor, Tensor]]
    """Keys and values of each layer, [H, P, D]."""
    beside: Mapping[str, Tensor] = field(default_factory=dict)
    """What else the model remembers of it, by the names of the model's attributes."""

    @property
    def size(self) -> int:
        """In bytes."""
        tensors = [*(tensor for pair in self.layers for tensor in pair), *self.beside.values()]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


@dataclass(slots=True, kw_only=True)
class PrefixRows:
    """Beginnings side by side, padded on the left."""

    cache: Cache
    beside: dict[str, Tensor] = field(default_factory=dict)
    """A row for each in the first dimension."""

    @classmethod
    def of(cls, language_model: PreTrainedModel, prefixes: Sequence[Prefix]) -> PrefixRows:
        """A row of its own for each of these; the model must be one that `roomy_cache` has a cache for."""
        cache = roomy_cache(language_model, {})[CACHE]
        for layer, rows in zip(cache.layers, zip(*(each.layers for each in prefixes), strict=True), strict=True):
            layer.fill(rows)
        names = prefixes[0].beside
        return cls(cache=cache, beside={name: torch.stack([each.beside[name] for each in prefixes]) for name in names})

    def select(self, index: Tensor) -> None:
        """Keep these rows of the cache, in this order."""
        self.cache.batch_select_indices(index)

    def continued(
        self, model: Any, generate: Callable[..., Any], beginnings: Rows, rests: Rows, index: Tensor, settings: Settings
    ) -> Tensor:
        """The ids that `generate` writes behind prompts of ids, which are these beginnings and what follows them.

        Args:
            model: one of ours.
            beginnings, rests: ids and mask of each, int64.
            index: the beginning of each rest.
            settings: of transformers' generate.
        """
        self.select(index.repeat_interleave(beams(model, settings)))
        prompts = zip(beginnings, rests, strict=True)
        ids_BT, mask_BT = (torch.cat([begun[index], rest], dim=1) for begun, rest in prompts)
        length = ids_BT.shape[1]
        with within_positions(model.text_model, mask_BT, settings, prompt=length) as arguments:
            ids = generate(input_ids=ids_BT, attention_mask=mask_BT, **{CACHE: self.cache}, **arguments)
        return ids[:, length:]

    def prefix(self, row: int, length: int) -> Prefix:
        """A copy of the last `length` tokens of a row."""
        layers: list[tuple[Tensor, Tensor]] = []
        for layer in self.cache.layers:
            assert isinstance(layer, PreallocatedCacheLayer)
            keys, values = (kept[row, :, -length:].clone() for kept in layer.tensors)
            layers.append((keys, values))
        return Prefix(layers=layers, beside={name: tensor[row].clone() for name, tensor in self.beside.items()})


class PrefixCache:
    """Of all prefixes those used last, as many as `room` bytes hold. For one thread."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.size = 0
        self._kept: OrderedDict[Hashable, Prefix] = OrderedDict()

    def __len__(self) -> int:
        return len(self._kept)

    def __contains__(self, key: Hashable) -> bool:
        return key in self._kept

    def get(self, key: Hashable) -> Prefix | None:
        """The prefix, which counts as used now; None: it is not kept."""
        if key in self._kept:
            self._kept.move_to_end(key)
        return self._kept.get(key)

    def put(self, key: Hashable, prefix: Prefix) -> None:
        """Keep it, and forget others for it; one that is larger than all room is not kept."""
        if key in self._kept or prefix.size > self.room:
            return
        self._kept[key] = prefix
        self.size += prefix.size
        while self.size > self.room:
            self.size -= self._kept.popitem(last=False)[1].size

    def clear(self) -> None:
        self._kept.clear()
        self.size = 0

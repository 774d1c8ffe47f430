"""A cache of keys and values that has room for tokens to come: adding one does not copy all before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor
from transformers import DynamicCache, PreTrainedModel
from transformers.cache_utils import DynamicLayer

from mllm.compat.transformers_generation import CACHE
from mllm.models.language_models import sharing_obstacle

ROOM = 64
"""Tokens that the cache grows by."""


class PreallocatedCacheLayer(DynamicLayer):
    """As transformers' own, which joins old and new tokens in a new tensor at every step."""

    def update(
        self, key_states: Tensor, value_states: Tensor, *args: object, **kwargs: object
    ) -> tuple[Tensor, Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self._buffers: dict[str, Tensor] = {}
        self.keys = self._with("keys", key_states)
        self.values = self._with("values", value_states)
        return self.keys, self.values

    @property
    def tensors(self) -> tuple[Tensor, Tensor]:
        """Keys and values, [R, H, T, D]."""
        assert self.keys is not None
        assert self.values is not None
        return self.keys, self.values

    def fill(self, rows: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Hold a row for each of these keys and values, [H, P, D]; zeros come before the shorter."""
        self.lazy_initialization(*rows[0])
        self._buffers: dict[str, Tensor] = {}
        length = max(keys.shape[-2] for keys, _ in rows)
        for name, parts in zip(("keys", "values"), zip(*rows, strict=True), strict=True):
            heads, _, width = parts[0].shape
            buffer = self._buffers[name] = parts[0].new_empty(len(rows), heads, length + ROOM, width)
            for row, part in enumerate(parts):
                start = length - part.shape[-2]
                buffer[row, :, :start] = 0
                buffer[row, :, start:length] = part
            setattr(self, name, buffer[..., :length, :])

    def batch_select_indices(self, indices: Tensor) -> None:
        """Keep these rows, in this order.

        Where rows only move into the places of those that go, nothing else is copied. Otherwise all are, once, with
        room for what follows.
        """
        if self.get_seq_length() == 0:
            return
        rows = indices.tolist()
        in_place = all(row == place or row >= len(rows) for place, row in enumerate(rows))
        for name in ("keys", "values"):
            kept: Tensor = getattr(self, name)
            if in_place:
                for place, row in enumerate(rows):
                    if row != place:
                        kept[place] = kept[row]
                setattr(self, name, kept[: len(rows)])
                continue
            length = kept.shape[-2]
            buffer = kept.new_empty(len(rows), kept.shape[1], length + ROOM, kept.shape[-1])
            for place, row in enumerate(rows):
                buffer[place, :, :length] = kept[row]
            self._buffers[name] = buffer
            setattr(self, name, buffer[..., :length, :])

    def add_rows(self, other: PreallocatedCacheLayer, most: int) -> None:
        """Take the rows of another below its own, so that all end in the same column; zeros come before the shorter.

        There may come more, up to `most` in all.
        """
        for name in ("keys", "values"):
            kept: Tensor = getattr(self, name)
            new: Tensor = getattr(other, name)
            if not len(kept):
                kept = kept[..., :0, :]  # its buffer, if there is enough of it, serves again
            rows, length = len(kept) + len(new), max(kept.shape[-2], new.shape[-2])
            room = kept.shape[-2] if len(kept) else self._buffers[name].shape[-2]
            if rows > len(self._buffers[name]) or length > room:
                self._buffers[name] = _buffer(kept, max(rows, most), length)
            added = self._buffers[name][len(kept) : rows, :, :length]
            start = length - new.shape[-2]
            added[..., :start, :] = 0  # not what a row before them left, which need not be numbers
            added[..., start:, :] = new
            setattr(self, name, self._buffers[name][:rows, :, :length])

    def crop_left(self, columns: int) -> None:
        """Forget the first `columns` of all rows."""
        for name in ("keys", "values"):
            kept: Tensor = getattr(self, name)[..., columns:, :]
            self._buffers[name] = _buffer(kept, len(self._buffers[name]), kept.shape[-2])
            setattr(self, name, self._buffers[name][: len(kept), :, : kept.shape[-2]])

    def _with(self, name: str, new: Tensor) -> Tensor:
        kept: Tensor = getattr(self, name)
        length = kept.shape[-2] if kept.numel() else 0
        total = length + new.shape[-2]
        buffer = self._buffers.get(name)
        # rows may have been chosen, or beams reordered: then the kept tokens lie elsewhere
        if buffer is None or total > buffer.shape[-2] or kept.data_ptr() != buffer.data_ptr():
            rows = len(new) if buffer is None else max(len(new), len(buffer))
            buffer = self._buffers[name] = new.new_empty(rows, new.shape[1], total + ROOM, new.shape[-1])
            if length:
                buffer[: len(new), :, :length] = kept
        mine = buffer[: len(new), :, :total]
        mine[..., length:, :] = new
        return mine


def _buffer(kept: Tensor, rows: int, length: int) -> Tensor:
    """For so many rows, with room behind `length` columns, the last of which hold what is kept."""
    buffer = kept.new_zeros(rows, kept.shape[1], length + ROOM, kept.shape[-1])
    buffer[: len(kept), :, length - kept.shape[-2] : length] = kept
    return buffer


def roomy_cache(language_model: PreTrainedModel, generation_args: Mapping[str, object]) -> dict[str, Any]:
    """The argument of `generate` for it; none where the model keeps another kind of memory, or the caller chose one."""
    chosen = {CACHE, "cache_implementation", "use_cache"} & generation_args.keys()
    cache = DynamicCache(config=language_model.config)
    usual = all(type(layer) is DynamicLayer for layer in cache.layers) and not sharing_obstacle(language_model)
    if chosen or not usual:
        return {}
    cache.layers[:] = [PreallocatedCacheLayer() for _ in cache.layers]
    return {CACHE: cache}

"""Writing weights as safetensors, one tensor after the other, so that no more than one is in memory.

A header holds only names, dtypes and shapes, which are known before any value is read.
Format: https://huggingface.co/docs/safetensors, 8 bytes of header length, a JSON header, the tensors' bytes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from huggingface_hub import split_state_dict_into_shards_factory
from tqdm.auto import tqdm

from mllm.errors import ModelError, one_line
from mllm.fields import show
from mllm.models.checkpoints.finite import finite, non_finite
from mllm.models.checkpoints.lazy import DTYPES, Lazy

DTYPE_NAMES = {dtype: name for name, dtype in DTYPES.items()}
PATTERN = "model{suffix}.safetensors"
INDEX = "model.safetensors.index.json"
HEADER_ALIGNMENT = 8
"""Bytes to a multiple of which headers are filled up, so that every tensor starts at a multiple of its item size."""


def write_shards(
    weights: Mapping[str, Lazy], folder: Path, *, max_shard_size: int | str = "5GB", dtype: torch.dtype | None = None
) -> None:
    """Write `model.safetensors`, or several shards and their index.

    Args:
        max_shard_size: bytes, or a text as "5GB"; a tensor larger than that has a shard of its own.
        dtype: of all floating-point tensors; None: each keeps its own.

    Raises:
        ModelError: not a size, or a tensor that reads as another shape than its file announced, nan or infinite, or too
            large for the dtype.
    """

    def stored(lazy: Lazy) -> torch.dtype:
        return dtype if dtype is not None and lazy.dtype.is_floating_point else lazy.dtype

    try:
        split = split_state_dict_into_shards_factory(
            dict(weights),  # pyright: ignore[reportArgumentType]  # it asks only for their sizes
            get_storage_size=lambda lazy: lazy.numel * stored(lazy).itemsize,
            filename_pattern=PATTERN,
            max_shard_size=max_shard_size,
        )
    except ValueError as error:
        raise ModelError(
            one_line(error), field="max_shard_size", expected="a size such as 5GB", found=show(max_shard_size)
        ) from error
    weights = finite(dict(weights))
    total = sum(lazy.numel * stored(lazy).itemsize for lazy in weights.values())
    with tqdm(total=total, desc="writing", unit="B", unit_scale=True) as bar:
        for name, members in split.filename_to_tensors.items():
            _write({member: (weights[member], stored(weights[member])) for member in members}, folder / name, bar)
    if split.is_sharded:
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(split.tensor_to_filename.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")


def _write(members: Mapping[str, tuple[Lazy, torch.dtype]], path: Path, bar: tqdm) -> None:
    # large items first: all that follow stay aligned
    order = sorted(members, key=lambda name: (-members[name][1].itemsize, name))
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name in order:
        lazy, dtype = members[name]
        start, end = end, end + lazy.numel * dtype.itemsize
        header[name] = {"dtype": DTYPE_NAMES[dtype], "shape": list(lazy.shape), "data_offsets": [start, end]}
    head = json.dumps(header, separators=(",", ":")).encode()
    head += b" " * (-len(head) % HEADER_ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(head).to_bytes(HEADER_ALIGNMENT, "little") + head)
        for name in order:
            lazy, dtype = members[name]
            tensor = lazy.read().detach()
            if tuple(tensor.shape) != lazy.shape:
                raise ModelError(
                    where=lazy.origin, expected=f"a tensor of {list(lazy.shape)}", found=f"{list(tensor.shape)}"
                )
            stored = tensor.to(dtype)
            if stored.dtype != tensor.dtype and non_finite([(name, stored)]):
                raise ModelError(
                    "choose another dtype",
                    where=lazy.origin,
                    expected=f"weights that fit into {DTYPE_NAMES[dtype]}",
                    found="some beyond its largest number",
                )
            file.write(stored.contiguous().flatten().view(torch.uint8).numpy().data)
            bar.update(lazy.numel * dtype.itemsize)

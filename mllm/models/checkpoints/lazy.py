"""Tensors of checkpoint files that are read one at a time: names and shapes are known before any value is.

A file is mapped into memory, so that a tensor takes room only while somebody holds it.
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mllm.errors import ModelError, listing
from mllm.fields import show
from mllm.model_files import INDEXES, indexed_files

DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""By the names in safetensors' headers."""
UNREADABLE = (
    *(SafetensorError, UnpicklingError, EOFError, RuntimeError, OSError),
    *(ValueError, LookupError, TypeError, AttributeError, AssertionError, struct.error),  # of pickles that are cut off
)
"""What the readers of safetensors and PyTorch raise for a file that is damaged, or holds code."""
WRAPPED_IN = ("model_state_dict", "state_dict", "model")
"""Where training checkpoints keep the weights."""
PATTERNS = ("model*.safetensors", "pytorch_model*.bin")
"""Weights of a whole model, in one file or in shards."""
BESIDE = (
    "adapter_model.safetensors",
    "adapter_model.bin",
    "trained_in_full.safetensors",
    "non_lora_trainables.bin",
    "mm_projector.bin",
    "checkpoint.pt",
)
"""Weights that belong to a base which lies elsewhere."""


@dataclass(frozen=True, slots=True)
class Lazy:
    """One tensor, not yet read.

    Attributes:
        origin: the name and the file that it has there, for messages.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    origin: str
    read: Callable[[], Tensor]

    @property
    def numel(self) -> int:
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        return self.numel * self.dtype.itemsize


Weights = dict[str, Lazy]


def open_file(path: Path) -> Weights:
    """The tensors of a `.safetensors`, `.pt` or `.bin` file, in whatever a training run wrapped them.

    Files that PyTorch wrote before 1.6 cannot be mapped, and are read whole.

    Raises:
        ModelError: no such file, a damaged one, one that holds code, or no weights.
    """
    if not path.is_file():
        raise ModelError(
            "nothing is downloaded", field="checkpoint", expected="a file on this machine", found=f"{path}"
        )
    try:
        if path.suffix == ".safetensors":
            return _safetensors(path)
        content: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except UNREADABLE as error:
        raise ModelError(why_unreadable(error), where=str(path)) from error
    for key in WRAPPED_IN:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ModelError(where=str(path), expected="weights by name", found=type(content).__name__)
    return {name: held(tensor, f"{name} in {path}") for name, tensor in content.items()}


def chain_of(path: str | Sequence[str]) -> list[Path]:
    """The files of a list, or of "a.pt,b.pt", Instruct-Flamingo's way to name several; a path that exists is one.

    Raises:
        ModelError: one of them has no name.
    """
    if isinstance(path, str) and Path(path).exists():
        return [Path(path)]
    parts = [part.strip() for part in path.split(",")] if isinstance(path, str) else list(path)
    for number, part in enumerate(parts):
        if not part:
            found = f"nothing in place {number + 1} of {len(parts)}"
            raise ModelError(field="checkpoint", expected='files, as in "a.pt,b.pt"', found=f"{found} of {show(path)}")
    return [Path(part) for part in parts]


def why_unreadable(error: Exception) -> str:
    """What is wrong with a file of weights, on one line, of a message that may advise to trust it."""
    said = " ".join(str(error).split()).partition(" Check the documentation")[0]
    if isinstance(error, UnpicklingError) and (named := re.search(r"GLOBAL (\S+)|[Ff]unction (\S+)", said)):
        return f"holds more than weights: it names {named[1] or named[2]}, and code is never run"
    if isinstance(error, UnpicklingError):
        return f"not a readable file of weights: {said.partition('WeightsUnpickler error: ')[2][:200] or said[:200]}"
    return f"not a readable file of weights: {said[:200] or type(error).__name__}"


def open_folder(folder: Path) -> Weights:
    """The tensors of all weight files of a folder.

    Raises:
        ModelError: no weights, a shard that the index names is missing or holds something else, one name twice.
    """
    for name in INDEXES:
        if (folder / name).is_file():
            return _by_index(folder / name)
    for pattern in PATTERNS:
        if files := sorted(folder.glob(pattern)):
            return _joined(files)
    if files := [folder / name for name in BESIDE if (folder / name).is_file()]:
        return _joined(files)
    known = ", ".join((*INDEXES, *PATTERNS, *BESIDE))
    raise ModelError(where=str(folder), expected=f"weights in one of {known}", found="none")


def held(tensor: Tensor, origin: str) -> Lazy:
    """A tensor that is in memory, or mapped into it."""
    return Lazy(tuple(tensor.shape), tensor.dtype, origin, lambda: tensor)


def sum_lazily(base: Lazy, delta: Lazy) -> Lazy:
    """base + delta in the delta's dtype; where the delta has more rows, these are the delta's own."""

    def read() -> Tensor:
        found, under = delta.read().clone(), base.read().to(delta.dtype)
        found[tuple(slice(size) for size in under.shape)] += under
        return found

    return Lazy(delta.shape, delta.dtype, f"{delta.origin}, a delta to {base.origin}", read)


def add_low_rank(base: Lazy, a: Lazy, b: Lazy, *, scale: float, transposed: bool = False) -> Lazy:
    """base + scale * b @ a, computed in float32. `transposed`: the base is [in, out]."""

    def read() -> Tensor:
        product = scale * (b.read().float() @ a.read().float())
        return (base.read().float() + (product.T if transposed else product)).to(base.dtype)

    return Lazy(base.shape, base.dtype, f"{base.origin} with the adapter {a.origin}", read)


def grown(lazy: Lazy, rows: int) -> Lazy:
    """With new rows at the end, up to `rows`: the mean of those that are there."""

    def read() -> Tensor:
        found = lazy.read()
        mean = found.float().mean(0, keepdim=True).to(found.dtype)
        return torch.cat([found, mean.expand(rows - len(found), *found.shape[1:])])

    return Lazy((rows, *lazy.shape[1:]), lazy.dtype, lazy.origin, read)


def stack_lazily(first: Lazy, second: Lazy) -> Lazy:
    """The rows of both."""
    shape = (first.shape[0] + second.shape[0], *first.shape[1:])
    return Lazy(shape, first.dtype, first.origin, lambda: torch.cat([first.read(), second.read().to(first.dtype)]))


def over(new: Lazy, old: Lazy) -> Lazy:
    """The rows of `new`, and below them the remaining ones of `old`."""

    def read() -> Tensor:
        found = new.read()
        return torch.cat([found, old.read()[len(found) :].to(found.dtype)])

    return Lazy(old.shape, new.dtype, f"{new.origin}, {old.origin}", read)


def thirds(lazy: Lazy) -> tuple[Lazy, ...]:
    """Three equal blocks of rows."""
    rows = lazy.shape[0] // 3

    def third(number: int) -> Tensor:
        return lazy.read()[number * rows : (number + 1) * rows]

    shape = (rows, *lazy.shape[1:])
    return tuple(Lazy(shape, lazy.dtype, lazy.origin, partial(third, number)) for number in range(3))


def same_tensor(a: Lazy, b: Lazy) -> bool:
    return a.shape == b.shape and torch.equal(a.read(), b.read())


def _safetensors(path: Path) -> Weights:
    file: Any = safe_open(path, framework="pt")
    found: Weights = {}
    for name in file.keys():  # noqa: SIM118, a file is no mapping
        header = file.get_slice(name)
        if header.get_dtype() not in DTYPES:
            raise ModelError(
                where=str(path), field=name, expected=f"one of the dtypes {', '.join(DTYPES)}", found=header.get_dtype()
            )
        dtype = DTYPES[header.get_dtype()]
        found[name] = Lazy(tuple(header.get_shape()), dtype, f"{name} in {path}", partial(file.get_tensor, name))
    return found


def _joined(files: Iterable[Path]) -> Weights:
    found: Weights = {}
    for path in files:
        for name, lazy in open_file(path).items():
            if name in found:
                raise ModelError(f"{name} occurs twice: in {found[name].origin} and in {path}")
            found[name] = lazy
    return found


def _by_index(index: Path) -> Weights:
    placed = indexed_files(index)
    found = _joined(index.parent / name for name in sorted(set(placed.values())))
    wrong = [f"missing {name}, which should be in {placed[name]}" for name in sorted(placed.keys() - found.keys())]
    wrong += [f"unexpected {found[name].origin}" for name in sorted(found.keys() - placed.keys())]
    if wrong:
        raise ModelError(f"does not agree with its shards: {listing(wrong)}", where=str(index))
    return found

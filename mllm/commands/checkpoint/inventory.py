"""What a checkpoint holds, and how two of them differ, as text."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path

import torch
from tqdm.auto import tqdm

from mllm.models.adapters.selection import is_adapter
from mllm.models.checkpoints.layout import Checkpoint, detect, fitting
from mllm.models.checkpoints.lazy import Lazy, Weights
from mllm.models.checkpoints.vocabulary import FOLDER, recorded_tokens
from mllm.models.checkpoints.weight_sources import COMPUTED
from mllm.models.parts import part_of
from mllm.tokenizer_files import find_tokenizer

TABLES = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
"""Endings of the names of input embeddings."""
TOKENS_SHOWN = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """Of a path: its layout, its weights by part, what is absent, and its vocabulary."""

    layout: str
    about: str
    path: str
    parts: dict[str, list[Lazy]]
    absent: dict[str, str]
    vocabulary: str

    @staticmethod
    def of(opened: Checkpoint) -> Inventory:
        """
        Raises:
            ModelError: no known layout.
        """
        name, layout = detect(opened)
        named = layout.named(opened)
        parts: dict[str, list[Lazy]] = {}
        for weight, lazy in named.items():
            parts.setdefault(_part(weight), []).append(lazy)
        return Inventory(
            layout=name,
            about=layout.about,
            path=opened.path,
            parts=parts,
            absent=dict(layout.absent(opened)),
            vocabulary=_vocabulary(opened, named),
        )

    def text(self) -> str:
        lines = [f"{self.path}: {self.layout}, {self.about}"]
        lines.append(f"  {'part':16}{'tensors':>9}{'parameters':>16}{'size':>12}  dtypes")
        rows = [*self.parts.items(), ("total", [lazy for found in self.parts.values() for lazy in found])]
        for part, found in rows:
            dtypes = ", ".join(sorted({str(lazy.dtype).removeprefix("torch.") for lazy in found}))
            count, size = sum(lazy.numel for lazy in found), sum(lazy.nbytes for lazy in found)
            lines.append(f"  {part:16}{len(found):>9,}{count:>16,}{_size(size):>12}  {dtypes}")
        lines.append(f"  vocabulary: {self.vocabulary}")
        lines += [f"  absent: {part}: {where}" for part, where in self.absent.items()]
        if not self.absent:
            lines.append("  absent: nothing")
        return "\n".join(lines)


def compare_checkpoints(a: Checkpoint, b: Checkpoint) -> tuple[str, bool]:
    """Each difference on a line, then a summary by part; and whether there is one.

    Of two layouts the names are compared as ours, without buffers that libraries compute.

    Raises:
        ModelError: different layouts, of which one is not known.
    """
    first, second = _comparable(a, b)
    counts: dict[str, list[float]] = {}
    lines: list[str] = []
    for name in tqdm(sorted(first.keys() | second.keys()), desc="comparing", unit="tensor"):
        row = counts.setdefault(_part(name), [0, 0, 0.0])
        difference, largest = _difference(first.get(name), second.get(name), a.path, b.path)
        row[1 if difference else 0] += 1
        row[2] = max(row[2], largest, key=_nan_is_most)
        if difference:
            lines.append(f"{name}: {difference}")
    lines.append(f"{'part':16}{'equal':>9}{'different':>11}  max |difference|")
    lines += [f"{part:16}{int(row[0]):>9,}{int(row[1]):>11,}  {row[2]:.3g}" for part, row in counts.items()]
    return "\n".join(lines), any(row[1] for row in counts.values())


def _comparable(a: Checkpoint, b: Checkpoint) -> tuple[Weights, Weights]:
    if a.weights.keys() == b.weights.keys() or not (fitting(a) or fitting(b)):
        return a.weights, b.weights
    (name, layout), (other_name, other) = detect(a), detect(b)
    if name == other_name:
        return a.weights, b.weights
    first, second = layout.named(a), other.named(b)
    return tuple({name: t for name, t in found.items() if not COMPUTED.search(name)} for found in (first, second))  # pyright: ignore[reportReturnType]


def _difference(a: Lazy | None, b: Lazy | None, a_path: str, b_path: str) -> tuple[str, float]:
    """In words, nothing if they are equal; and the largest absolute difference where values can be compared."""
    if a is None or b is None:
        return f"only in {b_path if a is None else a_path}", 0.0
    if a.shape != b.shape:
        return f"shape {list(a.shape)} and {list(b.shape)}", 0.0
    words = [] if a.dtype == b.dtype else [f"dtype {a.dtype} and {b.dtype}".replace("torch.", "")]
    ours, theirs = a.read(), b.read()
    largest = 0.0
    if not torch.equal(ours, theirs):
        apart = (ours.double() - theirs.double()).abs()
        # the same infinity, or NaN, in the same place on both sides is no difference
        apart[(ours == theirs) | ((ours != ours) & (theirs != theirs))] = 0
        largest = float(apart.max())
        if largest != 0:
            words.append(f"max |difference| {largest:.3g}")
    return ", ".join(words), largest


def _nan_is_most(value: float) -> float:
    return inf if isnan(value) else value


def _part(name: str) -> str:
    return "adapters" if is_adapter(name) else part_of(name)


def _vocabulary(opened: Checkpoint, named: Weights) -> str:
    rows = sorted({lazy.shape[0] for name, lazy in named.items() if name.endswith(TABLES)})
    words = [f"{', '.join(map(str, rows))} embeddings" if rows else "no embeddings here"]
    tokenizer = find_tokenizer(str(opened.folder))
    words.append("no tokenizer" if tokenizer is None else f"a tokenizer of {len(tokenizer)} tokens")
    if added := recorded_tokens(str(opened.folder)):
        more = f" and {len(added) - TOKENS_SHOWN} more" if len(added) > TOKENS_SHOWN else ""
        base = opened.config.get("base_rows")
        # a language model that was made for the whole tokenizer has not grown
        grown = f"grown from {base} by" if isinstance(base, int) and rows and base < rows[-1] else "with added tokens"
        words.append(f"{grown} {', '.join(added[:TOKENS_SHOWN])}{more}")
    if (Path(opened.path) / FOLDER).is_dir():
        words.append(f"what was added is kept in {FOLDER}/")
    return "; ".join(words)


def _size(size: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.4g} {unit}"
        size /= 1000
    return f"{size:.4g} TB"

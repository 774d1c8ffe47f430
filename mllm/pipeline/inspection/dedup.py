"""`mllm data dedup`: near-duplicate pictures and texts within and across the splits of a config.

Pictures: equal pixels, or perceptual hashes (ImageHash's phash: the low frequencies of a cosine transform, 64 bits)
that differ in few bits. Texts: MinHash over runs of three words (datasketch), what templates repeat left out.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any, Literal, cast

import imagehash
import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from mllm.conversation.processor import PLACEHOLDER
from mllm.dataset.base import Dataset
from mllm.dataset.mixing import built
from mllm.errors import ConfigError, DataError, printable
from mllm.images import ImageRef
from mllm.images.names import name_of
from mllm.pipeline.inspection.splits import Config, Split, parts, place_of
from mllm.pipeline.inspection.workers import in_order
from mllm.types import Item

Role = Literal["training", "test"]
ROLES: tuple[Role, Role] = ("training", "test")

BITS = 64
SHINGLE = 3
PERMUTATIONS = 128
LEAST = 8
"""Runs of words that a text has of its own; shorter ones ("the left dog") are alike without being copies."""
SAMPLE = 10_000
COMMON_SHARE, COMMON_COUNT = 0.05, 10
"""A run of words in more than this share of a sample of the items, and in more than so many, is a template's."""


@dataclass(slots=True, kw_only=True)
class Picture:
    """A picture, and where it is named first in training and in the test sets."""

    name: str
    ref: ImageRef
    places: dict[Role, str] = field(default_factory=dict[Role, str])
    hash: int = 0
    pixels: bytes = b""

    @property
    def role(self) -> Role:
        return "training" if "training" in self.places else "test"


@dataclass(frozen=True, slots=True, kw_only=True)
class Near:
    """`same`: of each entry the first one that is equal. `pairs`: of these first ones, how far apart two are."""

    same: Sequence[int]
    pairs: Mapping[tuple[int, int], float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """What an item says."""

    place: str
    role: Role
    start: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """A duplicate: `first` is of training where one of the two is. Names, places and how alike, in words."""

    first: str
    second: str
    how: str
    leak: bool

    def __str__(self) -> str:
        return f"{self.second} is {self.how} {self.first}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Everything found; `unread`: what could not be read, and why."""

    pictures: tuple[Alike, ...]
    texts: tuple[Alike, ...]
    unread: tuple[str, ...]
    counts: Mapping[str, int]

    @property
    def leaked(self) -> bool:
        """Whether a test picture is in training."""
        return any(alike.leak for alike in self.pictures)

    def as_dict(self) -> dict[str, Any]:
        found = {"pictures": self.pictures, "texts": self.texts}
        return {
            name: [{"first": a.first, "second": a.second, "how": a.how, "leak": a.leak} for a in alike]
            for name, alike in found.items()
        } | {"unread": list(self.unread), "counts": dict(self.counts)}

    def text(self) -> str:
        lines: list[str] = []
        for name, found in (("pictures", self.pictures), ("texts", self.texts)):
            leaks, rest = ([a for a in found if a.leak is leak] for leak in (True, False))
            lines.append(f"{self.counts[name]:,} {name} compared")
            if name == "texts" and self.counts["short texts"]:
                lines[-1] += f", {self.counts['short texts']:,} are too short for it"
            for title, group in (("of test sets in training", leaks), ("others alike", rest)):
                lines += [f"  {title}: {len(group):,}", *(printable(f"    {alike}") for alike in group)]
        if self.unread:
            lines.append(f"could not be read, see mllm data check: {len(self.unread)}")
            lines += [printable(f"  {reason}") for reason in self.unread]
        return "\n".join(lines)


def find(splits: Sequence[Split], *, bits: int, similarity: float, workers: int | None) -> Duplicates:
    """Compare all items of the splits with each other; a dataset that is in several is read once, as training's."""
    pictures: dict[ImageRef, Picture] = {}
    texts: list[Text] = []
    hashes: list[MinHash] = []
    unread: list[str] = []
    short = 0
    for cfg, role in _datasets(splits):
        dataset = built(cfg)
        dataset.set_epoch(None)
        common = _common(dataset)
        every = in_order(range(len(dataset)), partial(_read, dataset, common), workers=workers, title="items")
        for item, error, minhash in every:
            if item is None:
                unread.append(error)
                continue
            if minhash is None:
                short += 1
            else:
                texts.append(Text(place=item.key, role=role, start=_said(item)[:60]))
                hashes.append(minhash)
            for ref in dict.fromkeys(item.images):
                picture = pictures.setdefault(ref, Picture(name=name_of(ref), ref=ref))
                picture.places.setdefault(role, item.key)
    seen = _hashed(list(pictures.values()), unread, workers)
    return Duplicates(
        pictures=tuple(_alike_pictures(seen, near_pictures([picture.hash for picture in seen], bits))),
        texts=tuple(_alike_texts(texts, near_texts(hashes, similarity))),
        unread=tuple(unread),
        counts={"pictures": len(pictures), "texts": len(texts), "short texts": short},
    )


def near_pictures(hashes: Sequence[int], bits: int) -> Near:
    """Hashes that differ in at most `bits` bits.

    Of `bits` + 1 stretches of two such hashes one at least is equal: only within these is compared.
    """
    same, kept = _grouped(hashes)
    numbers = np.array([hashes[number] for number in kept], np.uint64)
    pairs: dict[tuple[int, int], float] = {}
    edges = [round(part * BITS / (bits + 1)) for part in range(bits + 2)]
    for low, high in pairwise(edges):
        stretch = (numbers >> np.uint64(low)) & np.uint64((1 << (high - low)) - 1)
        order = np.argsort(stretch, kind="stable")
        for bucket in np.split(order, np.flatnonzero(np.diff(stretch[order])) + 1):
            for place, number in enumerate(bucket[:-1].tolist()):
                others = bucket[place + 1 :]
                apart = _ones(numbers[others] ^ numbers[number])
                for other in np.flatnonzero(apart <= bits).tolist():
                    first, second = sorted((kept[number], kept[int(others[other])]))
                    pairs[first, second] = int(apart[other])
    return Near(same=same, pairs=pairs)


def _ones(numbers: NDArray[np.uint64]) -> NDArray[np.int64]:
    return np.unpackbits(numbers.view(np.uint8).reshape(len(numbers), 8), axis=1).sum(axis=1)


def near_texts(hashes: Sequence[MinHash], similarity: float) -> Near:
    """Texts whose estimated Jaccard similarity, the share of runs of words in common, is at least `similarity`."""
    same, kept = _grouped([each.hashvalues.tobytes() for each in hashes])
    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    pairs: dict[tuple[int, int], float] = {}
    for number in kept:
        for other in cast(list[int], index.query(hashes[number])):
            alike = hashes[number].jaccard(hashes[other])
            if alike >= similarity:
                pairs[other, number] = 1 - alike
        index.insert(number, hashes[number], check_duplication=False)
    return Near(same=same, pairs=pairs)


def _grouped(values: Sequence[Hashable]) -> tuple[list[int], list[int]]:
    """The first entry that equals each, and these first entries."""
    first: dict[Hashable, int] = {}
    same = [first.setdefault(value, number) for number, value in enumerate(values)]
    return same, list(first.values())


def partners(near: Near, roles: Sequence[Role]) -> Iterator[tuple[int, int, float]]:
    """(another, entry, how far apart) of each entry that has one like it: of a test entry in training, else before it.

    Entries of training come first, so that the first of equal ones is training's if one is.
    """
    around: dict[int, list[tuple[float, int]]] = defaultdict(list)
    for (first, second), apart in near.pairs.items():
        around[first].append((apart, second))
        around[second].append((apart, first))
    for entry, equal in enumerate(near.same):
        close = [(0.0, equal)] * (equal != entry) + around[equal]
        in_training = [(apart, other) for apart, other in close if roles[other] == "training"]
        before = [(apart, other) for apart, other in close if other < entry]
        if found := (in_training if roles[entry] == "test" and in_training else before):
            apart, other = min(found)
            yield other, entry, apart


def _datasets(splits: Iterable[Split]) -> list[tuple[Config | Dataset, Role]]:
    """Each distinct dataset once; training first, so that what is in both is training's."""
    found: list[tuple[Config | Dataset, Role]] = []
    for split in sorted(splits, key=lambda split: not split.training):
        for part in parts(split.cfg):
            if all(part != cfg for cfg, _ in found):
                found.append((part, "training" if split.training else "test"))
    return found


def shared(splits: Iterable[Split]) -> list[str]:
    """Names of test sets that are the training set itself, in whole or in part of a mixture."""
    training = [part for split in splits if split.training for part in parts(split.cfg)]
    inside = [name for split in splits if split.training for name in split.names if name != "train"]
    return inside + [
        name
        for split in splits
        if not split.training and any(part in training for part in parts(split.cfg))
        for name in split.names
    ]


def _read(dataset: Any, common: frozenset[str], index: int) -> tuple[Item | None, str, MinHash | None]:
    try:
        item: Item = dataset[index]
    except DataError as error:
        where = place_of(dataset, index)
        return None, str(error) if str(error).startswith(where) else f"{where}: {error}", None
    own = [shingle.encode() for shingle in _shingles(item) if shingle not in common]
    if len(own) < LEAST:
        return item, "", None
    minhash = MinHash(num_perm=PERMUTATIONS, seed=1)
    minhash.update_batch(own)
    return item, "", minhash


def _said(item: Item) -> str:
    return " ".join(" ".join(PLACEHOLDER.sub(" ", turn.text) for turn in item.turns).split())


def _shingles(item: Item) -> set[str]:
    words = re.findall(r"\w+", _said(item).casefold())
    return {" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


def _common(dataset: Any) -> frozenset[str]:
    """The runs of words that a dataset's wordings repeat."""
    counts: Counter[str] = Counter()
    sampled = range(0, len(dataset), max(1, len(dataset) // SAMPLE))
    for index in sampled:
        item = _read(dataset, frozenset(), index)[0]
        if item is not None:
            counts.update(_shingles(item))
    least = max(COMMON_COUNT, COMMON_SHARE * len(sampled))
    return frozenset(shingle for shingle, count in counts.items() if count > least)


def _hashed(pictures: Sequence[Picture], unread: list[str], workers: int | None) -> list[Picture]:
    seen: list[Picture] = []
    every = in_order(range(len(pictures)), partial(_hash, pictures), workers=workers, title="pictures", unit="picture")
    for picture, found in zip(pictures, every, strict=True):
        if isinstance(found, str):
            unread.append(f"{next(iter(picture.places.values()))}: {found}")
        else:
            picture.hash, picture.pixels = found
            seen.append(picture)
    return seen


def _hash(pictures: Sequence[Picture], number: int) -> tuple[int, bytes] | str:
    try:
        image = pictures[number].ref.open()
    except (DataError, ConfigError) as error:
        return str(error)
    pixels = hashlib.blake2b(f"{image.size}".encode() + image.tobytes(), digest_size=16).digest()
    return int(str(imagehash.phash(image)), 16), pixels


def _alike_pictures(pictures: Sequence[Picture], near: Near) -> Iterator[Alike]:
    for picture in pictures:
        if len(picture.places) == 2:
            first, second = (f"{picture.places[role]}: {picture.name}" for role in ROLES)
            yield Alike(first=first, second=second, how="the same picture as", leak=True)
    for a, b, apart in partners(near, [picture.role for picture in pictures]):
        first, second = pictures[a], pictures[b]
        same = first.pixels == second.pixels
        yield Alike(
            first=f"{first.places[first.role]}: {first.name}",
            second=f"{second.places[second.role]}: {second.name}",
            how="pixel for pixel" if same else f"{apart:.0f} of {BITS} bits from",
            leak=first.role != second.role,
        )


def _alike_texts(texts: Sequence[Text], near: Near) -> Iterator[Alike]:
    for a, b, apart in partners(near, [text.role for text in texts]):
        first, second = texts[a], texts[b]
        yield Alike(
            first=f"{first.place}: {first.start!r}",
            second=f"{second.place}: {second.start!r}",
            how=f"{1 - apart:.0%} like" if apart else "word for word",
            leak=first.role != second.role,
        )

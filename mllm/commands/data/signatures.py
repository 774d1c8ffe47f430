"""What items are compared by: MinHash signatures of their texts, and hashes of the images that they show.

Both are written by shards: first of items, then of the distinct images that these name. In memory there is a number or
two for each item; signatures, 512 bytes each, stay on disk.
"""

from __future__ import annotations

import hashlib
import json
import re
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any, BinaryIO

import imagehash
import numpy as np
from datasketch import MinHash, MinHashLSH
from numpy.typing import NDArray

from mllm.commands.data.identity import identity, key128
from mllm.commands.data.sources import Sources
from mllm.commands.data.workers import in_order
from mllm.commands.shards import Shard, new_part, stage_parts
from mllm.conversation.rendering import PLACEHOLDER
from mllm.errors import ConfigError, DataError
from mllm.types import Item

SHINGLE = 3
PERMUTATIONS = 128
MIN_SHINGLES = 8
"""Runs of words that a text has of its own; shorter ones ("the left dog") are alike without being copies."""
SAMPLE = 10_000
COMMON_SHARE, COMMON_COUNT = 0.05, 10
"""A run of words in more than this share of a sample of the items, and in more than so many, is a template's."""
FLUSH = 1 << 14
"""Entries that are written to a file at a time."""

KEY_DTYPE = "<u8", (2,)
"""128 bits that tell one thing from another."""
TEXT = np.dtype([("item", "<i8"), ("key", *KEY_DTYPE)])
MENTION = np.dtype([("item", "<i8"), ("image", "<i4"), ("key", *KEY_DTYPE)])
IMAGE_DTYPE = np.dtype([("item", "<i8"), ("image", "<i4"), ("test", "<i8"), ("hash", "<u8"), ("pixels", *KEY_DTYPE)])
"""An image where it is named first, the item of a test set that names it first (-1: none), its perceptual hash, and a
key of its pixels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """What a worker sends back of an item: why it cannot be read, or its images and, if it is long enough, its text."""

    error: str | None = None
    images: Sequence[bytes] = ()
    signature: bytes | None = None


class SignatureReader:
    """Reads items for comparison; in each worker one MinHash is used again and again."""

    def __init__(self, sources: Sources) -> None:
        self.sources = sources
        self._minhash = MinHash(num_perm=PERMUTATIONS, seed=1, hashfunc=zlib.crc32)  # mixed before it is permuted
        self._common: dict[int, frozenset[str]] = {}

    def __call__(self, number: int) -> Read:
        try:
            item = self.sources[number]
        except DataError as error:
            return Read(error=str(error if error.where else error.at(self.sources.place(number))))
        own = shingles(item) - self.common(self.sources.locate(number)[0])
        images = [key128(identity(ref, item, place)) for place, ref in enumerate(item.images)]
        if len(own) < MIN_SHINGLES:
            return Read(images=images)
        self._minhash.clear()
        self._minhash.update_batch([shingle.encode() for shingle in own])
        return Read(images=images, signature=self._minhash.hashvalues.astype("<u4").tobytes())

    def common(self, number: int) -> frozenset[str]:
        """The runs of words that the wordings of a dataset repeat."""
        if number not in self._common:
            self._common[number] = _repeated(self.sources.datasets[number])
        return self._common[number]


def _repeated(dataset: Any) -> frozenset[str]:
    counts: Counter[str] = Counter()
    sampled = range(0, len(dataset), max(1, len(dataset) // SAMPLE))
    for index in sampled:
        try:
            counts.update(shingles(dataset[index]))
        except DataError:
            continue
    least = max(COMMON_COUNT, COMMON_SHARE * len(sampled))
    return frozenset(shingle for shingle, count in counts.items() if count > least)


def item_words(item: Item) -> str:
    """The words of an item."""
    return " ".join(" ".join(PLACEHOLDER.sub(" ", turn.text) for turn in item.turns).split())


def shingles(item: Item) -> set[str]:
    """Its runs of three words."""
    words = re.findall(r"\w+", item_words(item).casefold())
    return {" ".join(words[start : start + SHINGLE]) for start in range(len(words) - SHINGLE + 1)}


def read_items(sources: Sources, shard: Shard, folder: Path, *, similarity: float, workers: int | None) -> None:
    """Write a shard's part of what items say and show.

    texts [texts] and mentions [mentions of images], signatures uint32 [texts, PERMUTATIONS], keys of their bands uint64
    [texts, bands], unread.jsonl, and counts.json.
    """
    reader = SignatureReader(sources)
    numbers = shard.of(len(sources))
    for dataset in {sources.locate(number)[0] for number in numbers[:: max(1, len(numbers) - 1)]}:
        reader.common(dataset)  # before workers are forked, so that it is done once
    short = 0
    with new_part(folder, "items", shard) as target, ExitStack() as files:
        unread = files.enter_context((target / "unread.jsonl").open("w", encoding="utf-8"))
        texts, mentions, signatures, bands = (
            files.enter_context(Records(target / name)) for name in ("texts", "mentions", "signatures", "bands")
        )
        for number, read in zip(numbers, in_order(numbers, reader, workers=workers, title="items"), strict=True):
            if read.error is not None:
                unread.write(json.dumps({"item": number, "error": read.error}) + "\n")
                continue
            for place, key in enumerate(read.images):
                mentions.add(struct.pack("<qi16s", number, place, key))
            if read.signature is None:
                short += 1
                continue
            key = hashlib.blake2b(read.signature, digest_size=16).digest()
            texts.add(struct.pack("<q16s", number, key))
            signatures.add(read.signature)
            bands.add(b"".join(band_keys(read.signature, similarity)))
        (target / "counts.json").write_text(json.dumps({"lengths": sources.lengths(), "short": short}))


@cache
def band_shape(similarity: float) -> tuple[int, int]:
    """Bands, and places in each, with which texts of this similarity are found; as datasketch chooses them."""
    index = MinHashLSH(threshold=similarity, num_perm=PERMUTATIONS)
    return index.b, index.r


def band_keys(signature: bytes, similarity: float) -> Iterator[bytes]:
    """8 bytes for each band of a signature."""
    bands, rows = band_shape(similarity)
    for band in range(bands):
        yield hashlib.blake2b(signature[4 * rows * band : 4 * rows * (band + 1)], digest_size=8).digest()


def read_images(sources: Sources, shard: Shard, folder: Path, *, workers: int | None) -> None:
    """Write a shard's part of the distinct images that all items name: hashes of each, and unread.jsonl."""
    mentions = np.concatenate(
        [load_records(path / "mentions", MENTION) for path in stage_parts(folder, "items", shard.count)]
    )
    mine = mentions[mentions["key"][:, 0] % np.uint64(shard.count) == shard.number]
    images = _distinct(mine, sources.training)
    hashes = partial(_hashes, sources, images)
    with new_part(folder, "images", shard) as target, ExitStack() as files:
        unread = files.enter_context((target / "unread.jsonl").open("w", encoding="utf-8"))
        hashed = files.enter_context(Records(target / "images"))
        every = in_order(range(len(images)), hashes, workers=workers, title="images", unit="image")
        for image, found in zip(images, every, strict=True):
            if isinstance(found, str):
                order = {"item": int(image["item"]), "image": int(image["image"])}
                unread.write(json.dumps({**order, "error": found}) + "\n")
            else:
                image["hash"], image["pixels"] = found[0], np.frombuffer(found[1], "<u8")
                hashed.add(image.tobytes())


def _distinct(mentions: NDArray[Any], training: int) -> NDArray[Any]:
    """IMAGE [distinct images] in the order of their first mention, without hashes."""
    mentions = mentions[np.lexsort((mentions["image"], mentions["item"], *mentions["key"].T))]
    keys = mentions["key"]
    starts = np.flatnonzero(np.append(True, (keys[1:] != keys[:-1]).any(axis=1))) if len(keys) else np.empty(0, int)
    images = np.zeros(len(starts), IMAGE_DTYPE)
    images["item"], images["image"] = mentions["item"][starts], mentions["image"][starts]
    in_test = np.where(mentions["item"] >= training, mentions["item"], np.iinfo(np.int64).max)
    first = np.minimum.reduceat(in_test, starts) if len(starts) else in_test
    images["test"] = np.where(first < np.iinfo(np.int64).max, first, -1)
    return images[np.lexsort((images["image"], images["item"]))]


def _hashes(sources: Sources, images: NDArray[Any], number: int) -> tuple[int, bytes] | str:
    """The perceptual hash of an image and a key of its pixels, or why it cannot be opened."""
    item = sources[int(images[number]["item"])]
    try:
        opened = item.images[int(images[number]["image"])].open()
    except (DataError, ConfigError) as error:
        return str(error.at(item.key))
    pixels = hashlib.blake2b(f"{opened.size}".encode() + opened.tobytes(), digest_size=16).digest()
    return int(str(imagehash.phash(opened)), 16), pixels


class Records:
    """A file of records of one size, written some thousands at a time."""

    def __init__(self, path: Path) -> None:
        self._file: BinaryIO = path.open("wb")
        self._waiting: list[bytes] = []

    def add(self, record: bytes) -> None:
        self._waiting.append(record)
        if len(self._waiting) == FLUSH:
            self._flush()

    def _flush(self) -> None:
        self._file.write(b"".join(self._waiting))
        self._waiting.clear()

    def __enter__(self) -> Records:
        return self

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._file.close()


def load_records(path: Path, dtype: Any) -> NDArray[Any]:
    """The records of a file."""
    return np.fromfile(path, dtype)


class Signatures:
    """The signatures and band keys of all parts, as one array on disk."""

    def __init__(self, items: Sequence[Path], similarity: float) -> None:
        width = band_shape(similarity)[0]
        self._signatures = [_mapped(path / "signatures", "<u4", PERMUTATIONS) for path in items]
        self._bands = [_mapped(path / "bands", "<u8", width) for path in items]
        self._ends = np.cumsum([len(part) for part in self._signatures])

    def bands(self, kept: NDArray[np.int64]) -> Iterator[NDArray[np.uint64]]:
        """For each band its key of these texts."""
        for band in range(self._bands[0].shape[1]):
            yield np.concatenate([part[:, band] for part in self._bands])[kept]

    def of(self, kept: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.uint32]]:
        """The signatures of some of these texts, uint32 [some, PERMUTATIONS]."""

        def signatures(numbers: NDArray[np.int64]) -> NDArray[np.uint32]:
            texts = kept[numbers]
            found = np.empty((len(texts), PERMUTATIONS), np.uint32)
            places = np.searchsorted(self._ends, texts, side="right")
            for place in np.unique(places):
                mine = places == place
                start = self._ends[place] - len(self._signatures[place])
                found[mine] = self._signatures[place][texts[mine] - start]
            return found

        return signatures


def _mapped(path: Path, dtype: str, width: int) -> NDArray[Any]:
    """[records, width] of a file, read where it is looked at."""
    if not path.stat().st_size:
        return np.empty((0, width), dtype)
    return np.memmap(path, dtype, mode="r").reshape(-1, width)

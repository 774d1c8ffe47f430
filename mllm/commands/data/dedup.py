"""`mllm data dedup`: near-duplicate images and texts within and across the splits of a config.

Images: equal pixels, or perceptual hashes (ImageHash's phash: the low frequencies of a cosine transform, 64 bits) that
differ in few bits. Texts: MinHash over runs of three words (datasketch), what templates repeat left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from mllm.commands.data.likeness import (
    BITS,
    LARGEST_BUCKET,
    Comparison,
    Partners,
    first_equal,
    near_hashes,
    near_signatures,
    partners,
)
from mllm.commands.data.signatures import (
    IMAGE_DTYPE,
    PERMUTATIONS,
    TEXT,
    Signatures,
    item_words,
    load_records,
    read_images,
    read_items,
)
from mllm.commands.data.sources import Sources
from mllm.commands.shards import Shard, stage_parts
from mllm.errors import RunError, printable
from mllm.images.names import name_of
from mllm.pipeline.splits import Split

START = 60
"""Characters of a text that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dedup:
    """The job: items, then the images that they show, by shards; `compare` puts them together."""

    splits: Sequence[Split]
    bits: int
    similarity: float
    workers: int | None = None
    stages: Sequence[str] = ("items", "images")

    def open(self) -> None:
        Sources(self.splits)

    def work(self, stage: str, shard: Shard, folder: Path) -> None:
        sources = Sources(self.splits)
        if stage == "items":
            read_items(sources, shard, folder, similarity=self.similarity, workers=self.workers)
        else:
            read_images(sources, shard, folder, workers=self.workers)

    def compare(self, folder: Path, shards: int) -> Duplicates:
        """Everything found, of parts that are all there.

        Raises:
            RunError: they are not, or the data have changed since.
        """
        sources = Sources(self.splits)
        items, images = stage_parts(folder, "items", shards), stage_parts(folder, "images", shards)
        counts = [json.loads((path / "counts.json").read_text()) for path in items]
        if any(count["lengths"] != sources.lengths() for count in counts):
            raise RunError(
                where=str(folder),
                message="the data changed after its parts were read: delete the folder and start again",
            )
        shown = np.concatenate([load_records(path / "images", IMAGE_DTYPE) for path in images])
        unread = sorted((entry for path in images for entry in _lines(path / "unread.jsonl")), key=_place)
        texts = np.concatenate([load_records(path / "texts", TEXT) for path in items])
        comparison = Comparison()
        shown = shown[np.lexsort((shown["image"], shown["item"]))]
        return Duplicates(
            sources=sources,
            shown=shown,
            texts=texts["item"],
            alike_images=_alike_images(shown, sources.training, self.bits, comparison),
            alike_texts=_alike_texts(texts, items, sources.training, self.similarity, comparison),
            unread=[entry["error"] for path in items for entry in _lines(path / "unread.jsonl")]
            + [entry["error"] for entry in unread],
            images=len(shown) + len(unread),
            short=sum(count["short"] for count in counts),
            left_out=comparison.left_out,
        )


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as file:
        yield from map(json.loads, file)


def _place(entry: dict[str, Any]) -> tuple[int, int]:
    return entry["item"], entry["image"]


def _alike_images(shown: NDArray[Any], training: int, bits: int, comparison: Comparison) -> Partners:
    same = first_equal(shown["hash"][:, None])
    kept = np.flatnonzero(same == np.arange(len(same)))
    pairs = near_hashes(shown["hash"][kept], bits, comparison)
    found = ((kept[first], kept[second], apart) for first, second, apart in pairs)
    return partners(same, found, int(np.searchsorted(shown["item"], training)))


def _alike_texts(
    texts: NDArray[Any], items: Sequence[Path], training: int, similarity: float, comparison: Comparison
) -> Partners:
    same = first_equal(texts["key"])
    kept = np.flatnonzero(same == np.arange(len(same)))
    signatures = Signatures(items, similarity)
    pairs = near_signatures(signatures.bands(kept), signatures.of(kept), similarity, comparison)
    found = ((kept[first], kept[second], apart) for first, second, apart in pairs)
    return partners(same, found, int(np.searchsorted(texts["item"], training)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """A duplicate: `first` is of training where one of the two is. Names, places and how alike, in words."""

    first: str
    second: str
    how: str
    leak: bool

    def __str__(self) -> str:
        return printable(f"{self.second} is {self.how} {self.first}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Duplicates:
    """Everything found, as numbers; words are made of it one by one, as they are written."""

    sources: Sources
    shown: NDArray[Any]
    """IMAGE [images that could be read], by item."""
    texts: NDArray[np.int64]
    """int64 [texts]: the item of each."""
    alike_images: Partners
    alike_texts: Partners
    unread: Sequence[str]
    images: int
    short: int
    left_out: int

    @property
    def leaked(self) -> bool:
        """Whether an image of a test set is in training."""
        return bool(len(self._both) or self._leaks(self.alike_images, self.shown["item"]).any())

    @property
    def counts(self) -> dict[str, int]:
        return {"pictures": self.images, "texts": len(self.texts), "short texts": self.short}

    @property
    def _both(self) -> NDArray[Any]:
        """IMAGE: those that training and a test set name alike."""
        return self.shown[(self.shown["item"] < self.sources.training) & (self.shown["test"] >= 0)]

    def _leaks(self, found: Partners, items: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of the alike are of a test set and of training; `items`: of the entries."""
        training = self.sources.training
        return (items[found.others] < training) & (items[found.entries] >= training)

    def image_groups(self, *, leak: bool | None = None) -> Iterator[Alike]:
        """Images alike, in the order of their first mention: those of test sets in training, the others, or all.

        Before them stand images that training and a test set name alike.
        """
        for image in self._both if leak is not False else ():
            name = self._name(image)
            first, second = (f"{self.sources[int(image[role])].key}: {name}" for role in ("item", "test"))
            yield Alike(first=first, second=second, how="the same image as", leak=True)
        leaks = self._leaks(self.alike_images, self.shown["item"])
        for entry, other, apart, leaks_in in _rows(self.alike_images, leaks, leak):
            first, second = self.shown[other], self.shown[entry]
            same = (first["pixels"] == second["pixels"]).all()
            yield Alike(
                first=f"{self.sources[int(first['item'])].key}: {self._name(first)}",
                second=f"{self.sources[int(second['item'])].key}: {self._name(second)}",
                how="pixel for pixel" if same else f"{apart} of {BITS} bits from",
                leak=leaks_in,
            )

    def duplicate_texts(self, *, leak: bool | None = None) -> Iterator[Alike]:
        """Texts alike, in the order of the files: those of test sets that are in training, the others, or all."""
        leaks = self._leaks(self.alike_texts, self.texts)
        for entry, other, apart, leaks_in in _rows(self.alike_texts, leaks, leak):
            yield Alike(
                first=self._said(int(self.texts[other])),
                second=self._said(int(self.texts[entry])),
                how=f"{1 - apart / PERMUTATIONS:.0%} like" if apart else "word for word",
                leak=leaks_in,
            )

    def _name(self, image: Any) -> str:
        return name_of(self.sources[int(image["item"])].images[int(image["image"])])

    def _said(self, number: int) -> str:
        item = self.sources[number]
        return f"{item.key}: {item_words(item)[:START]!r}"

    def lines(self) -> Iterator[str]:
        """The report."""
        image_leaks = self._leaks(self.alike_images, self.shown["item"])
        text_leaks = self._leaks(self.alike_texts, self.texts)
        yield f"{self.images:,} images compared"
        yield f"  of test sets in training: {len(self._both) + image_leaks.sum():,}"
        yield from (f"    {alike}" for alike in self.image_groups(leak=True))
        yield f"  others alike: {(~image_leaks).sum():,}"
        yield from (f"    {alike}" for alike in self.image_groups(leak=False))
        yield f"{len(self.texts):,} texts compared" + (f", {self.short:,} are too short for it" if self.short else "")
        yield f"  of test sets in training: {text_leaks.sum():,}"
        yield from (f"    {alike}" for alike in self.duplicate_texts(leak=True))
        yield f"  others alike: {(~text_leaks).sum():,}"
        yield from (f"    {alike}" for alike in self.duplicate_texts(leak=False))
        if self.left_out:
            yield (
                f"{self.left_out:,} groups of more than {LARGEST_BUCKET:,} near duplicates were not compared in full"
            )
        if self.unread:
            yield f"could not be read (see mllm data check): {len(self.unread):,}"
            yield from (printable(f"  {reason}") for reason in self.unread)

    def write(self, file: TextIO) -> None:
        """Write everything as one JSON object, a line for each entry."""
        found: dict[str, Iterator[Any]] = {
            "pictures": map(asdict, self.image_groups()),
            "texts": map(asdict, self.duplicate_texts()),
            "unread": iter(self.unread),
        }
        file.write("{")
        for name, entries in found.items():
            file.write(f'"{name}": [')
            for number, entry in enumerate(entries):
                file.write(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False)}")
            file.write("],\n")
        file.write(f'"counts": {json.dumps(self.counts)}}}\n')


def _rows(found: Partners, leaks: NDArray[np.bool_], leak: bool | None) -> Iterator[tuple[int, int, int, bool]]:
    """An entry, the other, how far apart they are, and whether they leak; of those that do, that do not, or of all."""
    for number in range(len(found)) if leak is None else np.flatnonzero(leaks == leak):
        row = found.entries[number], found.others[number], found.apart[number]
        entry, other, apart = map(int, row)
        yield entry, other, apart, bool(leaks[number])

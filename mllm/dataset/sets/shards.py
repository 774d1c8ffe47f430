"""webdataset's tar files, read by index: no shuffling buffer, the same order whatever the workers, resumable anywhere.

Where the members of a shard lie is kept in the cache; a sample is then read with two reads of the file where it lies.
"""

from __future__ import annotations

import glob
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mllm.conversation.convention import ConventionConfig, read_convention
from mllm.conversation.region_conversion import lift_item
from mllm.dataset.base import seeded_rng
from mllm.dataset.files.derived import cached_array, probes
from mllm.dataset.questions import Questions, text_field
from mllm.dataset.sets.instruct import as_written
from mllm.errors import DataError
from mllm.fields import PathName, in_field
from mllm.files import check_file, decode_utf8, parse_json
from mllm.images.embedded import MemberImage
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import Item

IMAGES = ("jpg", "jpeg", "png", "webp")
TEXTS = ("json", "txt")


@DATASETS.register_module()
class Shards:
    """Images with captions or conversations in tar files of webdataset's layout.

    The members of a sample stand side by side and share their name up to its first dot: `000012.jpg`, `000012.txt`. An
    image is needed, and a `.txt`, which is its caption, or a `.json`: with `conversations` as in LLaVA's format, else
    with `caption`. Where there are both, `.json` is read if it holds one of these.

    Args:
        filename: one tar file, or a pattern such as `data/cc3m/*.tar`; shards are taken in the order of their names.
        questions: a pool with `<image>`, asked where the answer is a caption.
        regions: as for Instruct.

    Raises:
        DataError: no such file; one that is no tar file, or a compressed one; a sample without image or text.

    Source: the webdataset format, github.com/webdataset/webdataset.
    """

    def __init__(
        self, *, filename: PathName, questions: PathName, regions: ConventionConfig | None = None, seed: int = 0
    ) -> None:
        self.paths = sorted(glob.glob(filename))
        if not self.paths:
            raise DataError(where=filename, expected="a shard, *.tar", found="no such file", kind="missing-file")
        self.questions = Questions(questions)
        self.convention = None if regions is None else in_field("regions", read_convention, regions)
        self.seed = seed
        self.epoch: int | None = None
        self._samples = [_samples(path) for path in self.paths]
        self._starts = np.cumsum([0, *map(len, self._samples)])  # [shards + 1]

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> Item:
        if not 0 <= index < len(self):
            raise IndexError(f"{self.paths[0]}: sample {index} of {len(self)}")
        shard = int(np.searchsorted(self._starts, index, side="right")) - 1
        number = index - int(self._starts[shard])
        where = f"{self.paths[shard]}[{number}]"
        spans: list[int] = self._samples[shard][number].tolist()
        image = MemberImage(path=self.paths[shard], start=spans[0], end=spans[1], name=f"sample {number}")
        try:
            record = self._record(self._texts(self.paths[shard], spans[2:]), image, index)
        except DataError as error:
            raise error.at(where) from error
        item = read_item(record, key=where)
        return item if self.convention is None else lift_item(item, self.convention)

    def set_epoch(self, epoch: int | None) -> None:
        self.epoch = epoch

    def _record(self, texts: dict[str, str], image: MemberImage, index: int) -> dict[str, Any]:
        line: dict[str, Any] = {}
        if "json" in texts:
            line = parse_json(texts["json"], dict, "json")
        if "conversations" in line:
            return as_written(line, image)
        if "caption" not in line and "txt" in texts:
            line = {"caption": texts["txt"].strip()}
        caption = text_field(line, "caption")
        rng = None if self.epoch is None else seeded_rng(self.seed, self.epoch, index)
        turns = [
            {"from": "human", "value": self.questions.draw(rng)},
            {"from": "gpt", "value": caption},
        ]
        return {"image": image, "conversations": turns}

    def _texts(self, path: str, spans: list[int]) -> dict[str, str]:
        found: dict[str, str] = {}
        with open(path, "rb", buffering=0) as file:
            for name, start, end in zip(TEXTS, spans[::2], spans[1::2], strict=True):
                if end > 0:
                    found[name] = decode_utf8(os.pread(file.fileno(), end - start, start), name)
        return found


def _samples(path: str) -> NDArray[np.int64]:
    """int64 [samples, 6]: first byte and end of the image, the json and the txt, 0 where there is none."""

    def fits(found: NDArray[np.int64]) -> bool:
        if found.ndim != 2 or found.shape[1] != 6 or not len(found):
            return False
        size = os.path.getsize(path)
        images = found[probes(len(found)), :2].tolist()
        return all(0 < start <= end <= size and start % tarfile.BLOCKSIZE == 0 for start, end in images)

    return cached_array(Path(path), ".samples.npy", "shards", lambda: _scan(path), fits)


def _check_end(path: str, end: int) -> None:
    """A tar file ends with blocks of zeros; tarfile is silent where it does not, and leaves out what is missing."""
    with open(path, "rb") as file:
        file.seek(end)
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            size = os.path.getsize(path)
            expected, found = "an empty block as the end", f"none at byte {end} of {size}: cut off?"
            raise DataError(where=path, expected=expected, found=found, kind="unreadable-file")


def _scan(path: str) -> NDArray[np.int64]:
    check_file(path)
    rows: list[list[int]] = []
    keys: list[str] = []
    try:
        with tarfile.open(path, mode="r:") as tar:
            for member in tar:
                folder, _, name = member.name.rpartition("/")
                stem, _, kind = name.partition(".")
                if not member.isreg() or member.issparse() or not stem:
                    continue
                key = f"{folder}/{stem}"
                if not keys or keys[-1] != key:
                    keys.append(key)
                    rows.append([0] * 6)
                slot = 0 if kind.lower() in IMAGES else 2 + 2 * TEXTS.index(kind) if kind in TEXTS else None
                if slot is not None and rows[-1][slot + 1]:
                    expected = f"one {'image' if slot == 0 else kind}"
                    found = f"another, {name}"
                    raise DataError(where=path, field=key.removeprefix("/"), expected=expected, found=found)
                if slot is not None:
                    rows[-1][slot : slot + 2] = [member.offset_data, member.offset_data + member.size]
            end = tar.offset
    except (OSError, tarfile.TarError, ArithmeticError, ValueError) as error:  # sizes may be any numbers
        reason = f"not a tar file, or a compressed one: {error}"
        raise DataError(reason, where=path, kind="unreadable-file") from error
    _check_end(path, end)
    for key, row in zip(keys, rows, strict=True):
        if not row[1] or not (row[3] or row[5]):
            kinds = f"an image ({', '.join(IMAGES)}) and a text ({', '.join(TEXTS)})"
            raise DataError(where=path, field=key.removeprefix("/"), expected=kinds, kind="missing-field")
    if not rows:
        raise DataError(where=path, expected="at least one sample", found="none", kind="empty-file")
    return np.array(rows, np.int64)

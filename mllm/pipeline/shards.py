"""Work divided into shards: contiguous ranges of what there is to read, whose parts are files in one folder.

A shard knows nothing of the others, so any number of machines that share the folder may work at once. Parts take their
names once they are complete, and are put together in the order of their shards: the result is that of one process.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mllm.errors import RunError


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number` of `count`, from 0."""

    number: int
    count: int

    def of(self, total: int) -> range:
        """Its part of the numbers below `total`; the sizes of parts differ by one at most."""
        return range(total * self.number // self.count, total * (self.number + 1) // self.count)


class Job(Protocol):
    """What is done for every shard, in stages; a stage may read all parts of those before it."""

    stages: Sequence[str]

    def work(self, stage: str, shard: Shard, folder: Path) -> None:
        """Write the shard's part of a stage into the folder of all parts, by `new_part`."""
        ...


def part(folder: Path, stage: str, number: int) -> Path:
    """Where a part lies."""
    return folder / stage / f"{number:05}"


@contextmanager
def new_part(folder: Path, stage: str, shard: Shard) -> Generator[Path, None, None]:
    """A folder for the files of a part, which takes its name at the end; one from an earlier try is replaced."""
    target = part(folder, stage, shard.number)
    partial = target.with_name(f"{target.name}.partial-{os.getpid()}")
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def parts(folder: Path, stage: str, count: int) -> list[Path]:
    """The parts of a stage in order.

    Raises:
        RunError: some are not there.
    """
    found = [part(folder, stage, number) for number in range(count)]
    missing = [path.name for path in found if not path.is_dir()]
    if missing:
        raise RunError(
            where=str(folder / stage),
            expected=f"{count} parts",
            found=f"none of {', '.join(missing[:8])}",
            kind="parts",
        )
    return found

"""Work divided into shards: contiguous ranges of what there is to read, whose parts are files in one folder.

A shard knows nothing of the others, so any number of machines that share the folder may work at once. Parts take their
names once they are complete, and are put together in the order of their shards: the result is that of one process.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mllm.errors import ConfigError, RunError
from mllm.files import read_json


@dataclass(frozen=True, slots=True)
class Shard:
    """Number `number` of `count`, from 0."""

    number: int
    count: int

    def of(self, total: int) -> range:
        """Its part of the numbers below `total`; the sizes of parts differ by one at most."""
        return range(total * self.number // self.count, total * (self.number + 1) // self.count)


WHOLE = Shard(0, 1)


class Job(Protocol):
    """What is done for every shard, in stages; a stage may read all parts of those before it."""

    @property
    def stages(self) -> Sequence[str]: ...

    def open(self) -> None:
        """Open what the shards will read: indexes are made once, and mistakes are found before anything is started."""
        ...

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
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.partial-", dir=target.parent))
    try:
        yield partial
        if target.exists():
            shutil.rmtree(target)
        partial.rename(target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def stage_parts(folder: Path, stage: str, count: int) -> list[Path]:
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
        )
    return found


def unfinished(folder: Path, stages: Sequence[str], count: int) -> int:
    """How many parts of all stages are not there yet."""
    return sum(not part(folder, stage, number).is_dir() for stage in stages for number in range(count))


def work_here(job: Job, folder: Path, count: int) -> None:
    """Write the parts that are not there yet, one after the other, in this process and its workers."""
    for stage in job.stages:
        for number in range(count):
            if not part(folder, stage, number).is_dir():
                job.work(stage, Shard(number, count), folder)


def claim(folder: Path, about: Mapping[str, object], data: object) -> None:
    """Mark a folder as that of one job, or see that it is that of the same job on the same data.

    Args:
        about: what the job is made of, in JSON's types.
        data: a config of datasets; the files that it names count as they are now.

    Raises:
        ConfigError: the folder is another job's.
    """
    said = json.loads(json.dumps({**about, "files": _files(data)}))
    path = folder / "job.json"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not any(folder.iterdir()):
            path.write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")
            return
    except OSError as error:
        raise ConfigError(f"cannot be used: {error.strerror}", where=str(folder)) from error
    if not path.exists():
        raise ConfigError(
            "name another folder", where=str(folder), expected="an empty folder or that of a job", found="other files"
        )
    before = read_json(path, dict, ConfigError)
    changed = [name for name in said if said[name] != before.get(name)]
    if changed:
        raise ConfigError(
            "name another folder, or delete it",
            where=str(folder),
            expected="the parts of this job",
            found=f"those of another, {', '.join(changed)} differ",
        )


def _files(data: object) -> dict[str, list[int]]:
    """Size and time of the files that are named anywhere in a config."""
    if isinstance(data, Mapping):
        data = list(data.values())
    if isinstance(data, (list, tuple)):
        return {path: state for each in data for path, state in _files(each).items()}
    if not isinstance(data, str) or not os.path.isfile(data):
        return {}
    state = os.stat(data)
    return {data: [state.st_size, state.st_mtime_ns]}

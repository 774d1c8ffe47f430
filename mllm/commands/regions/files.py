"""`mllm regions convert`: a file whose regions are written in another convention, by shards or at once."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TextIO

from mllm.commands.data.workers import in_order
from mllm.commands.regions.convert import Conversion, ConversionCounts
from mllm.commands.shards import WHOLE, Shard, new_part, stage_parts
from mllm.conversation.convention import Convention
from mllm.dataset.files.jsonl import IndexedJsonl
from mllm.errors import ConfigError, DataError, ImageError, MllmError
from mllm.files import writing_to

ERRORS: dict[str, type[MllmError]] = {each.__name__: each for each in (ConfigError, DataError, ImageError)}


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionsJob:
    """The conversion of a file. `run` gives its lines as they are written, `merged` those of parts."""

    lines: IndexedJsonl
    source: Convention
    target: Convention | None
    """None: typed regions."""
    image_folder: str | None = None
    keep: bool = False
    workers: int | None = None
    stages: Sequence[str] = ("convert",)

    def open(self) -> None:
        """Its lines are open."""

    def run(self, counts: ConversionCounts, shard: Shard = WHOLE) -> Iterator[str]:
        """Convert a shard; what is done is added to `counts`.

        Raises:
            DataError, ConfigError: of the first record that cannot be converted, see `Conversion.record`.
        """
        numbers, title = shard.of(len(self.lines)), Path(self.lines.path).name
        for text, done in in_order(numbers, self._line, workers=self.workers, title=title, unit="line"):
            counts.include(done)
            yield text

    def work(self, stage: str, shard: Shard, folder: Path) -> None:
        """Write a shard's lines and counts, and the error that the lines end with where one cannot be converted."""
        counts, error = ConversionCounts(), None
        with new_part(folder, stage, shard) as target:
            with _text(target / "lines") as file:
                try:
                    for text in self.run(counts, shard):
                        file.write(text + "\n")
                except (ConfigError, DataError) as raised:
                    error = [type(raised).__name__, str(raised)]
            (target / "done.json").write_text(json.dumps({"counts": asdict(counts), "error": error}))

    def merged(self, counts: ConversionCounts, folder: Path, shards: int) -> Iterator[str]:
        """As `run`, of parts that are all there. Parts that end with an error are removed, to be made anew.

        Raises:
            RunError: they are not. Otherwise as `run`.
        """
        folders = stage_parts(folder, "convert", shards)
        done = [json.loads((path / "done.json").read_text()) for path in folders]
        errors = [each["error"] for each in done if each["error"]]
        for path, each in zip(folders, done, strict=True):
            if each["error"]:
                shutil.rmtree(path)
        if errors:
            name, message = errors[0]
            raise ERRORS[name](message)
        for path, each in zip(folders, done, strict=True):
            counts.include(ConversionCounts(**each["counts"]))
            with (path / "lines").open(encoding="utf-8", newline="\n") as file:
                yield from (text.removesuffix("\n") for text in file)

    def _line(self, number: int) -> tuple[str, ConversionCounts]:
        conversion = Conversion(source=self.source, target=self.target, image_folder=self.image_folder, keep=self.keep)
        record = conversion.record(self.lines[number], self.lines.where(number))
        return json.dumps(record, ensure_ascii=False), conversion.counts


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """One object a line, or one array where the name ends in `.json`; the file takes its name once it is complete.

    Raises:
        ConfigError: it cannot be written.
    """
    array = path.suffix.lower() == ".json"
    with _complete(path) as file:
        for number, line in enumerate(lines):
            before = (",\n" if number else "[\n") if array else ""
            file.write(before + line + ("" if array else "\n"))
        file.write("\n]\n" if array else "")


@contextmanager
def _complete(path: Path) -> Generator[TextIO, None, None]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    with writing_to(path):
        try:
            with _text(unfinished) as file:
                yield file
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)


def _text(path: Path) -> TextIO:
    """Half a character, which UTF-8 cannot hold, is written as JSON spells it."""
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="\n")

"""`mllm regions convert`: the regions in the texts of a dataset or a predictions file, in another convention."""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TextIO, cast

from tqdm.auto import tqdm
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from mllm.conversation.conversion import Convention, ConversionError, rewrite
from mllm.dataset.lines import Lines
from mllm.errors import ConfigError, DataError
from mllm.geometry import Placement, PlacementKind, place, resize
from mllm.images import image_ref
from mllm.registry import REGIONS

OWN_PLACEMENT = {"paligemma": "squash", "qwen25_vl": "aspect"}
"""How a family's own preprocessing lays a picture out; of the others with a canvas: `pad`."""
PATCHES = 28
"""Qwen2.5-VL's pictures have sides that are multiples of it: two patches of 14 pixels."""
PICTURE_FIELDS = ("image", "img_path", "image_path", "file_path", "img_fn")
KEY = re.compile(r"(?P<file>.+?)(?::(?P<line>\d+)|\[(?P<entry>\d+)\])")


def convert(args: argparse.Namespace) -> None:
    conversion = Conversion(
        source=_convention(args.source, args.from_placement or args.placement, args),
        target=_convention(args.target, args.to_placement or args.placement, args),
        image_folder=args.image_folder,
        keep=args.unreadable == "keep",
    )
    lines = Lines(args.input)
    numbers = tqdm(range(len(lines)), desc=Path(args.input).name, unit="line", disable=None)
    write_records(Path(args.output), (conversion.record(lines[n], lines.where(n)) for n in numbers))
    print(f"{args.output}: {conversion.groups} groups of regions in {conversion.texts} texts now read as {args.target}")
    if conversion.kept:
        print(f"{len(conversion.kept)} texts left as they were, the first: {conversion.kept[0]}")
    if not conversion.groups:
        print(f"nothing in {args.input} reads as {args.source}")


def _convention(name: str, placement: str | None, args: argparse.Namespace) -> Convention:
    if args.image_size < 1 or not 0 < args.min_pixels <= args.max_pixels:
        raise ConfigError(
            "expected --image-size > 0 and 0 < --min-pixels <= --max-pixels, "
            f"found {args.image_size}, {args.min_pixels}, {args.max_pixels}"
        )
    return Convention(
        name=name,
        codec=REGIONS.make(name),
        placement=layout(
            placement or OWN_PLACEMENT.get(name, "pad"), args.image_size, args.min_pixels, args.max_pixels
        ),
    )


def layout(kind: str, side: int, min_pixels: int, max_pixels: int) -> Callable[[tuple[int, int]], Placement]:
    """`pad`, `crop`, `squash` to a square of `side`, or `aspect`: Qwen2.5-VL's multiples of 28 pixels."""

    def aspect(size: tuple[int, int]) -> Placement:
        try:
            height, width = smart_resize(size[1], size[0], PATCHES, min_pixels, max_pixels)
        except ValueError as error:
            raise ConversionError(f"a picture of {size[0]} x {size[1]} has no {kind} placement: {error}") from error
        return resize(size, (width, height))

    def square(size: tuple[int, int]) -> Placement:
        return place(cast(PlacementKind, kind), size, side)

    return aspect if kind == "aspect" else square


@dataclass(slots=True, kw_only=True)
class Conversion:
    """Records of a file with their texts rewritten, and a count of what was done."""

    source: Convention
    target: Convention
    image_folder: str | None = None
    keep: bool = False
    """Leave a text whose regions cannot be read as it is."""
    texts: int = 0
    groups: int = 0
    kept: list[str] = field(default_factory=list[str])
    """Where the texts stand that were left, and why."""

    def record(self, record: dict[str, Any], where: str) -> dict[str, Any]:
        """A line of a dataset or of a predictions file, converted.

        Raises:
            DataError: neither of the two; a text that cannot be converted (unless `keep`); a picture without a size.
        """
        turns = record.get("conversations")
        if isinstance(turns, list):
            size = partial(picture_size, record, where, self.image_folder)
            places = (f"{where}: conversations[{number}]" for number in range(len(turns)))
            return {**record, "conversations": [self._turn(*of, size) for of in zip(turns, places, strict=True)]}
        if "text" in record and "key" in record:
            size = partial(_size_by_key, record, where, self.image_folder)
            return {**record, "text": self._text(record["text"], f"{where}: text", size)}
        raise DataError(
            f"{where}: expected a list 'conversations', or 'key' and 'text' of a prediction, "
            f"found {', '.join(record) or 'no fields'}"
        )

    def _turn(self, turn: Any, where: str, size: Callable[[], tuple[int, int]]) -> dict[str, Any]:
        if not isinstance(turn, dict) or "value" not in turn:
            raise DataError(f"{where}: expected an object with 'value', found {str(turn)[:60]}")
        return {**turn, "value": self._text(turn["value"], f"{where}.value", size)}

    def _text(self, text: Any, where: str, size: Callable[[], tuple[int, int]]) -> str:
        if not isinstance(text, str):
            raise DataError(f"{where}: expected a text, found {str(text)[:60]}")
        try:
            written, groups = rewrite(text, size, source=self.source, target=self.target)
        except ConversionError as error:
            if not self.keep:
                raise error.at(where) from error
            self.kept.append(f"{where}: {error}")
            return text
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        self.texts += bool(groups)
        self.groups += groups
        return written


def picture_size(line: dict[str, Any], where: str, folder: str | None) -> tuple[int, int]:
    """(width, height) in pixels of the picture of an annotation line.

    Raises:
        DataError: the line names no picture, or several; there is no such picture.
    """
    if "width" in line or "height" in line:
        return _whole(line, "width", where), _whole(line, "height", where)
    several = line.get("images")
    named = several if isinstance(several, list) else [line[name] for name in PICTURE_FIELDS if line.get(name)]
    if len(named) != 1:
        raise DataError(
            f"{where}: expected 'width' and 'height', or one picture in {', '.join(PICTURE_FIELDS)}, "
            f"found {len(named)} (the record has {', '.join(line) or 'no fields'})"
        )
    try:
        return image_ref(named[0], folder).size
    except DataError as error:
        raise error.at(where) from error


def _size_by_key(prediction: dict[str, Any], where: str, folder: str | None) -> tuple[int, int]:
    """The size of a prediction's picture: its own, else that of the annotation line which its key names."""
    match = KEY.fullmatch(str(prediction["key"]))
    if "width" in prediction or match is None:
        return picture_size(prediction, where, folder)
    try:
        lines = _annotations(match["file"])
        line = lines[int(match["line"]) - 1 if match["line"] else int(match["entry"])]
    except (DataError, IndexError) as error:
        raise DataError(f"{where}: the annotation line that 'key' names, for the picture's size: {error}") from error
    return picture_size(line, f"{where}: key {prediction['key']}", folder)


@lru_cache(maxsize=16)
def _annotations(path: str) -> Lines:
    return Lines(path)


def _whole(line: dict[str, Any], name: str, where: str) -> int:
    value = line.get(name)
    if type(value) is not int or value < 1:
        raise DataError(f"{where}: {name}: expected a whole number of pixels, found {value!r}")
    return value


def write_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """One object a line, or one array where the name ends in `.json`; the file takes its name once it is complete.

    Raises:
        ConfigError: it cannot be written.
    """
    array = path.suffix.lower() == ".json"
    with _complete(path) as file:
        for number, record in enumerate(records):
            before = (",\n" if number else "[\n") if array else ""
            file.write(before + json.dumps(record, ensure_ascii=False) + ("" if array else "\n"))
        file.write("\n]\n" if array else "")


@contextmanager
def _complete(path: Path) -> Generator[TextIO, None, None]:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with unfinished.open("w", encoding="utf-8") as file:
            yield file
        os.replace(unfinished, path)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)

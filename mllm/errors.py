"""The exceptions that users see. `except MllmError` catches everything that a user can fix.

MllmError
├── ConfigError   a config file, a flag or a name in it
│   └── UsageError    a command line that no command understands: exit status 2
├── DataError     an annotation record or an image
│   └── ImageError    an image that cannot be read, the only fault that training may skip
├── ModelError    a checkpoint, or a model and a processor that do not fit
└── RunError      a run that cannot continue: diverged training, an output folder in use

An error carries the parts of its message, so that programs do not have to parse it:

    raise DataError(where="train.jsonl:12", field="bbox", expected="4 numbers", found=show(value), kind="coordinates")
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

E = TypeVar("E", bound="MllmError")

FAULTS_LISTED = 20
"""Faults of one kind that a message lists at most."""
MAX_LISTED = 40
"""Names that a message lists at most."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

KINDS = {
    "missing-file": "the file does not exist",
    "unreadable-file": "the file cannot be read",
    "empty-file": "the file holds no record",
    "encoding": "the file is not UTF-8",
    "json": "the line, or the file, is not valid JSON of the expected form",
    "blank-line": "an empty line between records",
    "missing-field": "a field that the dataset reads is missing",
    "unknown-field": "a field that nothing reads",
    "wrong-type": "a value of another type, or not one of the allowed values",
    "blank-text": "a text without a word",
    "reserved-word": "`<image>`, `<boxes>`, `<points>` or `<spans>` in a text that is put into a template",
    "half-character": "a text that was cut between two `\\u` escapes",
    "missing-record": "the record refers to one that is not in the other file",
    "long-text": "a text of more than 200,000 characters",
    "duplicate-key": "a key that occurs twice in a JSON object, or an id that occurs twice in a file of ids",
    "coordinates": "a region with the wrong number of coordinates, or a time span that ends before it begins",
    "not-finite": "a number that is infinite or NaN",
    "inverted-box": "x1 > x2 or y1 > y2",
    "unseen-region": "a box or point where the model sees nothing of the image",
    "region-index": "an index of a box, point or image that does not exist",
    "image-number": "a group on several images that have no numbers, or on an image that the question is not about",
    "words-region": "a box or point in words that cannot be read in the convention that the dataset names",
    "placeholder-count": "not exactly one group for each `<boxes>`, `<points>` or `<spans>`",
    "image-count": "not exactly one `<image>` for each image, or one `<video>`",
    "image-in-answer": "`<image>` in an answer",
    "turn-order": "human and gpt turns do not alternate",
    "role": "a turn from someone other than `human` and `gpt`",
    "no-turns": "a conversation without turns",
    "no-answer": "a conversation that must end with an answer and does not",
    "image-path": "a path that leaves `image_folder`, or a URL of a protocol that is not allowed",
    "missing-image": "the image does not exist",
    "truncated-image": "the image file is cut off",
    "unreadable-image": "the image cannot be opened or decoded",
    "cut-image": "`max_length` would cut an image",
    "overlap": "a demonstration that is in the test set, or has an image of it",
    "unsupported": "an image, video or region that this model, template or codec has no form for",
}
"""The kinds of faults that `mllm data check` counts, with their meanings."""


class MllmError(Exception):
    """Anything wrong that a user can fix; one line that says where, what was expected and what was found.

    Attributes:
        kind: one of `KINDS`, which faults are counted by; "" for other errors.
        where: `file:line`, a path, a config key or a command-line flag.
        field: the field at that place, such as `target.boxes[3]`.
        expected: what was expected there.
        found: what was found, see `mllm.fields.show`.
        message: what is wrong, if `expected` and `found` do not say it; otherwise what to do about it.
    """

    usual_kind = ""

    def __init__(
        self,
        message: str = "",
        *,
        kind: str = "",
        where: str = "",
        field: str = "",
        expected: str = "",
        found: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.kind = kind or self.usual_kind
        self.where = where
        self.field = field
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        return printable(f"{self.where}: {self._said}" if self.where and self._said else self.where or self._said)

    @property
    def reason(self) -> str:
        """The message without `where`."""
        return printable(self._said)

    @property
    def _said(self) -> str:
        found = f", found {self.found}" if self.found else ""
        said = f"expected {self.expected}{found}" if self.expected else ""
        body = "; ".join(part for part in (said, self.message) if part)
        return ": ".join(part for part in (self.field, body) if part)

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.__dict__)

    def at(self: E, where: str) -> E:
        """This error, which happened at `where`. A place that it names already becomes a part of the message."""
        error = copy.copy(self) if self.where in ("", where) else self._as_message()
        error.where = where
        return error

    def inside(self: E, field: str) -> E:
        """This error, of what is itself a `field` of a record: `boxes[0]` inside `target` is `target.boxes[0]`."""
        error = self._as_message() if self.where else copy.copy(self)
        dot = "" if not error.field or error.field.startswith("[") else "."
        error.field = f"{field}{dot}{error.field}"
        return error

    def _as_message(self: E) -> E:
        """An error without a place, whose message is all that this one says."""
        error = copy.copy(self)
        error.message = str(self)
        error.where = error.field = error.expected = error.found = ""
        return error


def _rebuilt(kind: type[MllmError], attributes: dict[str, object]) -> MllmError:
    error = kind.__new__(kind, attributes.get("message", ""))
    error.__dict__.update(attributes)
    return error


class ConfigError(MllmError):
    """A config file, a command-line flag, or a name they hold."""


class UsageError(ConfigError):
    """The words of a command line: an unknown flag, a missing value, a value of another type."""


class DataError(MllmError):
    """An annotation record or an image; names file, line and field."""


class ImageError(DataError):
    """An image that cannot be fetched or decoded; `data_args.images.on_error` says what training does then."""

    usual_kind = "unreadable-image"


class ModelError(MllmError):
    """A checkpoint that does not fit, or a model and a processor that disagree."""


class RunError(MllmError):
    """A run that cannot go on, for what happened in it or to its output folder."""


def printable(text: str, *, keep: str = "") -> str:
    """The text with line breaks, and what else a terminal obeys, spelled out; but for the characters in `keep`."""
    return CONTROL.sub(lambda match: match[0] if match[0] in keep else repr(match[0])[1:-1], text)


def listing(faults: Iterable[str]) -> str:
    """What is wrong in several places, on one line; of many the first."""
    every = list(faults)
    more = f"; and {len(every) - FAULTS_LISTED} more" if len(every) > FAULTS_LISTED else ""
    return "; ".join(every[:FAULTS_LISTED]) + more


def one_line(error: BaseException, most: int = 200) -> str:
    """What a library's error says, on one line of at most so many characters."""
    return " ".join(str(error).split())[:most] or type(error).__name__


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'a', 'b'?"`, or the whole list of `known` names where none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(map(repr, near))}?"
    more = f", ... ({len(names)} in all)" if len(names) > MAX_LISTED else ""
    return f"known: {', '.join(names[:MAX_LISTED]) or 'none'}{more}"

"""The exceptions users meet: one tree, so that `except MllmError` catches what is theirs to fix.

MllmError
├── ConfigError   a config file, a flag or a name in it
├── DataError     an annotation record or an image
│   └── ImageError    an image that cannot be read, the only fault that training may skip
├── ModelError    a checkpoint, or a model and a processor that do not fit
└── RunError      a run that cannot go on: diverged training, an output folder in use

An error carries what its message is made of, so that programs need not read English:

    raise DataError(where="train.jsonl:12", field="bbox", expected="4 numbers", found=show(value), kind="coordinates")
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any, TypeVar

E = TypeVar("E", bound="MllmError")


class MllmError(Exception):
    """Anything wrong that a user can fix; one line that says where, what was expected and what was found.

    Attributes:
        kind: a short stable name, such as "missing-field", by which faults are counted; "" where nobody counts them.
        where: `file:line`, a path, a config key or a command-line flag.
        field: the field at that place, such as `target.boxes[3]`.
        expected: what should stand there.
        found: what stands there, see `mllm.fields.show`.
        message: what is wrong where `expected` and `found` do not say it, or what to do about it where they do.
    """

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
        self.kind = kind
        self.where = where
        self.field = field
        self.expected = expected
        self.found = found

    def __str__(self) -> str:
        found = f", found {self.found}" if self.found else ""
        said = f"expected {self.expected}{found}" if self.expected else ""
        body = "; ".join(part for part in (said, self.message) if part)
        return ": ".join(part for part in (self.where, self.field, body) if part)

    def __reduce__(self) -> Any:
        return _rebuilt, (type(self), self.__dict__)

    def at(self: E, where: str) -> E:
        """This error, which happened at `where`; a place that it names already stands behind that."""
        error = copy.copy(self)
        error.where = ": ".join(part for part in (where, self.where) if part)
        return error

    def inside(self: E, field: str) -> E:
        """This error, of what is itself a `field` of a record: `boxes[0]` inside `target` is `target.boxes[0]`."""
        error = copy.copy(self)
        dot = "" if not self.field or self.field.startswith("[") else "."
        error.field = f"{field}{dot}{self.field}"
        return error


def _rebuilt(kind: type[MllmError], attributes: dict[str, Any]) -> MllmError:
    error = kind.__new__(kind, attributes.get("message", ""))
    error.__dict__.update(attributes)
    return error


class ConfigError(MllmError):
    """A config file, a command-line flag, or a name they hold."""


class DataError(MllmError):
    """An annotation record or an image; names file, line and field."""


class ImageError(DataError):
    """An image that cannot be fetched or decoded; `data_args.images.on_error` says what training does then."""


class ModelError(MllmError):
    """A checkpoint that does not fit, or a model and a processor that disagree."""


class RunError(MllmError):
    """A run that cannot go on, for what happened in it or to its output folder."""


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'a', 'b'?"`, or the whole list of `known` names where none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(map(repr, near))}?"
    return f"known: {', '.join(names) or 'none'}"

"""The exceptions users meet: one tree, so that `except MllmError` catches what is theirs to mend.

MllmError
├── ConfigError   a config file, a flag or a name in it
├── DataError     an annotation record or a picture
│   └── ImageError    a picture that cannot be read, the only fault that training may skip
└── ModelError    a checkpoint, or a model and a processor that do not fit
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from difflib import get_close_matches


class MllmError(Exception):
    """Anything wrong that a user can mend; the message says where and how."""


class ConfigError(MllmError):
    """A config file, a command-line flag, or a name they hold."""


class DataError(MllmError):
    """An annotation record or a picture; names file, line and field."""


class ImageError(DataError):
    """A picture that cannot be fetched or decoded; `data_args.images.on_error` says what training does then."""


class ModelError(MllmError):
    """A checkpoint that does not fit, or a model and a processor that disagree."""


def reported(work: Callable[[], int | None], *, failed: int = 1) -> int:
    """The exit status of the work (None is 0), or `failed` with its MllmError on one line."""
    try:
        return work() or 0
    except MllmError as error:
        message = str(error)
        if message.startswith("Caught "):  # from a DataLoader's worker, whose whole traceback it is
            message = message.splitlines()[-1].partition(": ")[2]
        print(f"{type(error).__name__}: {message}", file=sys.stderr)
        return failed


def nearest(name: str, known: Iterable[str]) -> str:
    """`"did you mean 'a', 'b'?"`, or the whole list of `known` names where none is near."""
    names = sorted(known)
    near = get_close_matches(name, names, n=3, cutoff=0.6)
    if near:
        return f"did you mean {', '.join(map(repr, near))}?"
    return f"known: {', '.join(names) or 'none'}"

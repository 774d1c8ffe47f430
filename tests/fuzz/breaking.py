"""Ways in which a file is broken."""

from __future__ import annotations

import json
import os
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

TEXTS = (".json", ".jsonl", ".txt", ".py")


def _missing(path: Path) -> None:
    path.unlink()


def _rewritten(content: Callable[[bytes], bytes | None]) -> Callable[[Path], bool | None]:
    """A way that writes other content; where there is none for this file, it does not apply."""

    def write(path: Path) -> bool | None:
        after = content(path.read_bytes())
        if after is None:
            return False
        path.unlink()  # it may be a link to the whole one
        path.write_bytes(after)
        return None

    return write


def _noise(before: bytes) -> bytes:
    return random.Random(0).randbytes(max(16, len(before)))


def _middle(before: bytes) -> bytes | None:
    """Some bytes in the middle are others; an image or weights may be read all the same, so texts only."""
    middle = len(before) // 2
    return before[:middle] + b"\xff\x00\xfe" + before[middle + 3 :] if _is_text(before) else None


def _digits(before: bytes) -> bytes | None:
    """The first number of each line has 400 digits."""
    if not _is_text(before):
        return None
    after = re.sub(rb"(?m)(?<=[:\[, ])-?\d+(\.\d+)?(?=[,\]}\n ])", b"1" + b"0" * 400, before, count=1)
    return after if after != before else None


def _another_type(before: bytes) -> bytes | None:
    return {b"{": b"[7]\n", b"[": b'{"seven": 7}\n'}.get(before.lstrip()[:1]) if _is_text(before) else None


def _values_of_another_type(before: bytes) -> bytes | None:
    """Each value of an object, or of a list, is another kind of thing."""
    try:
        record = json.loads(before.splitlines()[0] if before.count(b"\n{") else before)
    except ValueError:
        return None
    if isinstance(record, list):
        return json.dumps([_another(value) for value in record]).encode() if record else None
    return json.dumps({key: _another(value) for key, value in record.items()}).encode() if record else None


def _another(value: Any) -> Any:
    return [["x"]] if isinstance(value, (str, int, float, dict)) or value is None else {"x": 7}


def _deep(before: bytes) -> bytes | None:
    return b'{"a":' * 200_000 + b"1" + b"}" * 200_000 if _is_text(before) else None


def _is_text(before: bytes) -> bool:
    return before.lstrip()[:1] in (b"{", b"[") and b"\x00" not in before


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def _nowhere(path: Path) -> None:
    path.unlink()
    path.symlink_to("nowhere")


WAYS: dict[str, Callable[[Path], bool | None]] = {
    "missing": _missing,
    "empty": _rewritten(lambda before: b""),
    "truncated": _rewritten(lambda before: before[: len(before) * 3 // 5]),
    "without_its_end": _rewritten(lambda before: before[:-2]),
    "noise": _rewritten(_noise),
    "bytes_in_the_middle": _rewritten(_middle),
    "400_digits": _rewritten(_digits),
    "another_type": _rewritten(_another_type),
    "values_of_another_type": _rewritten(_values_of_another_type),
    "deep": _rewritten(_deep),
    "a_folder": _folder,
    "a_pipe": _pipe,
    "a_link_to_itself": _loop,
    "a_link_to_nothing": _nowhere,
}
"""Each breaks the file at a path, or says that it does not apply to it by returning False."""

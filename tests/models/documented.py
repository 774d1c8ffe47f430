"""What the docs say of each type of model, and how an error is named there."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mllm.errors import MllmError

DOCS = Path(__file__).parents[2] / "docs" / "mix_and_match.md"


def documented(heading: str = "Language models") -> dict[str, str]:
    """What a table of the docs says of each type: "batched, shared, packed" or the like, or why it is refused."""
    found: dict[str, str] = {}
    section = DOCS.read_text(encoding="utf-8").partition(f"## {heading}\n")[2].partition("\n## ")[0]
    for line in section.splitlines():
        said, _, types = line.strip("| ").partition(" | `")
        for name in re.findall(r"`([^`]+)`", f"`{types}"):
            assert name not in found, f"{name} stands in two rows"
            found[name] = said
    return found


def error_of(work: Callable[[], Any]) -> str | None:
    """The one line of an MllmError that the work raises; None: it raises none."""
    try:
        work()
    except MllmError as error:
        line = str(error)
    else:
        return None
    assert "\n" not in line
    return line


def reason(refused: str) -> str:
    """The part of a refusal that is the same for all types: without their names, and what a library said."""
    said = re.sub(r"^model 'llava': (language_model|vision_tower)(\.model_type)?: [\w-]+:? ", "", refused)
    return re.split(r"(?<=defaults|.missing|..config|...alone|..square): |, model_type ", said)[0]

"""Configs, question files and example photos that come with the package.

A name below `config/` or `examples/` means the file in the working directory; where there is none, the one that came
with the package. In a clone that is the clone's own.
"""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import Any

PACKAGE = Path(__file__).parents[1]
SHIPPED_FOLDERS = ("config", "examples")


def shipped_root() -> Path:
    """The folder that holds `SHIPPED_FOLDERS`: inside an installed package, or the root of a clone."""
    installed = PACKAGE / "shipped"
    return installed if installed.is_dir() else PACKAGE.parent


def find_shipped(path: str) -> str:
    """The path as it is, or the shipped file that it names where the working directory has none."""
    parts = PurePath(path).parts
    if len(parts) < 2 or parts[0] not in SHIPPED_FOLDERS or ".." in parts or os.path.exists(path):
        return path
    found = os.path.join(shipped_root(), *parts)
    return found if os.path.exists(found) else path  # also of a text that is no path, such as one too long


def with_shipped(section: object) -> Any:
    """A config section in which every text that names a shipped file says where it lies."""
    if isinstance(section, dict):
        return {name: with_shipped(value) for name, value in section.items()}
    if isinstance(section, (list, tuple)):
        return type(section)(map(with_shipped, section))
    return find_shipped(section) if isinstance(section, str) else section

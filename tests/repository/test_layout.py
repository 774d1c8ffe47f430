"""The tests mirror mllm/: a test is where one looks for it."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
ACROSS = {
    "fuzz": "wrong configs and broken files, whatever reads them",
    "launch": "several processes",
    "repository": "docs, configs and this layout",
    "runs": "whole runs",
    "tools": "tools/, which they mirror",
    "images/test_bounds.py": "files of strangers, whatever reads them",
}
"""Tests of what no single file of mllm/ does, and of what lies outside of it."""


def source_of(test: Path) -> list[Path]:
    """The file that `tests/X/test_y.py` is about, `mllm/X/y.py`; of a folder's own test, `tests/X/test_X.py`, that."""
    folder, name = ROOT / "mllm" / test.parent, test.stem.removeprefix("test_")
    return [folder / f"{name}.py", *([folder / "__init__.py"] if folder.name == name else [])]


def test_every_test_file_has_the_name_of_a_source_file() -> None:
    mirrored = [path.relative_to(TESTS) for path in TESTS.rglob("test_*.py")]
    mirrored = [path for path in mirrored if path.parts[0] not in ACROSS and str(path) not in ACROSS]
    assert len(mirrored) > 100
    assert [str(path) for path in mirrored if not any(source.exists() for source in source_of(path))] == []
    assert all((TESTS / path).exists() for path in ACROSS)


def test_nothing_is_imported_from_test_files() -> None:
    """Helpers are in `conftest.py` or in modules without `test_` in their names."""
    imports = re.compile(r"^\s*from tests\b[\w.]* import (?:\([^)]*\)|.*)", re.MULTILINE)
    found = {path.relative_to(TESTS): imports.findall(path.read_text(encoding="utf-8")) for path in TESTS.rglob("*.py")}
    assert sum(map(len, found.values())) > 100
    assert [(str(path), line) for path, lines in found.items() for line in lines if re.search(r"\btest_", line)] == []

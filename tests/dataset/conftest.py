from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test, and the root of the sources as the working folder, as in real runs."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("MLLM_CACHE", str(folder))
    monkeypatch.chdir(ROOT)
    return folder


@pytest.fixture
def jsonl(tmp_path: Path) -> Callable[..., str]:
    """Writes records as lines; returns the path."""

    def write(*records: Any, name: str = "lines.jsonl") -> str:
        path = tmp_path / name
        path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
        return str(path)

    return write


@pytest.fixture
def pool(tmp_path: Path) -> Callable[[Sequence[Any]], str]:
    """Writes a question pool; returns the path."""

    def write(templates: Sequence[Any]) -> str:
        path = tmp_path / "pool.json"
        path.write_text(json.dumps(templates), encoding="utf-8")
        return str(path)

    return write

"""Runs converters on files under a temporary folder, and reads what they write."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllm.convert import conversion
from mllm.registry import DATASETS
from mllm.types import Item
from tests.tools.convert import layouts

POOLS = Path(__file__).parents[3] / "config" / "questions"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache of its own for each test."""
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, Any], str]:
    def write(name: str, content: Any) -> str:
        layouts.write(tmp_path, {name: content})
        return str(tmp_path / name)

    return write


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a converter, its files in the public layout unless words are given; returns what it printed."""

    def convert(source: str, *words: str, status: int = 0) -> str:
        if not words:
            layout = layouts.LAYOUTS[source]
            layouts.write(tmp_path, layout.files)
            words = layout.words
        module = importlib.import_module(f"tools.convert.{source}")
        # words that name a file or folder of the layout
        here = [str(tmp_path / word) if (tmp_path / word).exists() or word == "images" else word for word in words]
        argv = [*here, "--out", str(tmp_path / "out")]
        assert conversion.main(module.__doc__, module.arguments, module.convert, argv) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return convert


@pytest.fixture
def items(tmp_path: Path) -> Callable[..., list[Item]]:
    """The items of a file that was written, read by the dataset it is for."""

    def read(name: str, type: str, questions: str | None = None, **arguments: Any) -> list[Item]:
        pool = {} if questions is None else {"questions": str(POOLS / f"{questions}.json")}
        dataset = DATASETS.make({"type": type, "filename": str(tmp_path / "out" / name), **pool, **arguments})
        return [dataset[index] for index in range(len(dataset))]

    return read

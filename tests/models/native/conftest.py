"""A tiny folder of each native family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.marks import slow_but
from tests.models.tiny_hf import FAMILIES, save_tiny

ALIKE = ("qwen2_vl", "idefics3")
"""Families that are in most ways another one."""


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("native")
    return {family: save_tiny(family, root / family) for family in FAMILIES}


@pytest.fixture(params=slow_but({*FAMILIES} - {*ALIKE}, FAMILIES))
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, folders: dict[str, Path]) -> str:
    return str(folders[family])

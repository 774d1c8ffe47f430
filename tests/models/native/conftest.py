"""A tiny folder of each native family."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models.tiny_hf import FAMILIES, save_tiny


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("native")
    return {family: save_tiny(family, root / family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, folders: dict[str, Path]) -> str:
    return str(folders[family])

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of its own for each test; no pause before another try."""
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mllm.images.fetch._PAUSE_SECONDS", 0.0)
    return tmp_path / "cache" / "images"


@pytest.fixture
def noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8))


@pytest.fixture
def png(noise: Image.Image) -> bytes:
    file = io.BytesIO()
    noise.save(file, "PNG")
    return file.getvalue()


@pytest.fixture
def photo(png: bytes, tmp_path: Path) -> str:
    path = tmp_path / "photo.png"
    path.write_bytes(png)
    return str(path)

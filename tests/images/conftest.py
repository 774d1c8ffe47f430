from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mllm.images.settings import ImageSettings, configure


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache of its own for each test, and the default settings after it; no pause before another try."""
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("mllm.images.storage._PAUSE_SECONDS", 0.0)
    bound = Image.MAX_IMAGE_PIXELS
    yield tmp_path / "cache" / "images"
    configure(ImageSettings())
    Image.MAX_IMAGE_PIXELS = bound


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

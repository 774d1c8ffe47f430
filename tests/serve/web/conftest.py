from __future__ import annotations

from typing import Any

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from mllm import load
from tests.serve.api.running import FOLDER


@pytest.fixture(scope="session")
def loaded() -> Any:
    return load(FOLDER, device="cpu")

"""A tiny trained model, and a photo to ask it about."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm import cli
from mllm.registry import DATASETS
from tests.pipeline.tiny import SCENES, write_config


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that a run leaves, with its checkpoint after two steps."""
    folder = tmp_path_factory.mktemp("trained")
    config = write_config(folder, training_args={"output_dir": str(folder / "model"), "save_steps": 2})
    assert cli.main(["train", str(config), "--save_strategy", "steps"]) == 0
    return folder / "model"


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    path = tmp_path / "photo.png"
    DATASETS.make({**SCENES, "count": 1})[0].images[0].open().save(path)
    return path

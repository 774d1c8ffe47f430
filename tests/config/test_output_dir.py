"""Where outputs go when neither config nor command line says it."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm.config import output_dir
from mllm.config.config import read
from mllm.errors import ConfigError


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text("training_args = dict(use_cpu=True)\n")
    return path


def outputs(config: Path, **flags: str) -> str:
    return read(config, flags=flags)["training_args"]["output_dir"]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, "outputs/mine"),
        ("", "outputs/mine"),
        ("  ", "outputs/mine"),
        ("/gcs/bucket/job/checkpoints", "/gcs/bucket/job/checkpoints"),
        ("relative/folder", "relative/folder"),
        ("gs://bucket/job/checkpoints/", "MOUNT/bucket/job/checkpoints"),
        ("gs://bucket", "MOUNT/bucket"),
    ],
)
def test_default_is_what_vertex_ai_says(
    given: str | None, expected: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AIP_CHECKPOINT_DIR", raising=False)
    if given is not None:
        monkeypatch.setenv("AIP_CHECKPOINT_DIR", given)
    monkeypatch.setattr(output_dir, "CLOUD_STORAGE", tmp_path)
    assert outputs(config) == expected.replace("MOUNT", str(tmp_path))
    assert outputs(config, output_dir="here") == "here"
    config.write_text("training_args = dict(output_dir='said')\n")
    assert outputs(config) == "said"


@pytest.mark.parametrize("given", ["gs://bucket/a", "gs://", "s3://bucket/a", "https://x/y"])
def test_a_place_that_is_not_mounted_is_named(
    given: str, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIP_CHECKPOINT_DIR", given)
    monkeypatch.setattr(output_dir, "CLOUD_STORAGE", tmp_path / "gone")
    with pytest.raises(ConfigError) as caught:
        outputs(config)
    assert str(caught.value).startswith("AIP_CHECKPOINT_DIR: expected a folder, or gs://BUCKET/FOLDER with")
    assert str(caught.value).endswith(f"found {given}; or set --output_dir, and --mirror_dir to a URL")
    assert outputs(config, output_dir="here") == "here"

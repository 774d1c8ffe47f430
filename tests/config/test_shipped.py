"""Files that come with the package are found from any folder."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from mllm.config.config import read
from mllm.config.shipped import find_shipped, shipped_root, with_shipped
from mllm.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_a_config_that_is_not_here_is_the_shipped_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = read("config/rec_llava_tiny_coco.py").to_dict()
    monkeypatch.chdir(tmp_path)
    there = read("config/rec_llava_tiny_coco.py").to_dict()
    assert there["training_args"] == here["training_args"]
    train = there["data_args"]["train"]["dataset"]
    for name in ("filename", "image_folder", "questions"):
        assert Path(train[name]).is_relative_to(shipped_root())
        assert Path(train[name]).exists()


def test_what_is_here_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "demo_scenes.py").write_text("training_args = dict(seed=9)\n")
    assert read("config/demo_scenes.py").training_args.seed == 9


@pytest.mark.parametrize(
    "text",
    [
        *("config", "config/", "config/gone.py", "config/../pyproject.toml", "/config/demo_scenes.py", "", "config/\0"),
        *("x", "config/" + "a" * 5000, "mllm/cli.py", "./config/../../etc/passwd"),
    ],
)
def test_other_texts_stay_as_they_are(text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_shipped(text) == text
    assert with_shipped({"a": (text, [text, 1, None])}) == {"a": (text, [text, 1, None])}


def test_an_unknown_config_says_where_the_shipped_ones_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=r"config/gone\.py: no such file; `mllm list configs`"):
        read("config/gone.py")


@pytest.mark.slow
def test_a_wheel_holds_what_the_clone_does_and_finds_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(tmp_path)]
    copy = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(copy)], check=True)
    subprocess.run([*build, str(copy)], check=True, cwd=tmp_path)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as file:
        held = set(file.namelist())
        file.extractall(tmp_path / "site")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    assert {f"mllm/shipped/{name}" for name in tracked if name.startswith(("config/", "examples/"))} <= held
    assert {name for name in tracked if name.startswith("mllm/")} <= held
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "COLUMNS": "200"}
    for words in (["list", "configs"], ["data", "check", "config/rec_llava_tiny_coco.py", "--stand-in"]):
        command = [sys.executable, "-m", "mllm.cli", *words]
        done = subprocess.run(command, cwd="/", env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

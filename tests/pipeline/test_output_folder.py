"""The output folder serves one run at a time, and no disk leaves half a checkpoint in it."""

from __future__ import annotations

import errno
import resource
import signal
import socket
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from mllm.cli import main
from mllm.errors import ConfigError, RunError
from mllm.pipeline import output_folder
from mllm.pipeline.manifest import faults
from mllm.pipeline.output_folder import LOCK, locked, writing
from tests.marks import slow_but
from tests.pipeline.checkpoints import make
from tests.pipeline.tiny import write_config

# as `locked` does, without the seconds that its imports take
HOLD = """
import sys
from pathlib import Path
from filelock import SoftFileLease
Path(sys.argv[1]).mkdir(parents=True, exist_ok=True)
with SoftFileLease(sys.argv[1] + "/run.lock", lease_duration=60.0):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    """Another process that holds the folder until its stdin is closed."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(folder)], **pipes)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_locked_makes_the_folder_and_lets_it_go(tmp_path: Path) -> None:
    folder = tmp_path / "a" / "b"
    for _ in range(2):
        with locked(folder):
            assert (folder / LOCK).exists()
        assert list(folder.iterdir()) == []


def test_locked_refuses_a_folder_in_use_until_its_process_is_dead(tmp_path: Path) -> None:
    with holder(tmp_path) as other:
        with pytest.raises(ConfigError) as caught, locked(tmp_path):
            pass
        who = f"process {other.pid} on {socket.gethostname()}"
        assert (
            str(caught.value) == f"output_dir: {tmp_path}: in use by {who}: wait for it, or choose another --output_dir"
        )
        other.kill()
        other.wait()
        assert (tmp_path / LOCK).exists()
        with locked(tmp_path):
            pass


def test_locked_waits_for_a_sign_of_life_from_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(output_folder, "LEASE", 1.0)
    with locked(tmp_path):
        text = (tmp_path / LOCK).read_text()
    (tmp_path / LOCK).write_text(text.replace(f"host={socket.gethostname()}", "host=elsewhere"))
    with locked(tmp_path):
        assert "elsewhere" not in (tmp_path / LOCK).read_text()
    assert (
        "on elsewhere: wait for it, or choose another --output_dir: waiting 1 s to see whether its run is alive"
        in caplog.text
    )


@pytest.mark.parametrize("name", ["file", "file/below", "x" * 300])
def test_locked_names_a_folder_that_cannot_be(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(
            ConfigError, match=r"^output_dir: .*: (expected a folder, found a file|cannot be used: (Not|File name))"
        ),
        locked(tmp_path / name),
    ):
        pass


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(write_config(tmp_path))
    with holder(tmp_path / "out"):
        for command in ("train", "eval", "predict"):
            assert main([command, config, "--output_dir", str(tmp_path / "out")]) == 1
            assert "in use by process" in capsys.readouterr().err
        assert [path.name for path in (tmp_path / "out").iterdir()] == [LOCK]


def test_a_command_that_fails_lets_the_folder_go(tmp_path: Path) -> None:
    arguments = ["eval", str(write_config(tmp_path)), "--output_dir", str(tmp_path / "out")]
    for _ in range(2):
        assert main(arguments) == 1
        assert not (tmp_path / "out" / LOCK).exists()


FULL = OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (FULL, "no space left on device"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (SafetensorError("I/O error: quota exceeded"), "I/O error: quota exceeded"),
        (
            RuntimeError("PytorchStreamWriter failed writing file data/3: file write failed\nmore"),
            "PytorchStreamWriter",
        ),
        (CheckpointException("write", {1: (FULL, traceback.StackSummary())}), "no space left on device"),
    ],
)
def test_writing_names_the_trouble_and_leaves_nothing(error: BaseException, said: str, tmp_path: Path) -> None:
    make(tmp_path / "checkpoint-2")
    folder = tmp_path / "checkpoint-4"

    def write() -> None:
        with writing(folder):
            make(folder, whole=False)
            raise error

    with pytest.raises(RunError) as caught:
        write()
    assert str(caught.value).startswith(f"{folder}: cannot be written: {said}")
    assert "; checkpoint-2 is whole: make room, then " in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]


def test_writing_lets_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="closed by peer"), writing(tmp_path / "checkpoint-4"):
        raise RuntimeError("closed by peer")
    with pytest.raises(KeyError, match="of a rank"), writing(tmp_path / "checkpoint-4"):
        raise CheckpointException("write", {1: (KeyError("of a rank"), traceback.StackSummary())})


@pytest.mark.parametrize("at", slow_but(["checkpoint"], ["checkpoint", "model"]))
def test_a_full_disk_ends_training_with_what_was_whole(
    at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save = torch.save
    steps = 0

    def full(value: Any, path: Any, *args: Any, **kwargs: Any) -> None:
        nonlocal steps
        steps += Path(path).name == "scheduler.pt"
        if (at == "checkpoint" and steps == 2) or (at == "model" and steps == 4 and "model.partial" in str(path)):
            raise FULL
        save(value, path, *args, **kwargs)

    monkeypatch.setattr(torch, "save", full)
    config = write_config(tmp_path, training_args={"save_strategy": "steps", "save_steps": 1})
    out = tmp_path / "out"
    assert main(["train", str(config), "--output_dir", str(out)]) == 1
    kept = {"checkpoint": ["checkpoint-1"], "model": [f"checkpoint-{step}" for step in range(1, 5)]}[at]
    assert f"cannot be written: no space left on device; {kept[-1]} is whole" in capsys.readouterr().err
    assert sorted(path.name for path in out.iterdir() if path.is_dir()) == kept
    assert all(faults(out / name) == [] for name in kept)
    monkeypatch.undo()
    assert main(["train", str(config), "--output_dir", str(out), "--resume_from_checkpoint", "auto"]) == 0
    assert faults(out / "checkpoint-4") == []


def test_a_limit_on_file_size_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a quota: what libraries raise is not made up here."""
    config = write_config(tmp_path, training_args={"save_strategy": "steps", "save_steps": 2, "max_steps": 2})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, before[1]))
    try:
        assert main(["train", str(config), "--output_dir", str(tmp_path / "out")]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"RunError: {tmp_path / 'out' / 'checkpoint-2'}: cannot be written: ")
    assert not (tmp_path / "out" / "checkpoint-2").exists()


def test_a_signal_while_the_model_is_written_comes_after_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    moved = output_folder._move_up

    def interrupted(*args: Any) -> None:
        signal.raise_signal(signal.SIGTERM)
        moved(*args)

    monkeypatch.setattr(output_folder, "_move_up", interrupted)
    config = write_config(tmp_path, training_args={"max_steps": 1})
    assert main(["train", str(config), "--output_dir", str(tmp_path / "out"), "--do_eval"]) == 143
    assert (tmp_path / "out" / "manifest.json").exists()
    assert not (tmp_path / "out" / "eval_results.json").exists()

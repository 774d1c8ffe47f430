"""Whatever ends a command gives an exit status and one line; the traceback is kept where the line says."""

from __future__ import annotations

import errno
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from tqdm.auto import tqdm

from mllm import boundary
from mllm.boundary import reported
from mllm.errors import ConfigError, DataError
from mllm.interrupts import INTERRUPTS, Interrupted


class OutOfMemoryError(RuntimeError):
    """Named as torch's."""


class Text(str):
    """A KeyError's message as torch's, which prints as it is."""

    def __repr__(self) -> str:
        return str(self)


def raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


def details(line: str) -> Path:
    return Path(line.strip().rpartition("; details in ")[2])


@pytest.fixture(autouse=True)
def temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def test_reported_gives_the_status_of_the_work() -> None:
    assert reported(lambda: None) == 0
    assert reported(lambda: 3) == 3


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (ConfigError("no such key"), 1, "ConfigError: no such key"),
        (DataError("Caught DataError in worker.\nTraceback ...\n  File\nDataError: a.jsonl:3: no"), 1, "a.jsonl:3: no"),
        (Interrupted(signal.SIGTERM), 143, "ended by SIGTERM"),
        (Interrupted(signal.SIGUSR1, "go on with X"), 138, "go on with X"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_reported_says_expected_ends_on_one_line(
    error: BaseException, status: int, line: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert reported(raising(error)) == status
    captured = capsys.readouterr()
    assert captured.err.endswith(f"{line}\n")
    assert captured.err.count("\n") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [DataError("a.jsonl:3: no"), ValueError("?"), Interrupted(signal.SIGTERM)])
def test_reported_begins_a_line_of_its_own_below_progress_bars(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def work() -> int:
        bars = [tqdm(total=3, file=sys.stderr, position=place) for place in (0, 1)]
        bars[0].update()
        raise error

    reported(work)
    bars, line = capsys.readouterr().err.rstrip("\n").rsplit("\n", 1)
    assert "1/3" in bars
    assert line.startswith(("DataError: a.jsonl:3: no", "unexpected error in", "ended by SIGTERM"))


def test_reported_fails_with_the_status_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(raising(ConfigError("x")), failed=2) == 2
    assert reported(raising(KeyError("x")), failed=2) == 2
    assert reported(raising(Interrupted(signal.SIGINT)), failed=2) == 130


class Panic(BaseException):
    """As Rust's, of a tokenizer: no Exception."""


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "out/a"), "out/a: No space left on device; free some, or"),
        (PermissionError(errno.EACCES, "Permission denied", "out"), "out: Permission denied"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (MemoryError(), "out of memory: use fewer samples at a time (per_device_train_batch_size"),
        (OutOfMemoryError("CUDA out of memory. Tried\nmore"), "out of memory: CUDA out of memory. Tried: use fewer"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"), "out of memory: [enforce fail]"),
        (ValueError("first\nsecond"), "ValueError: first;"),
        (RuntimeError(), "RuntimeError: ;"),
        (RuntimeError("x" * 9999), f"RuntimeError: {'x' * 400};"),
        (Panic("called `Option::unwrap()` on a `None` value"), "Panic: called `Option::unwrap()` on a `None` value;"),
        (KeyError(Text("Caught KeyError in worker 0.\nTraceback\nKeyError: 'a'")), "KeyError: 'a';"),
    ],
)
def test_reported_keeps_the_traceback_of_anything_else(
    error: BaseException, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reported(raising(error)) == 1
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert "in work" in details(said).read_text()


def test_reported_names_the_line_of_the_package(capsys: pytest.CaptureFixture[str]) -> None:
    assert reported(lambda: boundary._message(None).x) == 1  # type: ignore[arg-type, attr-defined]
    assert capsys.readouterr().err.startswith("unexpected error in mllm/boundary.py:")


def test_reported_adds_the_traceback_to_the_log_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "train.log"
    log.write_text("step 1\n")
    logger = logging.getLogger("mllm")
    before = logger.handlers

    def work() -> None:
        logger.handlers = [logging.FileHandler(log, delay=True)]
        raise ValueError("x")

    assert reported(work) == 1
    assert logger.handlers is before
    assert details(capsys.readouterr().err) == log
    assert log.read_text().startswith("step 1\nTraceback (most recent call last):\n")


def test_reported_shows_the_traceback_where_no_file_takes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/no/such/folder")
    assert reported(raising(ValueError("x"))) == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[-1].endswith("ValueError: x; details in the traceback above")


def test_reported_names_the_rank_among_several(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    assert reported(raising(ConfigError("x"))) == 1
    assert capsys.readouterr().err == "rank 1: ConfigError: x\n"


@pytest.mark.parametrize("lines", [1, 100_000])
def test_a_reader_that_closes_the_pipe_early_ends_the_command_in_silence(lines: int) -> None:
    code = f"import sys, time; from mllm.boundary import reported\n\
def work():\n  time.sleep(0.2)\n  [print('a line') for _ in range({lines})]\n\
sys.exit(reported(work))"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()
    assert process.wait(timeout=30) == 128 + signal.SIGPIPE
    assert process.stderr is not None
    assert process.stderr.read() == b""


def test_an_error_after_a_signal_is_the_end_by_that_signal(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with INTERRUPTS.held("finishing"):
            os.kill(os.getpid(), signal.SIGTERM)
            raise RuntimeError("connection closed by peer")

    assert reported(work) == 143
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[-1].startswith("ended by SIGTERM; details in ")


def test_a_signal_that_a_library_swallows_ends_the_command_later(capsys: pytest.CaptureFixture[str]) -> None:
    def work() -> None:
        with suppress(BaseException):
            os.kill(os.getpid(), signal.SIGTERM)

    assert reported(lambda: reported(work)) == 143
    assert capsys.readouterr().err == "ended by SIGTERM\n"


def test_a_broken_pipe_elsewhere_is_an_error(capfd: pytest.CaptureFixture[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    assert reported(lambda: os.write(write, b"x")) == 1
    assert "Broken pipe" in capfd.readouterr().err
    os.close(write)

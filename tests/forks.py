"""Processes forked from this one as it was once the tests were collected: they have imported everything, at no cost.

The tests themselves cannot be forked from, since PyTorch refuses a backward pass in the fork of what has run one.
"""

from __future__ import annotations

import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn

_sources: list[tuple[int, Connection]] = []
"""The process that forks, once there is one, and the way to it."""


def prepare() -> None:
    """Keep a process as this one is now; it ends with this one at the latest."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if pid == 0:
        ours.close()
        _serve(theirs)
    theirs.close()
    _sources.append((pid, ours))


def finish() -> None:
    """End it."""
    while _sources:
        pid, ours = _sources.pop()
        ours.close()
        os.waitpid(pid, 0)


@dataclass(slots=True, kw_only=True)
class Forked:
    """A process under way, with the methods of `subprocess.Popen`; it leads a group of its own."""

    pid: int
    returncode: int | None = None

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = _ask("poll", self.pid)
        return self.returncode

    def wait(self, timeout: float) -> int | None:
        """The exit status; None where there is none after so many seconds."""
        deadline = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it, and whatever it started."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.wait(60)


def fork(
    function: Callable[..., Any],
    *args: Any,
    folder: Path,
    out: Path,
    error: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> Forked:
    """Call `function(*args)`, both of which can be pickled, in the working directory `folder`.

    What the function gives is the exit status, None as 0. It prints to the files `out` and `error`, or both to `out`.
    """
    given = dict(os.environ if environment is None else environment)
    return Forked(pid=_ask("fork", function, args, given, folder, out, error or out))


def _ask(*request: Any) -> Any:
    assert _sources, "tests/conftest.py prepares it once the tests are collected"
    _, ours = _sources[-1]
    ours.send(request)
    return ours.recv()


def _serve(asked: Connection) -> NoReturn:
    os.setsid()  # Ctrl-C is for the tests
    while True:
        try:
            what, *given = asked.recv()
        except EOFError:
            os._exit(0)
        if what == "poll":
            pid, status = os.waitpid(given[0], os.WNOHANG)
            asked.send(os.waitstatus_to_exitcode(status) if pid else None)
            continue
        pid = os.fork()
        if pid == 0:
            asked.close()
            _run(*given)
        os.setpgid(pid, pid)  # before anybody may end the group
        asked.send(pid)


def _run(
    function: Callable[..., Any], args: tuple[Any, ...], environment: dict[str, str], folder: Path, out: Path, err: Path
) -> NoReturn:
    os.setpgid(0, 0)
    status: Any = 1
    try:
        os.environ.clear()
        os.environ.update(environment)
        os.chdir(folder)
        for number, path in ((1, out), (2, err)):
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND)
            os.dup2(file, number)
            os.close(file)
        # those of pytest
        sys.stdout, sys.stderr = (os.fdopen(number, "w", buffering=1, closefd=False) for number in (1, 2))
        logging.root.handlers.clear()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        tempfile.tempdir = None
        status = function(*args) or 0
    except SystemExit as end:
        status = end.code or 0
    except BaseException:  # noqa: BLE001, whatever it is, the fork goes no further
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status if isinstance(status, int) else 1)

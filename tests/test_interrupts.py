"""Signals end a process in good order, or at once when they come again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from mllm.interrupts import INTERRUPTS, SIGNALS, Interrupted

HOLD = """
import os, sys, time
from mllm.boundary import reported
from mllm.interrupts import INTERRUPTS

def work():
    with INTERRUPTS.held("finishing the step"):
        print("ready", flush=True)
        deadline = time.monotonic() + 20
        while not INTERRUPTS.signum and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(1)
        print("done", flush=True)
    INTERRUPTS.raise_noted()

sys.exit(reported(work))
"""


@pytest.fixture(autouse=True)
def signals_are_heard() -> Generator[None, None, None]:
    """A shell starts what it runs in the background with SIGINT ignored, nohup with SIGHUP; children inherit that."""
    before = [signal.signal(signal.SIGINT, signal.default_int_handler), signal.signal(signal.SIGHUP, signal.SIG_DFL)]
    yield
    for signum, handler in zip((signal.SIGINT, signal.SIGHUP), before, strict=True):
        signal.signal(signum, handler)


@contextmanager
def process(code: str = HOLD, **arguments: object) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", code]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes, **arguments) as started:  # type: ignore[call-overload]
        assert started.stdout.readline() == "ready\n"
        yield started


@pytest.mark.parametrize("signum", SIGNALS)
def test_caught_raises_where_nobody_holds_it(signum: signal.Signals) -> None:
    before = signal.getsignal(signum)
    with INTERRUPTS.caught():
        with pytest.raises(Interrupted) as caught:
            signal.raise_signal(signum)
        assert caught.value.signum == INTERRUPTS.signum == signum
    assert signal.getsignal(signum) == before
    assert INTERRUPTS.signum == 0


def test_caught_changes_nothing_in_other_threads_or_twice() -> None:
    handlers = []

    def look() -> None:
        with INTERRUPTS.caught():
            handlers.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert handlers == [signal.getsignal(signal.SIGTERM)]
    with INTERRUPTS.caught():
        ours = signal.getsignal(signal.SIGTERM)
        with INTERRUPTS.caught():
            assert signal.getsignal(signal.SIGTERM) == ours
        assert signal.getsignal(signal.SIGTERM) == ours


def test_held_notes_the_signal_until_somebody_looks(capfd: pytest.CaptureFixture[str]) -> None:
    with INTERRUPTS.caught():
        with INTERRUPTS.held("finishing the step"):
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGUSR1)
        assert INTERRUPTS.signum == signal.SIGTERM
        with pytest.raises(Interrupted):
            INTERRUPTS.raise_noted()
    assert capfd.readouterr().err == "\nSIGTERM: finishing the step; Ctrl-C ends at once\n"


def test_one_ctrl_c_ends_in_good_order() -> None:
    with process() as running:
        running.send_signal(signal.SIGINT)
        out, err = running.communicate(timeout=20)
    assert out == "done\n"
    assert running.returncode == 130
    assert err.endswith("ended by SIGINT\n")


@pytest.mark.parametrize(
    "signals", [(signal.SIGINT, signal.SIGINT), (signal.SIGINT, signal.SIGTERM), (signal.SIGTERM, signal.SIGINT)]
)
def test_a_second_signal_by_hand_ends_at_once(signals: tuple[signal.Signals, signal.Signals]) -> None:
    with process() as running:
        running.send_signal(signals[0])
        running.stderr.readline()
        running.stderr.readline()
        running.send_signal(signals[1])
        out, _ = running.communicate(timeout=20)
    assert out == ""
    assert running.returncode == -signals[1]


def test_what_nohup_ignores_stays_ignored() -> None:
    with process(preexec_fn=lambda: [signal.signal(s, signal.SIG_IGN) for s in (signal.SIGHUP, signal.SIGUSR1)]) as run:
        run.send_signal(signal.SIGHUP)
        run.send_signal(signal.SIGUSR1)
        _, err = run.communicate(timeout=20)
    assert run.returncode == 128 + signal.SIGUSR1
    assert "SIGUSR1: finishing the step" in err
    assert "SIGHUP" not in err


def test_a_forked_child_leaves_ctrl_c_to_its_parent() -> None:
    with INTERRUPTS.caught():
        child = os.fork()
        if not child:
            kept = (
                signal.getsignal(signal.SIGINT) is signal.SIG_IGN and signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
            )
            os._exit(0 if kept else 1)
        assert os.waitpid(child, 0)[1] == 0

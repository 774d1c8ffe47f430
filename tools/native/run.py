"""Every type checked in a process of its own, so that one that crashes or hangs ends no other."""

from __future__ import annotations

import multiprocessing
import shutil
import sys
import time
import warnings
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from pathlib import Path
from tempfile import mkdtemp

import torch
from transformers.utils import logging

from tools.native.check import THINGS, verdicts

Verdicts = dict[str, str]
"""By what was done: "yes" or why not."""
ALL = "all"
"""Where nothing could be done."""


def check_all(types: Sequence[str], *, workers: int, limit: float) -> Iterator[tuple[str, Verdicts]]:
    """The verdicts on each type, as they come.

    Args:
        workers: how many types are checked at once.
        limit: seconds for one type.
    """
    warnings.filterwarnings("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    fork = multiprocessing.get_context("fork")  # the libraries are imported once
    waiting = list(reversed(types))
    running: dict[Connection, tuple[str, ForkProcess, float, Verdicts]] = {}
    while waiting or running:
        while waiting and len(running) < workers:
            name = waiting.pop()
            ours, theirs = fork.Pipe(duplex=False)
            process = fork.Process(target=_check, args=(name, theirs), daemon=True)
            process.start()
            theirs.close()
            running[ours] = (name, process, time.monotonic(), {})
        ready = wait(list(running), timeout=1)
        for pipe, (name, process, started, found) in list(running.items()):
            over = time.monotonic() - started > limit
            if pipe in ready:
                try:
                    thing, why = pipe.recv()
                    found[thing] = why
                    continue
                except EOFError:
                    pass
            elif not over:
                continue
            process.kill()
            process.join()
            del running[pipe]
            end = f"took longer than {limit:.0f} s" if over else "its process ended"
            if ALL not in found:
                found |= {thing: end for thing in THINGS if thing not in found}
            yield name, found


def _check(name: str, pipe: Connection) -> None:
    folder = Path(mkdtemp())
    sys.stdout = sys.stderr = open("/dev/null", "w")  # noqa: SIM115  models that warn
    try:
        for verdict in verdicts(name, folder / name):
            pipe.send(verdict)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        pipe.close()

"""Work over a range of numbers by several processes, the results in order."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

from tqdm.auto import tqdm

from mllm.errors import RunError
from mllm.images.settings import ImageSettings, configure, current_settings

T = TypeVar("T")

CHUNK = 32
PER_WORKER = 256
"""A process takes longer to start than to do the work for as many numbers."""


def available_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def in_order(
    numbers: Sequence[int],
    work: Callable[[int], T],
    *,
    workers: int | None = None,
    title: str,
    unit: str = "item",
    chunk: int = CHUNK,
    least: int = PER_WORKER,
) -> Iterator[T]:
    """`work` of each number, in order, under a progress bar.

    Args:
        work: picklable where processes are spawned (macOS).
        workers: further processes; None: one for each core. Few numbers take fewer.
        chunk: numbers that a worker takes at a time.
        least: numbers for which a further process is started.

    Raises:
        RunError: a worker died, killed for its memory, say.
    """
    count = min(available_cores() if workers is None else workers, len(numbers) // least)
    results = _of_workers(numbers, work, count, chunk) if count else map(work, numbers)
    with tqdm(total=len(numbers), desc=title, unit=unit, disable=None, leave=False) as bar:
        for result in results:
            yield result
            bar.update()


def _of_workers(numbers: Sequence[int], work: Callable[[int], T], count: int, size: int) -> Iterator[T]:
    """Each worker does every `count`-th chunk, and waits where its pipe is full, so that none runs far ahead."""
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    chunks = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    started: list[tuple[Any, Connection]] = []
    try:
        for worker in range(count):
            receiver, sender = context.Pipe(duplex=False)
            foreign = [receiver, *(other for _, other in started)]
            arguments = (sender, foreign, work, chunks[worker::count], current_settings())
            process: Any = context.Process(target=_work, args=arguments, daemon=True)
            process.start()
            sender.close()  # the worker holds the other end: when it dies, reading ends
            started.append((process, receiver))
        for number in range(len(chunks)):
            yield from _received(*started[number % count])
    finally:
        for process, receiver in started:
            receiver.close()
            process.terminate()
            process.join()


def _received(process: Any, receiver: Connection) -> list[Any]:
    try:
        results, error, trace = receiver.recv()
    except EOFError:
        process.join()
        raise RunError(
            f"a worker process ended with status {process.exitcode}; "
            "if it was killed for its memory, run fewer with --workers"
        ) from None
    if error is not None:
        raise error from RuntimeError(trace)
    return results


def _work(
    sender: Connection,
    foreign: list[Connection],
    work: Callable[[int], object],
    chunks: list[Sequence[int]],
    settings: ImageSettings,
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches every process; the first ends the others
    for receiver in foreign:
        receiver.close()  # once the first process is gone, sending fails
    configure(settings)  # a process that was spawned, not forked, knows nothing of them
    try:
        for chunk in chunks:
            sender.send(([work(number) for number in chunk], None, ""))
    except BrokenPipeError:
        pass  # nobody reads on
    except Exception as error:  # noqa: BLE001, whatever it is, it is raised where the results are read
        sender.send(([], error, traceback.format_exc()))

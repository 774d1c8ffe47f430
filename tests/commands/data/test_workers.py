from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mllm.commands.data.workers import PER_WORKER, in_order
from mllm.errors import DataError, RunError

MANY = range(5, 5 + 3 * PER_WORKER + 1)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_results_come_in_order(workers: int) -> None:
    found = list(in_order(MANY, lambda number: (number, os.getpid()), workers=workers, title="x"))
    assert [number for number, _ in found] == [*MANY]
    assert len({process for _, process in found}) == max(1, workers)
    assert (os.getpid() in {process for _, process in found}) == (workers == 0)


def test_few_numbers_start_no_process() -> None:
    assert set(in_order(range(PER_WORKER - 1), lambda number: os.getpid(), workers=4, title="x")) == {os.getpid()}
    assert list(in_order(range(0), str, workers=4, title="x")) == []


def test_an_error_is_raised_where_results_are_read() -> None:
    def work(number: int) -> int:
        if number == MANY[400]:
            raise DataError(where="a.jsonl:3", field="bbox", expected="4 numbers", kind="coordinates")
        return number

    with pytest.raises(DataError, match=r"a\.jsonl:3: bbox: expected 4 numbers") as caught:
        list(in_order(MANY, work, workers=2, title="x"))
    assert caught.value.kind == "coordinates"
    assert "in work" in str(caught.value.__cause__)  # the worker's own traceback


def test_a_killed_worker_is_an_error_and_no_hang() -> None:
    def work(number: int) -> int:
        if number == MANY[300]:
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    with pytest.raises(RunError, match=r"ended with status -9; .* --workers"):
        list(in_order(MANY, work, workers=2, title="x"))


def test_workers_end_when_nobody_reads_on() -> None:
    results = in_order(MANY, lambda number: os.getpid(), workers=2, title="x")
    workers = {next(results) for _ in range(40)}
    results.close()  # type: ignore[attr-defined]
    assert len(workers) == 2
    for worker in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(worker, 0)


def test_workers_end_when_the_first_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, sys, time; from mllm.commands.data.workers import in_order\n"
        "def work(number):\n"
        "    open(os.path.join(sys.argv[1], str(os.getpid())), 'w').close(); time.sleep(0.001); return 'x' * 1000\n"
        "for _ in in_order(range(10 ** 6), work, workers=2, title='x'): time.sleep(1)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    try:
        wait_for(lambda: len(list(tmp_path.iterdir())) == 2)
    finally:
        process.kill()
        process.wait()
    workers = [int(path.name) for path in tmp_path.iterdir()]
    wait_for(lambda: not any(alive(worker) for worker in workers))


def wait_for(condition: object, seconds: float = 20) -> None:
    assert callable(condition)
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False

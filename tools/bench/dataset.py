"""Lines against json.load of the same file: time to open, memory with and without workers, random records per second.

    python tools/bench/dataset.py [--records 2000000] [--workers 8]

Each measurement runs in a process of its own. Memory is what it holds beyond the imports: private memory (RssAnon), all
that is resident including mapped files (VmRSS), and what it holds together with workers that it forks, as a DataLoader
does on Linux, after an epoch in which each read an equal part of the records in random order. In the last a page that n
processes share counts as 1/n of a page in each (PSS), so that it is what the machine has lost. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from array import array
from collections.abc import Callable
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from mllm.dataset.lines import Lines

READS = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    parser.add_argument("--workers", type=int, default=8)
    given = parser.parse_args()
    records: int = given.records
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLLM_CACHE"] = f"{folder}/cache"
        lines, listed = write(Path(folder), records)
        print(f"{records} records, {lines.stat().st_size / 1e6:.0f} MB as lines")
        together = f"with {given.workers} workers MB"
        print(f"{'':28}{'open s':>10}{'private MB':>12}{'resident MB':>12}{'records/s':>12}{together:>20}")
        measure("Lines, first time", open_lines, lines, given.workers)
        measure("Lines, second time", open_lines, lines, given.workers)
        measure("json.load of an array", load_array, listed, given.workers)
        measure("Lines of an array, first", open_lines, listed, given.workers)
        measure("Lines of an array, second", open_lines, listed, given.workers)


def write(folder: Path, records: int) -> tuple[Path, Path]:
    """The same REC records as lines and as one JSON array."""
    rng = random.Random(0)
    lines, listed = folder / "bench.jsonl", folder / "bench_array.json"
    with lines.open("w") as as_lines, listed.open("w") as as_array:
        for number in range(records):
            record = {
                "img_path": f"COCO_train2014_{rng.randrange(600_000):012d}.jpg",
                "expression": "the man in the red shirt on the left"[: rng.randint(8, 36)],
                "bbox": [round(rng.uniform(0, 640), 2) for _ in range(4)],
                "width": 640,
                "height": 480,
            }
            line = json.dumps(record)
            as_lines.write(line + "\n")
            as_array.write(("," if number else "[") + line)
        as_array.write("]")
    return lines, listed


def open_lines(path: Path) -> Any:
    return Lines(str(path))


def load_array(path: Path) -> Any:
    with path.open() as file:
        return json.load(file)


def measure(name: str, opened: Callable[[Path], Any], path: Path, workers: int) -> None:
    process = multiprocessing.get_context("spawn").Process(target=report, args=(name, opened, path, workers))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{name}: failed")


def report(name: str, opened: Callable[[Path], Any], path: Path, workers: int) -> None:
    private, resident = memory()
    share = proportional(os.getpid())
    began = time.perf_counter()
    records = opened(path)
    seconds = time.perf_counter() - began
    rng = random.Random(1)
    indices = array("q", (rng.randrange(len(records)) for _ in range(READS)))  # a list would count as memory
    began = time.perf_counter()
    for index in indices:
        records[index]
    rate = READS / (time.perf_counter() - began)
    private, resident = (now - before for now, before in zip(memory(), (private, resident), strict=True))
    together = with_workers(records, workers) - share
    print(f"{name:28}{seconds:10.3f}{private:12.0f}{resident:12.0f}{rate:12.0f}{together:20.0f}", flush=True)


def with_workers(records: Any, workers: int) -> float:
    """MB of this process and its workers together, after an epoch in which each worker read its part of the records."""
    fork = multiprocessing.get_context("fork")
    read, measured = fork.Barrier(workers + 1, timeout=600), fork.Event()  # a worker may be killed for its memory
    common = (records, workers, read, measured)
    processes = [fork.Process(target=work, args=(number, *common), daemon=True) for number in range(workers)]
    for process in processes:
        process.start()
    read.wait()
    total = sum(proportional(pid) for pid in [os.getpid(), *(process.pid for process in processes)])
    measured.set()
    for process in processes:
        process.join()
    return total


def work(number: int, records: Any, workers: int, read: Barrier, measured: Event) -> None:
    rng = random.Random(number)
    for _ in range(len(records) // workers):
        dict(records[rng.randrange(len(records))])  # as whoever makes an item of it, touches its keys and values
    read.wait()
    measured.wait()


def proportional(pid: int | None) -> float:
    """PSS of a process in MB."""
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:])
    return int(fields["Pss"].split()[0]) / 1e3


def memory() -> tuple[float, float]:
    """Private and resident memory of this process in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1e3, int(fields["VmRSS"].split()[0]) / 1e3


if __name__ == "__main__":
    main()

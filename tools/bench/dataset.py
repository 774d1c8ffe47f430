"""Lines against json.load of the same file: time to open, memory, random records per second.

    python tools/bench/dataset.py [--records 2000000]

Each measurement runs in a process of its own. Memory is what the process holds beyond the imports: private memory
(RssAnon), and all that is resident including mapped files (VmRSS). Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mllm.dataset.lines import Lines

READS = 200_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=2_000_000)
    records: int = parser.parse_args().records
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLLM_CACHE"] = f"{folder}/cache"
        lines, array = write(Path(folder), records)
        print(f"{records} records, {lines.stat().st_size / 1e6:.0f} MB as lines")
        print(f"{'':28}{'open s':>10}{'private MB':>12}{'resident MB':>12}{'records/s':>12}")
        measure("Lines, first time", open_lines, lines)
        measure("Lines, second time", open_lines, lines)
        measure("json.load of an array", load_array, array)
        measure("Lines of an array, first", open_lines, array)
        measure("Lines of an array, second", open_lines, array)


def write(folder: Path, records: int) -> tuple[Path, Path]:
    """The same REC records as lines and as one JSON array."""
    rng = random.Random(0)
    lines, array = folder / "bench.jsonl", folder / "bench_array.json"
    with lines.open("w") as as_lines, array.open("w") as as_array:
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
    return lines, array


def open_lines(path: Path) -> Any:
    return Lines(str(path))


def load_array(path: Path) -> Any:
    with path.open() as file:
        return json.load(file)


def measure(name: str, opened: Callable[[Path], Any], path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=report, args=(name, opened, path))
    process.start()
    process.join()
    if process.exitcode != 0:
        raise SystemExit(f"{name}: failed")


def report(name: str, opened: Callable[[Path], Any], path: Path) -> None:
    private, resident = memory()
    began = time.perf_counter()
    records = opened(path)
    seconds = time.perf_counter() - began
    rng = random.Random(1)
    indices = [rng.randrange(len(records)) for _ in range(READS)]
    began = time.perf_counter()
    for index in indices:
        records[index]
    rate = READS / (time.perf_counter() - began)
    private, resident = (now - before for now, before in zip(memory(), (private, resident), strict=True))
    print(f"{name:28}{seconds:10.3f}{private:12.0f}{resident:12.0f}{rate:12.0f}", flush=True)


def memory() -> tuple[float, float]:
    """Private and resident memory of this process in MB."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1e3, int(fields["VmRSS"].split()[0]) / 1e3


if __name__ == "__main__":
    main()

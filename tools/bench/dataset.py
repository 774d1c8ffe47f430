"""How the cost of a dataset grows with its lines: to open it, to read it, to check it, to find duplicates, to train.

    OMP_NUM_THREADS=1 python tools/bench/dataset.py [--lines 10000 100000 1000000] [--only NAME ...] [--workers 8]

Lines are generated: conversations of LLaVA's layout about a hundred small images, 24 words and a box in each answer,
one text in a hundred a copy of another. Each measurement is a process of its own. The table gives CPU seconds, the
kernel's included, megabytes, and in brackets how many times as much that is as in the column before.

Of `lines` (`mllm.dataset.files.jsonl`) and, to compare, `json.load` of the same as one array: seconds of the step
alone, and private memory (RssAnon) beyond the imports. An `epoch` is of all records in random order in workers that
are forked, as a DataLoader's are; its megabytes are those of all processes together, a page that n of them share
counting as 1/n in each (PSS), which is what the machine has lost. Workers share a list only until they touch its
records: that writes their reference counts, and so copies their pages. Of `mllm` commands: the whole process, its
start and its workers included, and the largest process at its peak. `data check` reads with `--stand-in`; training
ends with its first step, and its model is tiny. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
from array import array
from collections.abc import Callable
from functools import partial
from multiprocessing.synchronize import Barrier, Event
from pathlib import Path
from typing import Any

from processes import ROOT, cpu, usage_of

from mllm.dataset.files.jsonl import IndexedJsonl

SIZES = (10_000, 100_000, 1_000_000)
READS = 10_000
IMAGES = 100
WORDS = 5_000
"""Of the generated vocabulary."""
COPIES = 0.01
"""Share of texts that are copies."""
MODEL = ROOT / "config" / "_base_" / "model" / "llava_tiny.py"

Cost = tuple[float, float]
"""CPU seconds, MB."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lines", type=int, nargs="+", default=SIZES)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="measurements whose names begin so, such as lines")
    parser.add_argument("--workers", type=int, default=8, help="of an epoch (%(default)s)")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLLM_CACHE"] = f"{folder}/cache"
        paths = [write(Path(folder), lines) for lines in given.lines]
        print(f"{'':26}" + "".join(f"{f'{lines:,} lines':>36}" for lines in given.lines))
        for name, cost in measurements(given.workers).items():
            if not given.only or name.startswith(tuple(given.only)):
                measure(name, cost, paths)


def measurements(workers: int) -> dict[str, Callable[[Path], Cost]]:
    epoch = partial(of_epoch, workers=workers)
    data = [sys.executable, "-m", "mllm.cli", "data"]
    first_step = [sys.executable, str(Path(__file__).with_name("startup.py")), "--until-first-step"]
    training = ["--do_train", "True", "--max_steps", "1", "--do_eval", "False", "--overwrite_output_dir", "True"]
    return {
        "lines, first open": partial(apart, of_open, open_lines),
        "lines, opened again": partial(apart, of_open, open_lines),
        f"lines, {READS:,} records": partial(apart, of_reads, open_lines),
        f"lines, epoch, {workers} workers": partial(apart, epoch, open_lines),
        "array as lines, first open": partial(apart, of_open, open_array),
        "json.load, open": partial(apart, of_open, load_array),
        f"json.load, epoch, {workers} workers": partial(apart, epoch, load_array),
        "mllm data check": partial(of_command, [*data, "check"], ["--stand-in"]),
        "mllm data dedup": partial(of_command, [*data, "dedup"], []),
        "mllm train, first step": partial(of_command, first_step, training),
    }


def measure(name: str, cost: Callable[[Path], Cost], paths: list[Path]) -> None:
    """Print a row of the table as its cells are found."""
    print(f"{name:26}", end="", flush=True)
    before: Cost | None = None
    for path in paths:
        found = cost(path)
        for now, then, unit, digits, width in zip(found, before or found, ("s", "MB"), (2, 0), (19, 17), strict=True):
            times = f" ({now / then:.1f})" if before and then >= 0.01 else ""
            print(f"{f'{now:,.{digits}f} {unit}{times}':>{width}}", end="", flush=True)
        before = found
    print(flush=True)


def write(folder: Path, lines: int) -> Path:
    """The same records as lines and as one JSON array, and a config that reads the lines."""
    rng = random.Random(lines)
    vocabulary = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(WORDS)]
    images = generate_images(folder / "images")
    path, text = folder / f"{lines}.jsonl", ""
    with path.open("w") as as_lines, path.with_suffix(".json").open("w") as as_array:
        for number in range(lines):
            if not text or rng.random() >= COPIES:
                text = " ".join(rng.choices(vocabulary, k=24))
            talk = [
                {"from": "human", "value": f"<image>\nWhat is at {number}?"},
                {"from": "gpt", "value": f"{text} <boxes>", "boxes_seq": [[0]]},
            ]
            x, y = rng.uniform(0, 32), rng.uniform(0, 24)
            target = {"boxes": [[round(x, 2), round(y, 2), round(x + 30, 2), round(y + 20, 2)]]}
            record = {"id": number, "image": rng.choice(images), "conversations": talk, "target": target}
            line = json.dumps(record)
            as_lines.write(line + "\n")
            as_array.write(("," if number else "[") + line)
        as_array.write("]")
    data = {"type": "Instruct", "filename": str(path), "image_folder": str(folder / "images")}
    config_of(path).write_text(
        f"_base_ = [{str(MODEL)!r}]\n"
        f"training_args = dict(output_dir={str(folder / 'run')!r}, report_to=[], per_device_train_batch_size=8)\n"
        f"data_args = dict(train={data!r})\n"
    )
    return path


def generate_images(folder: Path) -> list[str]:
    """Names of images of noise."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    rng = random.Random(0)
    names = [f"{number}.jpg" for number in range(IMAGES)]
    for name in names:
        Image.frombytes("RGB", (8, 6), rng.randbytes(8 * 6 * 3)).resize((64, 48)).save(folder / name)
    return names


def config_of(path: Path) -> Path:
    return path.with_suffix(".py")


def open_lines(path: Path) -> Any:
    return IndexedJsonl(str(path))


def open_array(path: Path) -> Any:
    return IndexedJsonl(str(path.with_suffix(".json")))


def load_array(path: Path) -> Any:
    with path.with_suffix(".json").open() as file:
        return json.load(file)


def apart(cost: Callable[[Callable[[Path], Any], Path], Cost], opened: Callable[[Path], Any], path: Path) -> Cost:
    """What the measurement gives in a process of its own."""
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=send, args=(sender, cost, opened, path))
    process.start()
    sender.close()
    found = receiver.recv()
    process.join()
    return found


def send(sender: Any, cost: Callable[[Callable[[Path], Any], Path], Cost], opened: Any, path: Path) -> None:
    sender.send(cost(opened, path))


def of_open(opened: Callable[[Path], Any], path: Path) -> Cost:
    memory, began = private(), time.process_time()
    records = opened(path)
    return time.process_time() - began, private() - memory if len(records) else 0


def of_reads(opened: Callable[[Path], Any], path: Path) -> Cost:
    memory, records = private(), opened(path)
    rng = random.Random(1)
    indices = array("q", (rng.randrange(len(records)) for _ in range(READS)))  # a list would count as memory
    began = time.process_time()
    for index in indices:
        records[index]
    return time.process_time() - began, private() - memory


def of_epoch(opened: Callable[[Path], Any], path: Path, *, workers: int) -> Cost:
    """Of workers that each read an equal part of the records."""
    own = proportional(os.getpid())
    records = opened(path)
    fork = multiprocessing.get_context("fork")
    read, measured = fork.Barrier(workers + 1, timeout=600), fork.Event()  # a worker may be killed for its memory
    common = (records, workers, read, measured)
    processes = [fork.Process(target=read_part, args=(number, *common), daemon=True) for number in range(workers)]
    for process in processes:
        process.start()
    read.wait()
    together = sum(proportional(pid) for pid in [os.getpid(), *(process.pid for process in processes)])
    measured.set()
    for process in processes:
        process.join()
    return cpu(resource.getrusage(resource.RUSAGE_CHILDREN)), together - own


def read_part(number: int, records: Any, workers: int, read: Barrier, measured: Event) -> None:
    rng = random.Random(number)
    for _ in range(len(records) // workers):
        dict(records[rng.randrange(len(records))])  # as whoever makes an item of it, touches its keys and values
    read.wait()
    measured.wait()


def of_command(command: list[str], options: list[str], path: Path) -> Cost:
    usage = usage_of([*command, str(config_of(path)), *options])
    return cpu(usage), usage.ru_maxrss * 1024 / 1e6


def private() -> float:
    """Private memory of this process in MB."""
    return memory_field("/proc/self/status", "RssAnon")


def proportional(pid: int | None) -> float:
    """PSS of a process in MB."""
    return memory_field(f"/proc/{pid}/smaps_rollup", "Pss")


def memory_field(path: str, name: str) -> float:
    """MB."""
    values = [line.split() for line in Path(path).read_text().splitlines() if line.startswith(f"{name}:")]
    return int(values[0][1]) * 1024 / 1e6


if __name__ == "__main__":
    main()

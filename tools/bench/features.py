"""Training with kept features of a frozen vision tower, and without: the first epoch, which makes them, and the second.

    python tools/bench/fixture.py /tmp/mixed --kind mixed
    OMP_NUM_THREADS=1 python tools/bench/features.py /tmp/mixed

The fixture's model trains on the fixture for two epochs, through the pipeline that users run, in rows that share images
where there are such. Both ways alternate `--rounds` times, each
time in a process of its own with an empty cache. It prints one JSON line each time, then medians of steps per second of
process CPU time of each epoch, and the ratios to computing them. The losses must be equal, up to rounding.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from train import arguments_of, config_of, measure, shares_images

WAYS = ("computed", "cached")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--images", type=int, default=64, help="the first so many of the fixture, with all their lines")
    parser.add_argument("--batch", type=int, default=8, help="lines of a step; images where they share")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run(given)))
        return
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in WAYS}
    for _ in range(given.rounds):
        for way in WAYS:
            result = measure(way, [sys.executable, __file__, *sys.argv[1:], "--only", way])
            found[way].append(result)
            print(json.dumps({"features": way, **result}), flush=True)
    print(table(found))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    speeds = {
        way: [statistics.median(result["steps"] / result["cpu_sec"][epoch] for result in results) for epoch in (0, 1)]
        for way, results in found.items()
    }
    head = "".join(f"{f'epoch {epoch}, steps / CPU s':>26}{'ratio':>8}" for epoch in (1, 2))
    lines = [f"{'':12}{head}{'last loss':>12}"]
    for way, speed in speeds.items():
        pairs = zip(speed, speeds["computed"], strict=True)
        cells = "".join(f"{each:26.3f}{each / first:8.2f}" for each, first in pairs)
        lines.append(f"{way:12}{cells}{found[way][-1]['loss_last']:12.6f}")
    return "\n".join(lines)


def run(given: Any) -> dict[str, Any]:
    """Two epochs, through the pipeline that users run."""
    import torch
    from transformers import TrainerCallback

    from mllm.pipeline.build import build

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    packing = {"packing": "shared" if shares_images(given.fixture) else "rows"}
    config = config_of(given.fixture, packing)
    records = json.loads(Path(given.fixture, "llava.json").read_text(encoding="utf-8"))
    images = list(dict.fromkeys(record["image"] for record in records))[: given.images]
    with tempfile.TemporaryDirectory() as folder:
        os.environ["MLLM_CACHE"] = f"{folder}/cache"
        lines = Path(folder, "lines.json")
        lines.write_text(json.dumps([record for record in records if record["image"] in images]), encoding="utf-8")
        train = config["data_args"]["train"]
        train.get("dataset", train)["filename"] = str(lines)
        config["data_args"]["images"] = {"features": given.only}
        torch.manual_seed(0)
        args = arguments_of(f"{folder}/out", given.batch, -1, num_train_epochs=2)
        trainer = build(config, args)
        cpu: list[float] = []
        entries: list[dict[str, float]] = []

        class Clock(TrainerCallback):
            def on_epoch_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                cpu.append(time.process_time())

            def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                cpu.append(time.process_time())

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                entries.extend([logs] if "loss" in logs else [])

        trainer.add_callback(Clock())
        start = time.perf_counter()
        trainer.train()
        sec = time.perf_counter() - start
        kept = sum(path.stat().st_size for path in Path(folder, "cache").rglob("*") if path.is_file())
    return {
        "steps": trainer.state.global_step // 2,
        "sec": sec,
        "cpu_sec": [cpu[1] - cpu[0], cpu[3] - cpu[2]],
        "loss_first": entries[0]["loss"],
        "loss_last": entries[-1]["loss"],
        "found": [entry.get("kept_features", 0) for entry in (entries[0], entries[-1])],
        "kept_mb": kept / 1e6,
    }


if __name__ == "__main__":
    main()

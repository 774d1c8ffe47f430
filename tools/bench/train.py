"""Training throughput of this toolkit beside others, on the same weights, data and threads.

    python tools/bench/fixture.py /tmp/fixture
    OMP_NUM_THREADS=1 python tools/bench/train.py /tmp/fixture \\
        --peer "trl=peers/trl/bin/python peer_trl.py /tmp/fixture --steps 19"

The folder may also hold a fixture of `--kind mixed`, or any other: model/ as transformers saves a LLaVA, llava.json,
and the images. Samples share their images only where several are about one.

Each contender runs in processes of its own, `--rounds` times in turn, the first three steps untimed, with the vision
tower frozen, AdamW at 1e-3 and float32. Each time it prints one JSON line, as a peer's command must (`sec`, `cpu_sec`,
`samples_per_s`, `nonpad_tok_per_cpu_s`, `loss_first`, `loss_last`), then a table: medians of samples, and of tokens
that are no padding, per second of process CPU time, and the ratios of the latter to the first contender; of the former
where images are shared, as the tokens are then other ones. A first loss that differs shows another computation.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

WARM_UP = 3
"""Steps before the clock starts."""
OURS: dict[str, dict[str, Any]] = {
    "ours, one by one": {"packing": "none"},
    "ours, in one row": {"packing": "rows", "window": 1},
    "ours, in rows of 1024": {"packing": "rows", "max_tokens": 1024},
    "ours, sharing": {"packing": "shared"},
}
"""The collator of each; a window of one step has the samples of the unpacked one, and so its losses."""
BARE = {
    "bare loop, padded": [],
    "bare loop, in one row": ["--packed"],
    "bare loop, in one row, head on labels": ["--packed", "--labelled"],
    "bare loop, so, freed memory kept": ["--packed", "--labelled", "--keep-memory"],
}
"""Flags of bare.py; the last is the ceiling."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="may be repeated")
    parser.add_argument("--samples", type=int, default=8, help="samples of a step; images where they share")
    parser.add_argument("--steps", type=int, default=19)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run(given.fixture, given.only, given.samples, given.steps)))
        return
    shared = shares_images(given.fixture)
    flags = [given.fixture, "--samples", str(given.samples), "--steps", str(given.steps)]
    ours = {name: [__file__, "--only", name] for name in OURS if shared or OURS[name]["packing"] != "shared"}
    bare = {name: [str(Path(__file__).with_name("bare.py")), *options] for name, options in BARE.items()}
    commands = [(name, [sys.executable, *command, *flags]) for name, command in (ours | bare).items()]
    for peer in given.peer:
        name, _, command = peer.partition("=")
        commands.append((name, shlex.split(command)))
    found: dict[str, list[dict[str, Any]]] = {name: [] for name, _ in commands}
    for _ in range(given.rounds):
        for name, command in commands:
            result = measure(name, command)
            found[name].append(result)
            print(json.dumps({"contender": name, **result}), flush=True)
    print(table(found, "samples" if shared else "tokens"))


def shares_images(fixture: str) -> bool:
    names = [record["image"] for record in json.loads(Path(fixture, "llava.json").read_text(encoding="utf-8"))]
    return len(set(names)) < len(names)


def measure(name: str, command: list[str]) -> dict[str, Any]:
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{") and "cpu_sec" in line]
    if ran.returncode or not lines:
        sys.exit(f"{name}: {shlex.join(command)} failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
    return json.loads(lines[-1])


def table(found: dict[str, list[dict[str, Any]]], compared: str) -> str:
    speeds = {name: speeds_of(results) for name, results in found.items()}
    first = next(iter(speeds.values()))[compared]
    lines = [f"{'':40}{'samples / CPU s':>16}{'tokens / CPU s':>16}{'ratio':>8}{'first loss':>12}{'last loss':>11}"]
    for name, speed in speeds.items():
        last = found[name][-1]
        lines.append(
            f"{name:40}{speed['samples']:16.2f}{speed['tokens']:16.0f}{speed[compared] / first:8.2f}"
            f"{last['loss_first']:12.4f}{last['loss_last']:11.4f}"
        )
    return "\n".join(lines)


def speeds_of(results: list[dict[str, Any]]) -> dict[str, float]:
    """Medians per second of process CPU time."""
    samples = [result["samples_per_s"] * result["sec"] / result["cpu_sec"] for result in results]
    tokens = [result["nonpad_tok_per_cpu_s"] for result in results]
    return {"samples": statistics.median(samples), "tokens": statistics.median(tokens)}


def config_of(fixture: str, packing: dict[str, Any]) -> dict[str, Any]:
    """The fixture's model with a frozen vision tower, and its data."""
    data: dict[str, Any] = {"type": "Instruct", "filename": f"{fixture}/llava.json", "image_folder": fixture}
    if packing["packing"] == "shared":
        data = {"type": "SamePicture", "dataset": data, "picture": "image"}
    return {
        "model_args": {
            "type": "llava",
            "model_name_or_path": f"{fixture}/model",
            "template": "chat",
            "placement": "crop",
            "freeze": ["vision_tower"],
        },
        "data_args": {"train": data, "collator_kwargs": packing},
    }


def arguments_of(folder: str, samples: int, steps: int, **changes: Any) -> Any:
    """RunArguments."""
    from mllm.config.arguments import DEFAULTS, build_training_arguments

    return build_training_arguments(
        {
            **DEFAULTS,
            "output_dir": folder,
            "do_train": True,
            "use_cpu": True,
            "max_steps": steps,
            "per_device_train_batch_size": samples,
            "learning_rate": 1e-3,
            "logging_steps": 1,
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
            "dataloader_num_workers": 0,
            **changes,
        }
    )


def run(fixture: str, name: str, samples: int, steps: int) -> dict[str, Any]:
    """One of our own contenders, through the pipeline that users run."""
    import torch
    from transformers import TrainerCallback

    from mllm.pipeline.build import build

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    config = config_of(fixture, OURS[name])
    with tempfile.TemporaryDirectory() as folder:
        args = arguments_of(folder, samples, steps)
        trainer = build(config, args)
        collate = trainer.data_collator
        counts: list[tuple[int, int]] = []
        wall: list[float] = []
        cpu: list[float] = []
        losses: list[float] = []

        def counted(entries: Any) -> Any:
            batch = collate(entries)
            mask = batch["attention_mask"] if "attention_mask" in batch else batch["segment_ids"] >= 0
            counts.append((len(batch["index"]), int(mask.sum())))
            return batch

        class Clock(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                wall.append(time.perf_counter())
                cpu.append(time.process_time())

            def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
                losses.extend([logs["loss"]] if "loss" in logs else [])

        trainer.data_collator = counted
        trainer.add_callback(Clock())
        trainer.train()
    seconds, cpu_seconds = wall[-1] - wall[WARM_UP - 1], cpu[-1] - cpu[WARM_UP - 1]
    counted_samples, counted_tokens = (sum(column) for column in zip(*counts[WARM_UP:steps], strict=True))
    return {
        "sec": seconds,
        "cpu_sec": cpu_seconds,
        "samples_per_s": counted_samples / seconds,
        "nonpad_tok_per_cpu_s": counted_tokens / cpu_seconds,
        "loss_first": losses[0],
        "loss_last": losses[-1],
    }


if __name__ == "__main__":
    main()

"""What our training loop costs beside a bare one of PyTorch, on the same model and the same batches.

    python tools/bench/fixture.py /tmp/shared
    OMP_NUM_THREADS=1 python tools/bench/overhead.py /tmp/shared

All contenders take batches that were collated beforehand, so that nothing but the loop differs: forward, backward,
clipping, an AdamW step and a scheduler's. `--rounds` processes in turn, the first three steps untimed; each prints one
JSON line, then a table of medians of CPU seconds a step and ratios to the bare loop. The last losses must be equal.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import nullcontext
from typing import Any

from train import WARM_UP, arguments_of, config_of, measure

CONTENDERS = ("a bare loop", "ours", "ours, without meters")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--packing", choices=("none", "rows", "shared"), default="shared")
    parser.add_argument("--samples", type=int, default=2, help="samples of a step; images where they share")
    parser.add_argument("--steps", type=int, default=43)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=CONTENDERS, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        print(json.dumps(run(given.fixture, given.only, given.packing, given.samples, given.steps)))
        return
    flags = ["--packing", given.packing, "--samples", str(given.samples), "--steps", str(given.steps)]
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in CONTENDERS}
    for _ in range(given.rounds):
        for name in CONTENDERS:
            result = measure(name, [sys.executable, __file__, given.fixture, "--only", name, *flags])
            found[name].append(result)
            print(json.dumps({"contender": name, **result}), flush=True)
    print(table(found))


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    times = {
        name: statistics.median(result["cpu_sec"] / result["steps"] for result in results)
        for name, results in found.items()
    }
    lines = [f"{'':24}{'CPU ms / step':>14}{'ratio':>8}{'last loss':>12}"]
    for name, seconds in times.items():
        loss = found[name][-1]["loss_last"]
        lines.append(f"{name:24}{1000 * seconds:14.2f}{seconds / times[CONTENDERS[0]]:8.3f}{loss:12.4f}")
    return "\n".join(lines)


def run(fixture: str, name: str, packing: str, samples: int, steps: int) -> dict[str, Any]:
    import torch
    from torch.utils.data import DataLoader

    from mllm.pipeline.build import build

    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    with tempfile.TemporaryDirectory() as folder:
        args = arguments_of(folder, samples, steps, logging_steps=10)
        trainer = build(config_of(fixture, {"packing": packing}), args)
        batches: Any = []
        while len(batches) < steps:
            batches += trainer.get_train_dataloader()
        del batches[steps:]
        if name == CONTENDERS[0]:
            return bare(trainer.model, trainer.create_optimizer(), batches)
        if name == CONTENDERS[2]:
            silence(trainer.meters)
        clock = Clock()
        setattr(trainer, "get_train_dataloader", lambda: DataLoader(batches, batch_size=None))  # noqa: B010, no subclass
        trainer.add_callback(clock.callback())
        trainer.train()
        losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
        return {**clock.found(), "loss_last": losses[-1]}


def bare(model: Any, optimizer: Any, batches: list[Any]) -> dict[str, Any]:
    """The last loss is the mean of ten steps, as in the trainer's log."""
    from torch.nn.utils import clip_grad_norm_
    from transformers import get_linear_schedule_with_warmup

    clock = Clock()
    scheduler = get_linear_schedule_with_warmup(optimizer, 0, len(batches))
    losses: list[Any] = []
    model.train()
    for batch in batches:
        inputs = {name: value for name, value in batch.items() if name not in ("index", "label_sources", "counts")}
        loss = model(**inputs, num_items_in_batch=(inputs["labels"][:, 1:] != -100).sum()).loss
        loss.backward()
        clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.detach())
        clock.tick()
    end = len(losses) // 10 * 10
    return {**clock.found(), "loss_last": sum(map(float, losses[end - 10 : end])) / 10}


def silence(meters: Any) -> None:
    """Neither watch the model nor count."""
    meters.counting = lambda counts: nullcontext()
    meters.waiting = lambda batches: batches
    meters.read = lambda accelerator: {}


class Clock:
    """CPU time of each step."""

    def __init__(self) -> None:
        self.times: list[tuple[float, float]] = []

    def tick(self) -> None:
        self.times.append((time.perf_counter(), time.process_time()))

    def callback(self) -> Any:
        from transformers import TrainerCallback

        tick = self.tick

        class Ticks(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                tick()

        return Ticks()

    def found(self) -> dict[str, float]:
        (wall, cpu), (last_wall, last_cpu) = self.times[WARM_UP - 1], self.times[-1]
        return {"sec": last_wall - wall, "cpu_sec": last_cpu - cpu, "steps": len(self.times) - WARM_UP}


if __name__ == "__main__":
    main()

"""Peak memory of training and of evaluation: this toolkit beside others, on the same weights and data.

    python tools/bench/fixture.py /tmp/shared
    OMP_NUM_THREADS=1 python tools/bench/memory.py /tmp/shared \\
        --peer "trl=peers/trl/bin/python peer_trl.py /tmp/shared --bs 56 --steps 4"

Each contender runs in a process of its own, of which the kernel says the largest resident size. As many questions are
in a step, or are answered together, whatever shares a row; float32, vision tower frozen, AdamW. A process that only
loads the model shows what libraries and weights take. Prints one JSON line for each, then a table: peaks, what is above
the loaded model, and its ratio to that of the first contender.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate
import train

LOADED = "the model loaded"
TRANSFORMERS = "transformers Trainer"
TASKS = {"training": (TRANSFORMERS, *train.OURS), "evaluation": evaluate.CONTENDERS}
MIB = 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote")
    parser.add_argument("--peer", action="append", default=[], metavar="NAME=COMMAND", help="of training; repeatable")
    parser.add_argument("--samples", type=int, default=56, help="questions of a step, or answered together")
    parser.add_argument("--steps", type=int, default=train.WARM_UP + 1)
    parser.add_argument("--only", nargs=2, metavar=("TASK", "CONTENDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        task, name = given.only
        run(given.fixture, task, name, given.samples, given.steps)
        return
    own = [sys.executable, __file__, given.fixture, "--samples", str(given.samples), "--steps", str(given.steps)]
    loaded = peak(LOADED, [*own, "--only", LOADED, LOADED])
    print(json.dumps({"contender": LOADED, "peak_mib": loaded / MIB}), flush=True)
    for task, names in TASKS.items():
        commands = [(name, [*own, "--only", task, name]) for name in names]
        if task == "training":
            commands += [(name, shlex.split(command)) for name, _, command in (p.partition("=") for p in given.peer)]
        found: dict[str, int] = {}
        for name, command in commands:
            found[name] = peak(name, command)
            print(json.dumps({"task": task, "contender": name, "peak_mib": found[name] / MIB}), flush=True)
        print(table(task, found, loaded))


def peak(name: str, command: list[str]) -> int:
    """Bytes; this process must stay small, a child starts with what it had."""
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            output.seek(0)
            sys.exit(f"{name}: {shlex.join(command)} failed:\n{output.read().decode(errors='replace')[-4000:]}")
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def table(task: str, found: dict[str, int], loaded: int) -> str:
    first = next(iter(found.values())) - loaded
    lines = [f"{task:32}{'peak MiB':>10}{'above the model':>17}{'ratio':>8}"]
    for name, size in found.items():
        lines.append(f"{name:32}{size / MIB:10.0f}{(size - loaded) / MIB:17.0f}{(size - loaded) / first:8.2f}")
    return "\n".join(lines)


def run(fixture: str, task: str, name: str, samples: int, steps: int) -> None:
    if task == LOADED:
        load(fixture)
    elif name == TRANSFORMERS:
        train_transformers(fixture, samples, steps)
    elif task == "training":
        shares = train.OURS[name]["packing"] == "shared"
        train.run(fixture, name, samples // questions(fixture) if shares else samples, steps)
    else:
        answer = evaluate.answer_transformers if name == evaluate.CONTENDERS[0] else evaluate.answer_ours
        answer(fixture, samples, {"max_new_tokens": 28, "do_sample": False}, name)


def questions(fixture: str) -> int:
    """About each image."""
    counts = Counter(row["image"] for row in rows_of(fixture))
    return max(counts.values())


def rows_of(fixture: str) -> list[dict[str, Any]]:
    return json.loads(Path(fixture, "llava.json").read_text(encoding="utf-8"))


def load(fixture: str) -> Any:
    import torch
    from transformers import LlavaForConditionalGeneration

    evaluate.set_threads()
    return LlavaForConditionalGeneration.from_pretrained(f"{fixture}/model", dtype=torch.float32)


def train_transformers(fixture: str, samples: int, steps: int) -> None:
    """transformers' own Trainer and LLaVA, with its processor."""
    from PIL import Image
    from transformers import Trainer

    model = load(fixture)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("vision_tower" not in name)
    processor = evaluate.processor_of(fixture, model, padding_side="right")

    def collate(rows: list[dict[str, Any]]) -> Any:
        texts: list[str] = []
        asked: list[int] = []
        for row in rows:
            question, answer = (turn["value"] for turn in row["conversations"])
            prompt = processor.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True)
            texts.append(prompt + answer + processor.tokenizer.eos_token)
            asked.append(len(processor.tokenizer(prompt, add_special_tokens=False).input_ids) - 1)
        images = [Image.open(f"{fixture}/{row['image']}").convert("RGB") for row in rows]
        batch = processor(images=images, text=texts, padding=True, return_tensors="pt", add_special_tokens=False)
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        for labels, words in zip(batch["labels"], asked, strict=True):
            labels[: words + model.config.image_seq_length] = -100
        return batch

    with tempfile.TemporaryDirectory() as folder:
        args = train.arguments_of(folder, samples, steps)
        Trainer(model=model, args=args, train_dataset=rows_of(fixture), data_collator=collate).train()  # pyright: ignore[reportArgumentType]


if __name__ == "__main__":
    main()

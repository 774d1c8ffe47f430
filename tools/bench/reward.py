"""A whole GRPO step, rollout and update, beside TRL's GRPOTrainer and a bare loop: the same model and questions.

    OMP_NUM_THREADS=1 python tools/bench/reward.py --peer peers/trl/bin/python

`--peer` is the interpreter of an environment with torch, trl and pillow; without it TRL is left out. The model is the
random LLaVA of fixture.py, in float32, with a frozen vision tower. A step has seven questions about one image, whose
prompts have 219 tokens of text and `--tokens` (64) of the image, most of them common to all questions; 8 answers of 24
sampled tokens each, whose reward follows from the length of their text; and one update of all 56 with AdamW, without a
reference model.

Contenders run in processes of their own, one after another, `--rounds` times, the first step untimed. Each prints one
JSON line, then there is a table: medians of samples (answers) per second of process CPU time, of the share that the
rollout takes of it, and ratios to TRL with the logits of answers only, the fairer line, where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
IMAGES, QUESTIONS, ANSWERS, NEW_TOKENS = 4, 7, 8, 24
WARM_UP = 1
"""Steps before the clock starts."""
TEXT_TOKENS = 219
"""Of a prompt, beside its image."""
OURS = {"ours, sharing": True, "ours, not sharing": False}
FAIR = "TRL, logits of answers only"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", help="an interpreter that imports trl")
    parser.add_argument("--tokens", type=int, choices=(64, 256), default=64, help="of the image")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", nargs=2, metavar=("DIR", "NAME"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.only:
        folder, name = given.only
        print(json.dumps(run(folder, steps=given.steps, share=OURS[name])))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_fixture(folder, given.tokens)
        found: dict[str, list[dict[str, Any]]] = {}
        for _ in range(given.rounds):
            for name, command in commands(folder, given).items():
                found.setdefault(name, []).append(measure(name, command))
                print(json.dumps({"contender": name, **found[name][-1]}), flush=True)
    print(table(found))


def commands(folder: str, given: argparse.Namespace) -> dict[str, list[str]]:
    steps = ["--steps", str(given.steps)]
    trl = [given.peer, str(HERE / "reward_trl.py"), folder, *steps]
    peers = {"TRL": trl, FAIR: [*trl, "--label-logits"]} if given.peer else {}
    ours = {name: [sys.executable, __file__, "--only", folder, name, *steps] for name in OURS}
    return {**peers, **ours, "bare loop, sharing": [sys.executable, str(HERE / "reward_bare.py"), folder, *steps]}


def measure(name: str, command: list[str]) -> dict[str, Any]:
    environment = {**os.environ, "PYTHONPATH": str(HERE.parents[1]), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{") and "cpu_sec" in line]
    if ran.returncode or not lines:
        sys.exit(f"{name}: {' '.join(command)} failed:\n{ran.stdout[-2000:]}{ran.stderr[-4000:]}")
    return json.loads(lines[-1])


def table(found: dict[str, list[dict[str, Any]]]) -> str:
    speeds = {
        name: statistics.median(each["samples"] / each["cpu_sec"] for each in runs) for name, runs in found.items()
    }
    first = speeds.get(FAIR) or next(iter(speeds.values()))
    lines = [f"{'':32}{'samples / CPU s':>16}{'CPU s a step':>14}{'rollout':>9}{'ratio':>8}"]
    for name, runs in found.items():
        seconds = statistics.median(each["cpu_sec"] for each in runs)
        rollout = statistics.median(each["rollout_cpu_sec"] / each["cpu_sec"] for each in runs)
        lines.append(f"{name:32}{speeds[name]:16.2f}{seconds:14.2f}{rollout:9.0%}{speeds[name] / first:8.2f}")
    return "\n".join(lines)


def write_fixture(folder: str, tokens: int) -> None:
    """The model and images of fixture.py, and questions whose longest prompt has as many tokens as it should."""
    sizes = ["--images", str(IMAGES), "--questions", str(QUESTIONS), "--tokens", str(tokens)]
    command = [sys.executable, str(HERE / "fixture.py"), folder, *sizes]
    subprocess.run(
        command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": str(HERE.parents[1])}
    )
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(f"{folder}/model", trust_remote_code=False)
    records = json.loads(Path(folder, "llava.json").read_text(encoding="utf-8"))
    words = " ".join(record["conversations"][0]["value"].split(": ")[-1] for record in records).split()
    rng = random.Random(0)
    intro: list[str] = []

    def asked(record: dict[str, Any]) -> str:
        return f"<image>\n{' '.join(intro)} . {record['conversations'][0]['value'].split(': ')[-1]} ?"

    def longest() -> int:
        """Tokens of text in a prompt."""
        turns = [[{"role": "user", "content": asked(record)}] for record in records]
        texts = [tokenizer.apply_chat_template(each, tokenize=False, add_generation_prompt=True) for each in turns]
        return max(len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts) - 1

    while longest() < TEXT_TOKENS:
        intro.append(rng.choice(words))
    for record in records:
        record["conversations"][0]["value"] = asked(record)
    Path(folder, "questions.json").write_text(json.dumps(records), encoding="utf-8")


def config_of(folder: str, *, share: bool) -> dict[str, Any]:
    """With `share` an item is an image with its questions, without it a question."""
    data: dict[str, Any] = {"type": "Instruct", "filename": f"{folder}/questions.json", "image_folder": folder}
    if share:
        data = {"type": "SamePicture", "dataset": data, "picture": "image"}
    return {
        "model_args": {
            "type": "llava",
            "model_name_or_path": f"{folder}/model",
            "template": "chat",
            "placement": "crop",
            "freeze": ["vision_tower"],
        },
        "data_args": {"train": data, "collator_kwargs": {"packing": "shared" if share else "none", "window": 1}},
        "reward_args": {
            "rewards": {"worth": {"type": "LengthByThirtySeven"}},
            "num_generations": ANSWERS,
            "max_completion_length": NEW_TOKENS,
            "share_prefix": share,
            "log_completions_steps": 0,
        },
    }


def run(folder: str, *, steps: int, share: bool) -> dict[str, Any]:
    """One of our own contenders, through the pipeline that users run."""
    import torch
    from transformers import TrainerCallback

    from mllm.config.arguments import DEFAULTS, build_training_arguments
    from mllm.pipeline import policy_trainer
    from mllm.pipeline.allocation import keep_freed_memory
    from mllm.pipeline.build import build as build_trainer
    from mllm.registry import REWARDS
    from mllm.types import Prediction

    @REWARDS.register_module()
    class LengthByThirtySeven:
        """Cheap, and as good as random."""

        def __call__(self, prediction: Prediction) -> float:
            return len(prediction.text) * 37 % 101 / 101

    torch.set_num_threads(1)
    keep_freed_memory()
    stamps, spent = [time.process_time()], list[float]()
    sample = policy_trainer.sample_answers

    def timed(*given: Any, **named: Any) -> Any:
        start = time.process_time()
        found = sample(*given, **named)
        spent.append(time.process_time() - start)
        return found

    class Clock(TrainerCallback):
        def on_step_end(self, *given: Any, **named: Any) -> None:
            stamps.append(time.process_time())

    policy_trainer.sample_answers = timed
    with tempfile.TemporaryDirectory() as out:
        args = build_training_arguments(
            {
                **DEFAULTS,
                "output_dir": out,
                "do_train": True,
                "use_cpu": True,
                "max_steps": steps,
                "per_device_train_batch_size": 1 if share else QUESTIONS,
                "train_sampling_strategy": "sequential",
                "learning_rate": 1e-4,
                "logging_steps": 1,
                "save_strategy": "no",
                "report_to": "none",
                "disable_tqdm": True,
                "dataloader_num_workers": 0,
            }
        )
        trainer = build_trainer(config_of(folder, share=share), args)
        model: Any = trainer.model
        model.generation_config.min_new_tokens = NEW_TOKENS  # no answer ends before
        trainer.add_callback(Clock())
        trainer.train()
    timed_steps = steps - WARM_UP
    return {
        "samples": QUESTIONS * ANSWERS,
        "cpu_sec": (stamps[-1] - stamps[WARM_UP]) / timed_steps,
        "rollout_cpu_sec": sum(spent[WARM_UP:]) / timed_steps,
    }


if __name__ == "__main__":
    main()

"""TRL's GRPOTrainer, for `reward.py`: needs an environment of its own with torch, trl and pillow.

    OMP_NUM_THREADS=1 peers/trl/bin/python tools/bench/reward_trl.py DIR [--label-logits]

Its batch are all answers of a step, its rollout and update as they are, with no reference model. On a CPU it computes
the logits of every position, the prompt's included; `--label-logits` lets it take the way that it takes on a GPU, which
computes those of answers only. One JSON line: samples, and seconds of process CPU time for a step and its rollout.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ |= {"HF_HUB_OFFLINE": "1", "WANDB_DISABLED": "true", "TOKENIZERS_PARALLELISM": "false"}

import torch
import transformers
from transformers import AutoProcessor, LlavaForConditionalGeneration

datasets: Any = importlib.import_module("datasets")  # which this project's own environment lacks
trl: Any = importlib.import_module("trl")
IMAGE = "<image>"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that reward.py wrote")
    parser.add_argument("--answers", type=int, default=8, help="of each question")
    parser.add_argument("--new-tokens", type=int, default=24)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--label-logits", action="store_true")
    print(json.dumps(run(parser.parse_args())))


def run(given: argparse.Namespace) -> dict[str, Any]:
    torch.set_num_threads(1)
    transformers.utils.logging.disable_progress_bar()
    if given.label_logits:
        grpo_parts: Any = importlib.import_module("trl.trainer.utils")
        grpo_parts._use_triton = lambda device: True
    processor: Any = AutoProcessor.from_pretrained(f"{given.fixture}/model", trust_remote_code=False)
    processor.tokenizer.padding_side = "left"
    model: Any = LlavaForConditionalGeneration.from_pretrained(f"{given.fixture}/model", dtype=torch.float32)
    model.model.vision_tower.requires_grad_(False)
    questions, data = dataset(given.fixture)
    rows = questions * given.answers
    stamps = [time.process_time()]
    spent: list[float] = []

    class Timed(trl.GRPOTrainer):
        def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
            start = time.process_time()
            found = super()._generate_single_turn(*arguments, **named)
            spent.append(time.process_time() - start)
            return found

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *arguments: Any, **named: Any) -> None:
            stamps.append(time.process_time())

    with tempfile.TemporaryDirectory() as folder:
        arguments = trl.GRPOConfig(
            output_dir=folder,
            per_device_train_batch_size=rows,
            gradient_accumulation_steps=1,
            num_generations=given.answers,
            max_completion_length=given.new_tokens,
            max_steps=given.steps,
            learning_rate=1e-4,
            gradient_checkpointing=False,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            use_cpu=True,
            bf16=False,
            shuffle_dataset=False,
            # an image token among the answers would break the update
            generation_kwargs={
                "min_new_tokens": given.new_tokens,
                "suppress_tokens": [processor.tokenizer.convert_tokens_to_ids(IMAGE)],
            },
        )
        Timed(
            model=model,
            reward_funcs=reward,
            args=arguments,
            train_dataset=data,
            processing_class=processor,
            callbacks=[Clock()],
        ).train()
    return {
        "samples": rows,
        "cpu_sec": (stamps[-1] - stamps[given.warm_up]) / (given.steps - given.warm_up),
        "rollout_cpu_sec": sum(spent[given.warm_up :]) / (given.steps - given.warm_up),
        "version": f"trl {trl.__version__}, transformers {transformers.__version__}, torch {torch.__version__}",
    }


def dataset(fixture: str) -> tuple[int, Any]:
    """How many questions an image has, and all of them, those about an image together."""
    records = json.loads(Path(fixture, "questions.json").read_text(encoding="utf-8"))
    rows = [
        {
            "prompt": [{"role": "user", "content": record["conversations"][0]["value"].removeprefix(f"{IMAGE}\n")}],
            "image": f"{fixture}/{record['image']}",
        }
        for record in records
    ]
    questions = sum(record["image"] == records[0]["image"] for record in records)
    return questions, datasets.Dataset.from_list(rows).cast_column("image", datasets.Image())


def reward(completions: list[list[dict[str, str]]], **_: Any) -> list[float]:
    """As that of reward.py."""
    return [len(answer[0]["content"]) * 37 % 101 / 101 for answer in completions]


if __name__ == "__main__":
    main()

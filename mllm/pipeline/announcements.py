"""What a run says before it trains, and after."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from mllm.models.adapters.injection import parameter_count
from mllm.pipeline.data import Data
from mllm.pipeline.trainer import Trainer


def before_training(trainer: Trainer, cfg: Mapping[str, Any], data: Data) -> str:
    """What is trained, on what, how long, and where it is written."""
    args, model = trainer.args, trainer.model
    counts = [(parameter_count(one), one.requires_grad) for one in model.parameters()]
    trained, total = sum(count for count, trains in counts if trains), sum(count for count, _ in counts)
    section = cfg["model_args"]
    origin = f" from {section['model_name_or_path']}" if section.get("model_name_or_path") else ""
    rows, accumulated, ranks = args.per_device_train_batch_size, args.gradient_accumulation_steps, args.world_size
    steps = f"{args.max_steps:,} steps" if args.max_steps > 0 else f"{args.num_train_epochs:g} epochs"
    precision = "bf16" if args.bf16 else "fp16" if args.fp16 else "fp32"
    lines = {
        "model": f"{section['type']}{origin}: {total:,} parameters, {trained:,} trained",
        "train": f"{len(data.train or ()):,} items of {_name(cfg, 'train')}",
        "batch": f"{rows} x {accumulated} accumulated x {ranks} processes = {rows * accumulated * ranks}",
        "length": f"{steps}, {precision}, on {args.device.type}",
        "output": args.output_dir,
    }
    if data.validation is not None:
        lines["validation"] = f"{len(data.validation.items):,} items of {_name(cfg, 'validation')}"
    lines |= {prefix: f"{len(test.items):,} items" for prefix, test in data.tests.items()}
    lines |= trainer.announced()
    return "training\n" + "\n".join(f"  {name:15} {said}" for name, said in lines.items())


def after_training(trainer: Trainer) -> str:
    """Where the model is, and what one does with it next."""
    folder = shlex.quote(str(trainer.folder))
    return (
        f"trained {trainer.state.global_step:,} steps; the model is in {folder}\n"
        f"  evaluate   mllm eval {folder}/config.py --cfg-options model_args.model_name_or_path={folder} "
        f"--output_dir {folder}/eval\n"
        f"  ask        mllm predict --model {folder} --image FILE --prompt TEXT"
    )


def _name(cfg: Mapping[str, Any], split: str) -> str:
    return f"data_args.{split} ({cfg['data_args'][split]['type']})"

"""The three flan_t5_small configs side by side: memory, time per step, loss.

    python tools/bench/seq2seq.py [--model /path/to/flan-t5-small] [--steps 20] [--batch-size 8]

Each config trains the same steps on the same texts in a process of its own, on the GPU if there is one. Prints a line
of JSON for each, then a table. Memory on a GPU is what PyTorch allocates; on a CPU (Linux) what is resident beyond the
imports, loading included. Without --model, the weights are random, of flan-t5-small's shape: memory and time are those
of the real model, losses are not.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForSeq2SeqLM, T5Config, TrainerCallback

from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.pipeline.build import build

ROOT = Path(__file__).parents[2]
CONFIGS = ("fp32", "bf16", "int8_lora")
FLAN_T5_SMALL: dict[str, Any] = {
    "vocab_size": 32128,
    "d_model": 512,
    "d_kv": 64,
    "d_ff": 1024,
    "num_layers": 8,
    "num_heads": 6,
    "feed_forward_proj": "gated-gelu",
    "tie_word_embeddings": False,
}
"""config.json of google/flan-t5-small."""
TEXT = "the red dog runs over a small bridge near the old house and a blue bird sings today under the tall green tree"
COLUMNS = {
    "peak_mb": "peak MB",
    "weights_mb": "weights MB",
    "trained": "trained",
    "seconds_per_step": "s/step",
    "first_loss": "first loss",
    "last_loss": "last loss",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="folder of google/flan-t5-small")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--one", help=argparse.SUPPRESS, nargs=2, metavar=("CONFIG", "FOLDER"))
    args = parser.parse_args()
    if args.one:
        measure(*args.one, model=args.model, steps=args.steps, batch_size=args.batch_size)
        return
    with tempfile.TemporaryDirectory() as folder:
        rows = []
        write_texts(Path(folder))
        if not args.model:
            print("random weights of flan-t5-small's shape: the losses say nothing about the real model")
            random_weights(Path(folder))
        for config in CONFIGS:
            command = [sys.executable, __file__, "--one", config, folder, "--model", args.model or f"{folder}/model"]
            command += ["--steps", str(args.steps), "--batch-size", str(args.batch_size)]
            with Path(folder, "log").open("w") as log:
                done = subprocess.run(command, cwd=ROOT, stdout=log, stderr=log, check=False)
            if done.returncode:
                raise SystemExit(f"{config} failed:\n{Path(folder, 'log').read_text()[-2000:]}")
            rows.append(json.loads(Path(folder, f"{config}.json").read_text()))
            print(json.dumps(rows[-1]), flush=True)
    print(f"\n{rows[0]['device']}, batches of {args.batch_size}, {args.steps} steps; in brackets the ratio to fp32")
    print(table(rows))


def write_texts(folder: Path) -> None:
    rng = random.Random(0)
    with (folder / "texts.jsonl").open("w") as file:
        for _ in range(512):
            words = rng.choices(TEXT.split(), k=rng.randint(80, 160))
            line = {"instruction": "Summarize.", "input": " ".join(words), "output": " ".join(words[:16])}
            file.write(json.dumps(line) + "\n")


def random_weights(folder: Path) -> None:
    tokenizer = train_tokenizer([TEXT] * 2, vocab_size=500)
    torch.manual_seed(0)
    ends: dict[str, Any] = {"pad_token_id": tokenizer.pad_token_id, "eos_token_id": tokenizer.eos_token_id}
    model: Any = AutoModelForSeq2SeqLM.from_config(T5Config(**FLAN_T5_SMALL, **ends), trust_remote_code=False)
    model.lm_head.weight = torch.nn.Parameter(0.02 * torch.randn_like(model.lm_head.weight))  # Flan's head is its own
    for config in (model.config, model.generation_config):
        config.decoder_start_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")


def measure(config: str, folder: str, *, model: str, steps: int, batch_size: int) -> None:
    """Train one config, and leave its numbers in `folder`."""
    before = resident("VmRSS")
    texts = {f"data_args.{part}.filename": f"{folder}/texts.jsonl" for part in ("train", "validation")}
    options = {"model_args.model_name_or_path": model, **texts}
    flags = {"max_steps": steps, "per_device_train_batch_size": batch_size, "logging_steps": 1, "report_to": "none"}
    flags |= {"do_eval": False, "output_dir": f"{folder}/out_{config}", "use_cpu": not torch.cuda.is_available()}
    argv = [str(ROOT / f"config/flan_t5_small_{config}.py")]
    argv += ["--cfg-options", *(f"{name}={value}" for name, value in options.items())]
    argv += [word for name, value in flags.items() for word in (f"--{name}", str(value))]
    cfg, args = load(parse(argv))
    trainer = build(cfg.to_dict(), args)
    clock = Clock()
    trainer.add_callback(clock)
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    cuda = torch.cuda.is_available()
    row = {
        "config": config,
        "device": torch.cuda.get_device_name() if cuda else f"CPU, {torch.get_num_threads()} thread(s)",
        "peak_mb": (torch.cuda.max_memory_allocated() if cuda else resident("VmHWM") - before) / 1e6,
        "weights_mb": sum(tensor.nbytes for tensor in weights(trainer.model)) / 1e6,
        "trained": sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        "seconds_per_step": statistics.median(clock.seconds[1:]),
        "first_loss": losses[0],
        "last_loss": losses[-1],
    }
    Path(folder, f"{config}.json").write_text(json.dumps(row))


class Clock(TrainerCallback):
    """Seconds of each step."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds.append(time.perf_counter() - self.began)


def weights(model: Any) -> list[torch.Tensor]:
    """Parameters and buffers, each once, and the scales that bitsandbytes keeps beside its parameters."""
    tensors = [*model.parameters(), *model.buffers()]
    scales = [getattr(parameter, "SCB", None) for parameter in model.parameters()]
    return tensors + [scale for scale in scales if scale is not None]


def resident(field: str) -> int:
    """Bytes of resident memory of this process: now ("VmRSS"), or at its highest ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def table(rows: list[dict[str, Any]]) -> str:
    lines = [f"{'config':12}" + "".join(f"{title:>22}" for title in COLUMNS.values())]
    for row in rows:
        cells = []
        for name in COLUMNS:
            ratio = "" if name.endswith("loss") else f" ({row[name] / rows[0][name]:.3f})"
            value = f"{row[name]:,}" if isinstance(row[name], int) else f"{row[name]:.3f}"
            cells.append(f"{value + ratio:>22}")
        lines.append(f"{row['config']:12}" + "".join(cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()

"""What starting takes, in CPU seconds: every command's help, imports, and training up to the end of its first step.

    OMP_NUM_THREADS=1 python tools/bench/startup.py [--tokenizers FOLDER ...] [--only help|imports|steps]

Each line is a fresh process; its time is that of the kernel, user and system together, the least of `--rounds`. The
model of the first step is tiny, so what is measured is imports, the tokenizer, the data and the build. Without
`--tokenizers` one of 150,000 byte-level tokens is made up, as large as Qwen's or Llama 3's.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from importlib import import_module
from itertools import product
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from processes import cpu, usage_of

IMPORTS = (
    "cli",
    "registry",
    "types",
    "config.config",
    "images",
    "dataset.mixing",
    "tokenizer_files",
    "conversation.processor",
    "metrics.rec",
    "models.llava",
    "pipeline.build",
)
CODECS = ("bins", "shikra")
"""One with a thousand tokens of its own, and one with none."""
SIZE = 150_000
RUN = "run"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizers", nargs="+", default=[], metavar="FOLDER")
    parser.add_argument("--only", choices=("help", "imports", "steps"))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--until-first-step", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.until_first_step is not None:
        until_first_step(given.until_first_step)
        return
    with tempfile.TemporaryDirectory() as folder:
        for kind, name, command in lines(given.tokenizers, Path(folder)):
            if given.only in (None, kind):
                seconds = min(cpu_seconds(command, Path(folder)) for _ in range(given.rounds))
                print(f"{kind:8}{name:60}{seconds:8.2f}", flush=True)


def lines(tokenizers: list[str], folder: Path) -> Iterator[tuple[str, str, list[str]]]:
    """The kind, the name and the command of each measurement."""
    for words in commands():
        yield "help", " ".join(["mllm", *words]), [sys.executable, "-m", "mllm.cli", *words, "--help"]
    for module in IMPORTS:
        yield "imports", f"mllm.{module}", [sys.executable, "-c", f"import mllm.{module}"]
    for tokenizer in tokenizers or [make_tokenizer(folder / "made up")]:
        for codec in CODECS:
            options = [f"model_args.tokenizer={tokenizer}", f"model_args.codec={codec}"]
            words = ["--max_steps", "2", "--output_dir", str(folder / RUN), "--do_eval", "False"]
            run = ["config/demo_scenes.py", "--cfg-options", *options, "data_args.collator_kwargs.packing=none"]
            command = [sys.executable, __file__, "--until-first-step", *run, *words]
            yield "steps", f"{Path(tokenizer).name}, codec {codec}", command


def commands() -> Iterator[list[str]]:
    from typer.main import get_command

    from mllm import cli

    yield from subcommands(get_command(cli.app))


def subcommands(command: Any) -> Iterator[list[str]]:
    yield []
    for name, inner in getattr(command, "commands", {}).items():
        yield from ([name, *rest] for rest in subcommands(inner))


def cpu_seconds(command: list[str], folder: Path) -> float:
    shutil.rmtree(folder / RUN, ignore_errors=True)  # what the last one wrote
    return cpu(usage_of(command))


def until_first_step(words: list[str]) -> None:
    """Train, and end the process where the first step ends."""
    from transformers.trainer_callback import DefaultFlowCallback

    def leave(*given: Any, **options: Any) -> Any:
        os._exit(0)

    DefaultFlowCallback.on_step_end = leave
    finetune = import_module("mllm.pipeline.finetune")
    sys.exit(f"no step was made: {finetune.main(words)}")


def make_tokenizer(folder: Path) -> str:
    """A byte-level tokenizer whose words are sequences of letters."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges = [
        ("".join(word[:-1]), word[-1]) for length in (2, 3, 4) for word in product(ascii_lowercase, repeat=length)
    ]
    del merges[SIZE - len(alphabet) :]
    words = [*alphabet, *("".join(pair) for pair in merges)]
    backend = Tokenizer(models.BPE(vocab={word: number for number, word in enumerate(words)}, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)  # pyright: ignore[reportAttributeAccessIssue]
    backend.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **special).save_pretrained(folder)
    return str(folder)


if __name__ == "__main__":
    main()

"""Train, evaluate and predict as a config says: `accelerate launch mllm/pipeline/finetune.py CONFIG [flags]`."""

from __future__ import annotations

import multiprocessing
import os
import sys
from typing import NoReturn

from mllm.boundary import reported
from mllm.config.command_line import Given, parse
from mllm.config.config import load


def main(argv: list[str] | None = None) -> int:
    """Exit status 0; 1 with a one-line message for an error, 2 for a wrong command line; 128 + n: signal n ended it."""
    return reported(lambda: start(parse(sys.argv[1:] if argv is None else argv)))


def start(given: Given) -> None:
    """Run what a command line says."""
    cfg, args = load(given)
    # imports PyTorch and transformers, which take seconds: `--help` and a misspelt config need not wait for them
    from mllm.pipeline.run import run_pipeline

    run_pipeline(cfg, args)


def leave(status: int) -> NoReturn:
    """Exit, one process among several: after an error it does not wait for the others, which may wait for it."""
    torch = sys.modules.get("torch")  # absent where the run ended before it was needed
    if torch and torch.distributed.is_initialized():
        if status:
            for reader in multiprocessing.active_children():
                reader.kill()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        torch.distributed.destroy_process_group()  # one whose communication still runs at its exit may abort
    sys.exit(status)


if __name__ == "__main__":
    leave(main())

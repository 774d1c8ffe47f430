"""Train, evaluate and predict as a config says: `accelerate launch mllm/pipeline/finetune.py CONFIG [flags]`."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mllm.boundary import reported
from mllm.config.config import dump, load
from mllm.errors import ConfigError

if TYPE_CHECKING:
    from transformers import Seq2SeqTrainingArguments

    from mllm.config.config import Config

# PyTorch and transformers take seconds to import, which `--help` and a misspelt config need not wait for: see `run`.

logger = logging.getLogger("mllm")


def main(argv: list[str] | None = None) -> int:
    """Exit status 0, or 1 with a one-line message for what a user can mend."""
    return reported(lambda: _run(sys.argv[1:] if argv is None else argv))


def _run(argv: list[str]) -> None:
    run(*load(argv))


def part() -> None:
    """The end of a process among several: one whose communication still runs at its exit may abort."""
    torch = sys.modules.get("torch")  # absent where the run ended before it was needed
    if torch and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def run(cfg: Config, args: Seq2SeqTrainingArguments) -> dict[str, float]:
    """Do what `do_train`, `do_eval`, `do_predict` ask for; all scores, keyed by the prefix of their files."""
    from transformers import set_seed

    from mllm.pipeline.builder import build
    from mllm.pipeline.trainer import resume_point

    if not (args.do_train or args.do_eval or args.do_predict):
        raise ConfigError("nothing to do: set do_train, do_eval or do_predict (or use mllm train|eval|predict)")
    assert args.output_dir is not None, "load gives every run an output_dir"
    checkpoint = resume_point(args.output_dir, args.resume_from_checkpoint) if args.do_train else None
    _log_to(Path(args.output_dir), main=args.process_index == 0)
    set_seed(args.seed)
    built = build(cfg.to_dict(), args)
    dump(cfg, args, args.output_dir)
    if args.do_train:
        built.trainer.train(resume_from_checkpoint=checkpoint)
        built.trainer.save_model()
        built.trainer.save_state()
    scores: dict[str, float] = {}
    if args.do_eval:
        scores |= built.trainer.evaluate()
    for prefix, test in built.tests.items():
        scores |= built.trainer.score(test, prefix)
    return scores


def _log_to(folder: Path, *, main: bool) -> None:
    """INFO of this package to the terminal and, on the main process, everything to `train.log` beside the outputs."""
    terminal = logging.StreamHandler()
    terminal.setLevel(logging.INFO if main else logging.WARNING)
    handlers: list[logging.Handler] = [terminal]
    if main:
        folder.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(folder / "train.log", encoding="utf-8"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(name)s: %(message)s"))
    logger.handlers = handlers
    logger.setLevel(logging.DEBUG)
    logger.propagate = False


if __name__ == "__main__":
    status = main()
    part()
    sys.exit(status)

"""The `mllm` command: `mllm train|eval|predict CONFIG [flags]`, the short form of the pipeline's entry point."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from mllm.boundary import reported

USAGE = """usage: mllm COMMAND CONFIG [--cfg-options a.b=c ...] [--any_training_argument value ...]

  train       train as the config says, then evaluate and predict where it sets do_eval / do_predict
  eval        loss and scores on data_args.validation
  predict     answers and scores on data_args.test and data_args.multitest; or one answer:
              mllm predict --model DIR --image FILE --prompt TEXT
  data        show | check | dedup: see the data as the model does, find bad lines, find duplicates, see --help
  checkpoint  inspect | convert | export | merge | diff: checkpoints of this and other software, see --help
  model       mllm model show CONFIG: the tree of modules, and the memory that training would take; reads no weights
  regions     mllm regions convert --from CODEC --to CODEC IN OUT: rewrite boxes and points in another convention

On several processes or GPUs: accelerate launch mllm/pipeline/finetune.py CONFIG [flags]
`mllm train --help` lists the flags.
"""
FLAGS = {
    "train": ["--do_train", "True"],
    "eval": ["--do_train", "False", "--do_eval", "True", "--do_predict", "False"],
    "predict": ["--do_train", "False", "--do_eval", "False", "--do_predict", "True"],
}
MODULES = {
    "data": "mllm.commands.data.cli",
    "checkpoint": "mllm.commands.checkpoint.cli",
    "model": "mllm.commands.model.cli",
    "regions": "mllm.commands.regions.cli",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 for an error; 2 for a wrong command line; 128 + n where signal n ended the run."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    return reported(lambda: _run(*arguments))


def _run(command: str, *rest: str) -> int:
    asks = command == "predict" and any(word.partition("=")[0] == "--model" for word in rest)
    if asks or command in MODULES:
        # imported when asked for: PyTorch and transformers take seconds to load
        return import_module("mllm.commands.ask" if asks else MODULES[command]).main(rest)
    if command in FLAGS:
        return import_module("mllm.pipeline.finetune").main([*rest, *FLAGS[command]])
    print(f"mllm: unknown command: {' '.join((command, *rest))}\n\n{USAGE}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

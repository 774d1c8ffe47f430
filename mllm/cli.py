"""The `mllm` command: `mllm train|eval|predict CONFIG [flags]`, the short form of the pipeline's entry point."""

from __future__ import annotations

import sys
from collections.abc import Sequence

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


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 for what a user can mend in config, data or model; 2 for a wrong command line."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0 if arguments else 2
    command, *rest = arguments
    # imported when asked for: PyTorch and transformers take seconds to load
    if command == "regions":
        from mllm.pipeline import regions

        return regions.main(rest)
    if command == "checkpoint":
        from mllm.pipeline import checkpoint

        return checkpoint.main(rest)
    if command == "data":
        from mllm.pipeline.inspection import commands

        return commands.main(rest)
    if command == "model" or (command == "predict" and any(word.partition("=")[0] == "--model" for word in rest)):
        from mllm.pipeline import finetune, model_map, session

        return finetune.reported(lambda: (model_map if command == "model" else session).main(rest))
    if command in FLAGS:
        from mllm.pipeline import finetune

        return finetune.main([*rest, *FLAGS[command]])
    print(f"mllm: unknown command: {' '.join(arguments)}\n\n{USAGE}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())

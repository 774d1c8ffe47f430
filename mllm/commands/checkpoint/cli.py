"""`mllm checkpoint inspect|convert|export|merge|diff`: what checkpoints hold, and other layouts, in and out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from mllm.boundary import reported

FORMATS = ("transformers-llava", "openflamingo", "otter", "adapter")
DTYPES = ("float32", "bfloat16", "float16")


def main(argv: Sequence[str]) -> int:
    """Exit status 0; of `diff` 1 where they differ; 1 for what a user can mend (of `diff` 2); 2 for a wrong command."""
    args = _parser().parse_args(argv)
    return reported(lambda: _run(args), failed=2 if args.command == "diff" else 1)


def _run(args: argparse.Namespace) -> int | None:
    from mllm.commands.checkpoint import operations as checkpoint

    runs = {
        "inspect": checkpoint.inspect,
        "convert": checkpoint.convert,
        "export": checkpoint.export,
        "merge": checkpoint.merge,
        "diff": checkpoint.diff,
    }
    return runs[args.command](args)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mllm checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, help: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=help, description=help)

    inspect = add("inspect", "say what a checkpoint is, what it holds, and what has to come from elsewhere")
    inspect.add_argument("path", help="a folder, a file, or several files in order: a.pt,b.pt")
    into = add("convert", "write a checkpoint of any known layout as a folder for model_name_or_path")
    into.add_argument("path", help="a folder, a file, or several files in order: a.pt,b.pt")
    into.add_argument("out", help="a new folder")
    into.add_argument("--base", metavar="DIR", help="the language model (or LLaVA) that the checkpoint goes onto")
    into.add_argument("--vision-tower", metavar="DIR", help="the vision encoder, where the checkpoint names one only")
    into.add_argument("--tokenizer", metavar="DIR", help="default: the checkpoint's own, else that of its base")
    into.add_argument("--tuning-config", metavar="JSON", help="of Instruct-Flamingo: says lora_alpha")
    _add_writing(into)
    out = add("export", "write a model, or its adapters alone, for other software; adapters are merged")
    out.add_argument("model", help="a folder that this toolkit saved")
    out.add_argument("out", help="a new folder")
    out.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s")
    out.add_argument("--whole", action="store_true", help="openflamingo: language model and vision encoder too")
    out.add_argument(
        "--original-vocabulary", action="store_true", help="without added tokens that the layout can spare"
    )
    out.add_argument("--dtype", choices=DTYPES, help="default: as the model is stored")
    merge = add("merge", "add trained adapters to their base, and write the whole model")
    merge.add_argument("adapters", help="a folder of adapters that this toolkit saved")
    merge.add_argument("out", help="a new folder")
    _add_writing(merge)
    diff = add("diff", "compare two checkpoints tensor by tensor; exit status 1 where they differ, 2 for trouble")
    diff.add_argument("a", help="a folder, a file, or a.pt,b.pt; of two layouts, names are compared as ours")
    diff.add_argument("b")
    return parser


def _add_writing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", choices=DTYPES, help="of all weights; default: as they are")
    command.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file; default: %(default)s")

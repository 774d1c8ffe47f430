"""`mllm checkpoint inspect|convert|export|merge|diff`: what checkpoints hold, and other layouts, in and out."""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from mllm.boundary import reported
from mllm.errors import ModelError
from mllm.models.adaptation import base_of
from mllm.models.adapter_export import export_adapter
from mllm.models.checkpoints import export_transformers_llava, load_llava
from mllm.models.conversion import convert
from mllm.models.flamingo import MllmFlamingoConfig
from mllm.models.flamingo_builder import load_flamingo
from mllm.models.flamingo_checkpoints import save_reference
from mllm.models.layout import Sources, open_path, read_config
from mllm.models.otter import TOKENS, save_otter
from mllm.models.parts import torch_dtype
from mllm.models.speech import note_speech, stored_speech
from mllm.models.vocabulary import take_away
from mllm.pipeline.builder import merged
from mllm.pipeline.inventory import Inventory, compare
from mllm.tokenizer_files import load_tokenizer, save_tokenizer
from mllm.types import IMAGE

FORMATS = ("transformers-llava", "openflamingo", "otter", "adapter")
NEEDED = {"transformers-llava": (IMAGE,), "openflamingo": (IMAGE, TOKENS[0]), "otter": (IMAGE, *TOKENS)}
"""Tokens without which a layout cannot say where a picture is, or where an answer begins and ends."""
DTYPES = ("float32", "bfloat16", "float16")
CHECKPOINT = "checkpoint.pt"


def main(argv: Sequence[str]) -> int:
    """Exit status 0; of `diff` 1 where they differ; 1 for what a user can mend (of `diff` 2); 2 for a wrong command."""
    args = _parser().parse_args(argv)
    return reported(lambda: args.run(args), failed=2 if args.command == "diff" else 1)


@contextmanager
def new_folder(out: str) -> Iterator[Path]:
    """A folder beside `out`, which becomes `out` when all is written; of work that fails nothing is left.

    Raises:
        ModelError: `out` holds something already.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(f"{out} is not an empty folder: nothing is overwritten")
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    partial.mkdir(parents=True)
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def _inspect(args: argparse.Namespace) -> None:
    print(Inventory.of(open_path(args.path)).text())


def _convert(args: argparse.Namespace) -> None:
    sources = Sources(
        base=args.base, vision_tower=args.vision_tower, tokenizer=args.tokenizer, tuning_config=args.tuning_config
    )
    opened = open_path(args.path)
    with new_folder(args.out) as folder:
        dtype = torch_dtype(args.dtype) if args.dtype else None
        tokenizer = convert(opened, folder, sources, dtype=dtype, max_shard_size=args.max_shard_size)
    print(f"{args.out}: a whole model, for model_args.model_name_or_path")
    if tokenizer is None:
        print("  it has no tokenizer, which training and evaluation need: convert again with --tokenizer DIR")
    if opened.config.get("mm_use_im_start_end"):
        print("  it was trained with <im_start> and <im_end> around each picture")


def _export(args: argparse.Namespace) -> None:
    with new_folder(args.out) as folder:
        if args.format == "adapter":
            if args.original_vocabulary or args.whole or args.dtype:
                raise ModelError("--format adapter takes neither --original-vocabulary nor --whole nor --dtype")
            export_adapter(args.model, folder)
        else:
            _export_whole(args, folder)
    print(f"{args.out}: {args.format}")


def _export_whole(args: argparse.Namespace, folder: Path) -> None:
    model, tokenizer = _load(args.model)
    found, expected = type(model).__name__, "Llava" if args.format == "transformers-llava" else "Flamingo"
    if found != expected:
        raise ModelError(f"{args.model} holds a {found}, but --format {args.format} is for a {expected}")
    if args.whole and args.format != "openflamingo":
        raise ModelError(f"--whole: --format {args.format} always holds all weights")
    if args.dtype:
        model.to(torch_dtype(args.dtype))
    if args.original_vocabulary:
        tokenizer = take_away(model, tokenizer, folder, needed=NEEDED[args.format])
    if args.format == "transformers-llava":
        export_transformers_llava(model, tokenizer, str(folder))
    elif args.format == "otter":
        save_otter(model, tokenizer, str(folder))
    else:
        model.freeze(("vision_tower", "language_model"), "input")
        save_reference(model, str(folder / CHECKPOINT), whole=args.whole)
        save_tokenizer(tokenizer, folder)


def _load(folder: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """A whole model: adapters are merged into their base."""
    if base_of(folder):
        return merged(folder)
    flamingo = read_config(Path(folder)).get("model_type") == MllmFlamingoConfig.model_type
    return (load_flamingo if flamingo else load_llava)(folder), load_tokenizer(folder)


def _merge(args: argparse.Namespace) -> None:
    with new_folder(args.out) as folder:
        model, tokenizer = merged(args.adapters)
        if args.dtype:
            model.to(torch_dtype(args.dtype))
        model.save_pretrained(folder, max_shard_size=args.max_shard_size)
        save_tokenizer(tokenizer, folder)
        if said := stored_speech(args.adapters):
            note_speech(folder, said.pop("type"), said)
    print(f"{args.out}: the whole model")


def _diff(args: argparse.Namespace) -> int:
    text, differ = compare(open_path(args.a), open_path(args.b))
    print(text)
    return int(differ)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mllm checkpoint", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def add(name: str, run: Callable[[argparse.Namespace], int | None], help: str) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=help, description=help)
        command.set_defaults(run=run)
        return command

    inspect = add("inspect", _inspect, "say what a checkpoint is, what it holds, and what has to come from elsewhere")
    inspect.add_argument("path", help="a folder, a file, or several files in order: a.pt,b.pt")
    into = add("convert", _convert, "write a checkpoint of any known layout as a folder for model_name_or_path")
    into.add_argument("path", help="a folder, a file, or several files in order: a.pt,b.pt")
    into.add_argument("out", help="a new folder")
    into.add_argument("--base", metavar="DIR", help="the language model (or LLaVA) that the checkpoint goes onto")
    into.add_argument("--vision-tower", metavar="DIR", help="the vision encoder, where the checkpoint names one only")
    into.add_argument("--tokenizer", metavar="DIR", help="default: the checkpoint's own, else that of its base")
    into.add_argument("--tuning-config", metavar="JSON", help="of Instruct-Flamingo: says lora_alpha")
    _add_writing(into)
    out = add("export", _export, "write a model, or its adapters alone, for other software; adapters are merged")
    out.add_argument("model", help="a folder that this toolkit saved")
    out.add_argument("out", help="a new folder")
    out.add_argument("--format", choices=FORMATS, default=FORMATS[0], help="default: %(default)s")
    out.add_argument("--whole", action="store_true", help="openflamingo: language model and vision encoder too")
    out.add_argument(
        "--original-vocabulary", action="store_true", help="without added tokens that the layout can spare"
    )
    out.add_argument("--dtype", choices=DTYPES, help="default: as the model is stored")
    merge = add("merge", _merge, "add trained adapters to their base, and write the whole model")
    merge.add_argument("adapters", help="a folder of adapters that this toolkit saved")
    merge.add_argument("out", help="a new folder")
    _add_writing(merge)
    diff = add(
        "diff", _diff, "compare two checkpoints tensor by tensor; exit status 1 where they differ, 2 for trouble"
    )
    diff.add_argument("a", help="a folder, a file, or a.pt,b.pt; of two layouts, names are compared as ours")
    diff.add_argument("b")
    return parser


def _add_writing(command: argparse.ArgumentParser) -> None:
    command.add_argument("--dtype", choices=DTYPES, help="of all weights; default: as they are")
    command.add_argument("--max-shard-size", default="5GB", metavar="SIZE", help="of a file; default: %(default)s")

"""`mllm data show|check|dedup CONFIG`."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mllm.commands.jobs import Executor, ExecutorOptions, JobDir, Tasks, Workers, in_shards, run_job
from mllm.config.command_line import CONTEXT_SETTINGS, Command, CommandGroup, ConfigFile, ConfigOptions
from mllm.errors import ConfigError, DataError, printable
from mllm.fields import check_arguments, in_field
from mllm.files import writing_to
from mllm.generation_args import GenerationArgs

if TYPE_CHECKING:
    from mllm.commands.data.check import DataCheck
    from mllm.commands.data.dedup import Dedup
    from mllm.commands.data.faults import Fault
    from mllm.conversation.processor import Processor

WARNINGS_SHOWN = 20
"""Of each kind; all are counted."""

Splits = Annotated[
    list[str],
    typer.Option(
        "--split",
        metavar="NAME ...",
        default_factory=list,
        show_default=False,
        help="train, validation, test, multitest.NAME. Default: all.",
    ),
]
StandIn = Annotated[
    bool,
    typer.Option("--stand-in", help="Read without the model's folder: bytes for tokens, a square of 336 pixels."),
]

app = typer.Typer(
    cls=CommandGroup,
    context_settings=CONTEXT_SETTINGS,
    help="Look at the data of a config before training on it. No weights are read.",
)


@app.command(cls=Command)
def show(
    config: ConfigFile,
    cfg_options: ConfigOptions,
    split: Splits,
    index: Annotated[
        list[int],
        typer.Option(metavar="N ...", default_factory=list, show_default=False, help="Show these samples instead."),
    ],
    stand_in: StandIn = False,
    count: Annotated[int, typer.Option(min=1, help="Samples of each split, evenly spaced.")] = 6,
    text: Annotated[bool, typer.Option("--text", help="Print to the terminal instead of writing a page.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write the page. Default: data.html in the config's output_dir."),
    ] = None,
) -> int:
    """Write a page of samples as the model reads them: images, prompts, boxes."""
    return _show(SimpleNamespace(**locals()))


@app.command(cls=Command)
def check(
    config: ConfigFile,
    cfg_options: ConfigOptions,
    split: Splits,
    executor_options: ExecutorOptions,
    stand_in: StandIn = False,
    decode: Annotated[
        bool, typer.Option("--decode", help="Decode every image instead of reading its header alone.")
    ] = False,
    workers: Workers = None,
    job_dir: JobDir = None,
    tasks: Tasks = None,
    executor: Executor = None,
) -> int:
    """Read everything, name every bad line, sum up lengths and shares; exit status 1 if anything is wrong."""
    return _check(SimpleNamespace(command="check", **locals()))


@app.command(cls=Command)
def dedup(
    config: ConfigFile,
    cfg_options: ConfigOptions,
    split: Splits,
    executor_options: ExecutorOptions,
    bits: Annotated[int, typer.Option(help="Bits of 64 in which the hashes of alike images may differ.")] = 4,
    similarity: Annotated[float, typer.Option(help="Share of words that alike texts have in common.")] = 0.8,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the findings to this file, as JSON.")
    ] = None,
    workers: Workers = None,
    job_dir: JobDir = None,
    tasks: Tasks = None,
    executor: Executor = None,
) -> int:
    """Find near-duplicate images and texts; exit status 1 if an image of a test set is in training."""
    return _dedup(SimpleNamespace(command="dedup", **locals()))


def _config(args: SimpleNamespace) -> dict[str, Any]:
    from mllm.config.config import read
    from mllm.images.settings import configure, read_settings

    cfg = read(args.config, options=args.cfg_options).to_dict()
    configure(read_settings(cfg["data_args"].get("images")))
    return cfg


def _processor(args: SimpleNamespace, cfg: dict[str, Any]) -> Processor:
    from mllm.config.sections import generation_sections

    model, data = cfg["model_args"], cfg["data_args"]
    for field, given in generation_sections(data).items():
        in_field(field, check_arguments, given, GenerationArgs)
    if args.stand_in:
        from mllm.commands.data.stand_in import make_stand_in

        return make_stand_in(model, data)
    from mllm.commands.data.reader import make_processor
    from mllm.pipeline.run_checks import check_generation, check_model_args, typed
    from mllm.registry import DATASETS

    model = typed(model)
    check_model_args(model)
    for field, given in generation_sections(data).items():
        check_generation(given, field)

    trains = isinstance(model.get("tokenizer"), dict) and not model.get("model_name_or_path") and data.get("train")
    try:
        train = DATASETS.make(data["train"]) if trains else None
    except DataError as error:
        raise DataError(f"{error}; the config trains a tokenizer on this dataset; --stand-in needs none") from error
    return make_processor(model, data, train)


def _show(args: SimpleNamespace) -> int:
    cfg = _config(args)
    from mllm.commands.data.show import cards, terminal, write_page
    from mllm.pipeline.splits import splits

    chosen = splits(cfg["data_args"], args.split)
    processor = _processor(args, cfg)
    sections = [(split, cards(split, processor, count=args.count, indices=args.index)) for split in chosen]
    read = any(card.item for _, found in sections for card in found)
    if args.text:
        print(terminal(sections, colour=sys.stdout.isatty()))
        return 0 if read else 1
    path: Path = args.out or Path(cfg["training_args"]["output_dir"]) / "data.html"
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_page(path, title=args.config, sections=sections, processor=processor, stand_in=args.stand_in)
    for split, found in sections:
        for card in found:
            if card.index is None:
                print(printable(f"{split}: {card.key}: {card.error}"), file=sys.stderr)
    print(f"page: {path}")
    return 0 if read else 1


def _check(args: SimpleNamespace) -> int:
    if in_shards(args):
        return run_job(args, check_job, _say_check, partial(_config, args))
    check = check_job(args)
    return _say_faults(check, check.run())


def check_job(args: SimpleNamespace) -> DataCheck:
    """What `mllm data check` does."""
    cfg = _config(args)
    from mllm.commands.data.check import DataCheck
    from mllm.pipeline.splits import splits

    chosen = splits(cfg["data_args"], args.split)
    return DataCheck(splits=chosen, processor=_processor(args, cfg), decode=args.decode, workers=args.workers)


def _say_check(check: DataCheck, folder: Path, shards: int) -> int:
    return _say_faults(check, check.merged(folder, shards))


def _say_faults(check: DataCheck, faults: Iterable[Fault]) -> int:
    """Print the faults as they are found, then what was read; the exit status."""
    from tqdm.auto import tqdm

    shown: Counter[str] = Counter()
    for fault in faults:
        shown[fault.kind] += 1
        if not fault.warning or shown[fault.kind] <= WARNINGS_SHOWN:
            tqdm.write(f"{'warning: ' if fault.warning else ''}{fault}")
    if shown:
        print()
    print(check.text())
    return 1 if check.failed else 0


def _dedup(args: SimpleNamespace) -> int:
    return run_job(args, dedup_job, partial(_say_duplicates, args), partial(_config, args))


def dedup_job(args: SimpleNamespace) -> Dedup:
    """What `mllm data dedup` does."""
    if not 0 <= args.bits <= 16 or not 0 < args.similarity <= 1:
        raise ConfigError(
            expected="--bits from 0 to 16 and --similarity above 0, at most 1",
            found=f"--bits {args.bits} --similarity {args.similarity}",
        )
    cfg = _config(args)
    try:
        from mllm.commands.data.dedup import Dedup
        from mllm.pipeline.splits import splits
    except ModuleNotFoundError as error:
        raise ConfigError(f"mllm data dedup needs pip install 'mllm[dedup]': {error}") from error
    chosen = splits(cfg["data_args"], args.split)
    return Dedup(splits=chosen, bits=args.bits, similarity=args.similarity, workers=args.workers)


def _say_duplicates(args: SimpleNamespace, job: Dedup, folder: Path, shards: int) -> int:
    from mllm.commands.data.sources import shared

    found = job.compare(folder, shards)
    for name in shared(job.splits):
        print(f"{name} is also training data in this config: not compared with itself")
    for line in found.lines():
        print(line)
    if args.out:
        with writing_to(args.out):
            args.out.parent.mkdir(parents=True, exist_ok=True)
            with args.out.open("w", encoding="utf-8", errors="backslashreplace") as file:
                found.write(file)
    return 1 if found.leaked else 0

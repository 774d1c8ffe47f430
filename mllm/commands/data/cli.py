"""`mllm data show|check|dedup CONFIG`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Generator, Iterable, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mllm.boundary import reported
from mllm.commands.jobs import add_flags, add_workers, from_least, in_shards, run_job
from mllm.errors import ConfigError, DataError, printable

if TYPE_CHECKING:
    from mllm.commands.data.check import Check
    from mllm.commands.data.dedup import Dedup
    from mllm.commands.data.faults import Fault
    from mllm.conversation.processor import Processor

WARNINGS_SHOWN = 20
"""Of each kind; all are counted."""

EPILOG = """\
  mllm data show CONFIG            a page of samples: images as the model sees them, prompts as it reads them
  mllm data check CONFIG           read everything; exit status 1 if anything is wrong
  mllm data dedup CONFIG           near duplicates; exit status 1 if an image of a test set is in training
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 for faults, leaks, and errors; argparse's own 2 for a wrong command line; 75: see `jobs`."""
    args = _parser().parse_args(argv)
    return reported(lambda: args.run(args))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mllm data",
        description="Look at the data of a config before training on them. No weights are read.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    show = _command(commands, "show", _show, "write a page of samples as the model reads them")
    _reading(show)
    show.add_argument(
        "--count", type=from_least(1), default=6, help="samples of each split, evenly spaced (%(default)s)"
    )
    show.add_argument("--index", type=int, nargs="+", default=[], metavar="N", help="these samples instead")
    show.add_argument("--text", action="store_true", help="print to the terminal instead of writing a page")
    show.add_argument("--out", type=Path, metavar="FILE", help="the page (data.html in the config's output_dir)")
    check = _command(commands, "check", _check, "read everything, name every bad line, sum up lengths and shares")
    _reading(check)
    check.add_argument("--decode", action="store_true", help="decode every image, not its header alone")
    add_workers(check)
    add_flags(check)
    dedup = _command(commands, "dedup", _dedup, "find near-duplicate images and texts, and test images in training")
    dedup.add_argument(
        "--bits",
        type=int,
        default=4,
        metavar="N",
        help="of 64 that hashes of like images may differ in (%(default)s)",
    )
    dedup.add_argument(
        "--similarity", type=float, default=0.8, help="of like texts, the share of words in common (%(default)s)"
    )
    dedup.add_argument("--out", type=Path, metavar="FILE", help="write what was found as JSON too")
    add_workers(dedup)
    add_flags(dedup)
    return parser


def _command(commands: Any, name: str, run: Any, about: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = commands.add_parser(name, help=about, description=f"{about.capitalize()}.")
    parser.set_defaults(run=run, command=name)
    parser.add_argument("config", metavar="CONFIG.py")
    parser.add_argument("--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--split", nargs="+", default=[], metavar="NAME", help="train, validation, test, multitest.NAME (all)"
    )
    return parser


def _reading(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--stand-in", action="store_true", help="read without the model's folder: bytes for tokens, a 336 pixel square"
    )


def _config(args: argparse.Namespace) -> dict[str, Any]:
    from mllm.config.config import read
    from mllm.images.settings import configure, read_settings

    cfg = read(args.config, options=args.cfg_options).to_dict()
    configure(read_settings(cfg["data_args"].get("images")))
    return cfg


def _processor(args: argparse.Namespace, cfg: dict[str, Any]) -> Processor:
    model, data = cfg["model_args"], cfg["data_args"]
    if args.stand_in:
        from mllm.commands.data.stand_in import make_stand_in

        return make_stand_in(model, data)
    from mllm.commands.data.reader import make_processor
    from mllm.registry import DATASETS

    trains = isinstance(model.get("tokenizer"), dict) and not model.get("model_name_or_path") and data.get("train")
    try:
        train = DATASETS.make(data["train"]) if trains else None
    except DataError as error:
        raise DataError(f"{error}; the config trains a tokenizer on this dataset; --stand-in needs none") from error
    return make_processor(model, data, train)


@contextmanager
def _written(path: Path) -> Generator[None, None, None]:
    """Its folder is made.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigError(f"--out {path}: cannot be written: {error.strerror}") from error


def _show(args: argparse.Namespace) -> int:
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
    with _written(path):
        write_page(path, title=args.config, sections=sections, processor=processor, stand_in=args.stand_in)
    for split, found in sections:
        for card in found:
            if card.index is None:
                print(printable(f"{split}: {card.key}: {card.error}"), file=sys.stderr)
    print(f"page: {path}")
    return 0 if read else 1


def _check(args: argparse.Namespace) -> int:
    if in_shards(args):
        return run_job(args, check_job, _say_check, partial(_config, args))
    check = check_job(args)
    return _say_faults(check, check.run())


def check_job(args: argparse.Namespace) -> Check:
    """What `mllm data check` does."""
    cfg = _config(args)
    from mllm.commands.data.check import Check
    from mllm.pipeline.splits import splits

    chosen = splits(cfg["data_args"], args.split)
    return Check(splits=chosen, processor=_processor(args, cfg), decode=args.decode, workers=args.workers)


def _say_check(check: Check, folder: Path, shards: int) -> int:
    return _say_faults(check, check.merged(folder, shards))


def _say_faults(check: Check, faults: Iterable[Fault]) -> int:
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


def _dedup(args: argparse.Namespace) -> int:
    return run_job(args, dedup_job, partial(_say_duplicates, args), partial(_config, args))


def dedup_job(args: argparse.Namespace) -> Dedup:
    """What `mllm data dedup` does."""
    if not 0 <= args.bits <= 16 or not 0 < args.similarity <= 1:
        raise ConfigError("expected --bits from 0 to 16 and --similarity above 0, at most 1")
    cfg = _config(args)
    try:
        from mllm.commands.data.dedup import Dedup
        from mllm.pipeline.splits import splits
    except ModuleNotFoundError as error:
        raise ConfigError(f"mllm data dedup needs pip install 'mllm[dedup]': {error}") from error
    chosen = splits(cfg["data_args"], args.split)
    return Dedup(splits=chosen, bits=args.bits, similarity=args.similarity, workers=args.workers)


def _say_duplicates(args: argparse.Namespace, job: Dedup, folder: Path, shards: int) -> int:
    from mllm.commands.data.sources import shared

    found = job.compare(folder, shards)
    for name in shared(job.splits):
        print(f"{name} is also training data in this config: not compared with itself")
    for line in found.lines():
        print(line)
    if args.out:
        with _written(args.out), args.out.open("w", encoding="utf-8", errors="backslashreplace") as file:
            found.write(file)
    return 1 if found.leaked else 0

"""`mllm regions convert`: the regions in the texts of a dataset or a predictions file, in another convention."""

from __future__ import annotations

import argparse
import pkgutil
from collections.abc import Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from mllm.boundary import reported
from mllm.commands.jobs import add_flags, add_workers, in_shards, run_job
from mllm.errors import ConfigError

if TYPE_CHECKING:
    from mllm.commands.regions.convert import Counts
    from mllm.commands.regions.files import RegionsJob
    from mllm.conversation.convention import Convention

PLACEMENTS = ("pad", "crop", "squash", "aspect")

EPILOG = """\
IN is a .jsonl (or .json array) of conversations, {"image": ..., "conversations": [{"from": ..., "value": ...}]}, or the
predictions that an evaluation wrote, eval_extra_prediction.jsonl. Sizes of images come from "width" and "height" of a
line, else from the image itself; a prediction's image is found through its key, which names the annotation line.

  mllm regions convert --from shikra --to qwen25_vl --image-folder coco train.jsonl train_qwen.jsonl
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0; 1 for what a user can mend; argparse's own 2 for a wrong command line."""
    args = _parser().parse_args(argv)
    return reported(lambda: _convert(args))


def _convert(args: argparse.Namespace) -> int:
    if Path(args.output).exists() and Path(args.input).exists() and Path(args.output).samefile(args.input):
        raise ConfigError("OUT is the same file as IN: write to another file", where=args.output)
    if in_shards(args):
        return run_job(args, convert_job, partial(_merge, args), lambda: {"input": args.input})
    from mllm.commands.regions.convert import Counts

    counts = Counts()
    return _write(args, counts, convert_job(args).run(counts))


def convert_job(args: argparse.Namespace) -> RegionsJob:
    """What `mllm regions convert` does."""
    from mllm.commands.regions.convert import TYPED
    from mllm.commands.regions.files import RegionsJob
    from mllm.conversation.convention import read_convention
    from mllm.dataset.files.jsonl import IndexedJsonl

    def convention(name: str, placement: str | None) -> Convention:
        sizes = {"image_size": args.image_size, "min_pixels": args.min_pixels, "max_pixels": args.max_pixels}
        return read_convention({"codec": name, "placement": placement or args.placement, **sizes})

    return RegionsJob(
        source=convention(args.source, args.from_placement),
        target=None if args.target == TYPED else convention(args.target, args.to_placement),
        lines=IndexedJsonl(args.input),
        image_folder=args.image_folder,
        keep=args.unreadable == "keep",
        workers=args.workers,
    )


def _merge(args: argparse.Namespace, job: RegionsJob, folder: Path, shards: int) -> int:
    from mllm.commands.regions.convert import Counts

    counts = Counts()
    return _write(args, counts, job.merged(counts, folder, shards))


def _write(args: argparse.Namespace, counts: Counts, lines: Iterable[str]) -> int:
    """Write the output as its lines come, and say what was done."""
    from mllm.commands.regions.convert import TYPED
    from mllm.commands.regions.files import write_lines

    write_lines(Path(args.output), lines)
    done = f"{counts.groups} groups of regions in {counts.texts} texts now"
    if args.target == TYPED:
        print(f"{args.output}: {done} are typed: <boxes> and <points>, with pixels in 'target'")
    else:
        print(f"{args.output}: {done} read as {args.target}; for training with mllm regions convert --to {TYPED}")
    if counts.kept:
        print(f"{counts.kept} texts were left unchanged, the first: {counts.first}")
    if counts.unread:
        print(
            f"{counts.unread} texts hold regions that cannot be read as {args.source}, the first: {counts.first_unread}"
        )
    if not counts.groups:
        print(f"no region in {args.input} can be read as {args.source}: check --from")
    return 0


def codecs() -> list[str]:
    """The names of this package's region codecs, which are those of their files."""
    spec = find_spec("mllm.conversation.codecs")
    assert spec, "a part of this package"
    return sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mllm regions", description="Boxes and points in texts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    convert = commands.add_parser(
        "convert",
        help="rewrite the regions of a file from one coordinate convention to another",
        description="Rewrite the regions in the texts of a file from one coordinate convention to another.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known = ", ".join(codecs())
    convert.add_argument("--from", dest="source", required=True, metavar="CODEC", help=f"convention of IN: {known}")
    convert.add_argument(
        "--to",
        dest="target",
        required=True,
        metavar="CODEC",
        help="convention of OUT; typed: <boxes> in the texts, pixels beside them, as the dataset Instruct reads it",
    )
    placement = "where images lie on the canvas of {}; default: as the family's own preprocessing lays them out"
    convert.add_argument("--placement", choices=PLACEMENTS, help=placement.format("both codecs"))
    convert.add_argument("--from-placement", choices=PLACEMENTS, help=placement.format("the codec of IN"))
    convert.add_argument("--to-placement", choices=PLACEMENTS, help=placement.format("the codec of OUT"))
    convert.add_argument(
        "--image-size",
        type=int,
        default=336,
        help="side of the square of pad, crop and squash, in pixels (%(default)s)",
    )
    convert.add_argument("--min-pixels", type=int, default=56 * 56, help="of aspect: smallest image (%(default)s)")
    convert.add_argument("--max-pixels", type=int, default=12845056, help="of aspect: largest image (%(default)s)")
    convert.add_argument("--image-folder", help="folder of the images that IN names")
    convert.add_argument(
        "--unreadable",
        choices=("error", "keep"),
        default="error",
        help="a text whose regions cannot be read: stop there, or leave it as it is and count it (%(default)s)",
    )
    add_workers(convert)
    add_flags(convert)
    convert.add_argument("input", metavar="IN", help="a dataset's .jsonl or .json, or a predictions file")
    convert.add_argument("output", metavar="OUT", help="replaced once all of it is converted")
    return parser

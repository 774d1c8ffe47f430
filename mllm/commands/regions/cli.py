"""`mllm regions convert`: the regions in the texts of a dataset or a predictions file, in another convention."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mllm.commands.jobs import Executor, ExecutorOptions, JobDir, Tasks, Workers, in_shards, run_job
from mllm.config.command_line import CONTEXT_SETTINGS, Command, CommandGroup
from mllm.errors import ConfigError

if TYPE_CHECKING:
    from mllm.commands.regions.convert import ConversionCounts
    from mllm.commands.regions.files import RegionsJob
    from mllm.conversation.convention import Convention


def codecs() -> list[str]:
    """The names of this package's region codecs, which are those of their files."""
    spec = find_spec("mllm.conversation.codecs")
    assert spec, "a part of this package"
    return sorted(module.name for module in pkgutil.iter_modules(spec.submodule_search_locations))


PLACEMENT = "Where images lie on the canvas of {}. Default: as the family's own preprocessing lays them out."
Placement = Literal["pad", "crop", "squash", "aspect"]

app = typer.Typer(cls=CommandGroup, context_settings=CONTEXT_SETTINGS, help="Convert boxes and points in texts.")


@app.callback()
def root() -> None:
    """Keeps `convert` a command of its own while it is the only one."""


@app.command(cls=Command)
def convert(
    executor_options: ExecutorOptions,
    input: Annotated[str, typer.Argument(metavar="IN", help="A dataset's .jsonl or .json, or a predictions file.")],
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="The output file. It is replaced once everything is converted.")
    ],
    source: Annotated[str, typer.Option("--from", metavar="CODEC", help=f"Convention of IN: {', '.join(codecs())}.")],
    target: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="CODEC",
            help="Convention of OUT. typed: <boxes> in the texts and pixels beside them, as the dataset Instruct "
            "reads it.",
        ),
    ],
    placement: Annotated[Placement | None, typer.Option(help=PLACEMENT.format("both codecs"))] = None,
    from_placement: Annotated[Placement | None, typer.Option(help=PLACEMENT.format("the codec of IN"))] = None,
    to_placement: Annotated[Placement | None, typer.Option(help=PLACEMENT.format("the codec of OUT"))] = None,
    image_size: Annotated[int, typer.Option(help="Side of the square of pad, crop and squash, in pixels.")] = 336,
    min_pixels: Annotated[int, typer.Option(help="With aspect: pixels of the smallest image.")] = 56 * 56,
    max_pixels: Annotated[int, typer.Option(help="With aspect: pixels of the largest image.")] = 12845056,
    image_folder: Annotated[str | None, typer.Option(metavar="DIR", help="Folder of the images that IN names.")] = None,
    unreadable: Annotated[
        Literal["error", "keep"],
        typer.Option(
            help="What to do with a text whose regions cannot be read: stop, or keep it unchanged and count it."
        ),
    ] = "error",
    workers: Workers = None,
    job_dir: JobDir = None,
    tasks: Tasks = None,
    executor: Executor = None,
) -> int:
    """Rewrite the regions in the texts of a file from one coordinate convention to another.

    IN is a .jsonl (or .json array) of conversations, {"image": ..., "conversations": ...}, or the predictions that an
    evaluation wrote, eval_extra_prediction.jsonl. Sizes of images come from "width" and "height" of a line, else from
    the image itself; a prediction's image is found through its key, which names the annotation line.

    mllm regions convert --from shikra --to qwen25_vl --image-folder coco train.jsonl train_qwen.jsonl
    """
    return _convert(SimpleNamespace(command="convert", **locals()))


def _convert(args: SimpleNamespace) -> int:
    if Path(args.output).exists() and Path(args.input).exists() and Path(args.output).samefile(args.input):
        raise ConfigError("write to another file", where=args.output, expected="another file than IN", found="the same")
    if in_shards(args):
        return run_job(args, convert_job, partial(_merge, args), lambda: {"input": args.input})
    from mllm.commands.regions.convert import ConversionCounts

    counts = ConversionCounts()
    return _write(args, counts, convert_job(args).run(counts))


def convert_job(args: SimpleNamespace) -> RegionsJob:
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


def _merge(args: SimpleNamespace, job: RegionsJob, folder: Path, shards: int) -> int:
    from mllm.commands.regions.convert import ConversionCounts

    counts = ConversionCounts()
    return _write(args, counts, job.merged(counts, folder, shards))


def _write(args: SimpleNamespace, counts: ConversionCounts, lines: Iterable[str]) -> int:
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

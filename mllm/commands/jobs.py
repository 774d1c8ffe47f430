"""Commands whose work may be divided into shards: the flags that say how, and what is done when all parts are there."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TypeVar

import typer

from mllm.errors import ConfigError

if TYPE_CHECKING:
    from mllm.commands.shards import Job

J = TypeVar("J", bound="Job")

PENDING = 75
"""Exit status while the cluster still makes parts: EX_TEMPFAIL of sysexits.h."""
MAX_TASKS = 99_999
"""Parts have names of five digits."""
JOB_OPTIONS = ("executor", "executor_options", "tasks", "job_dir", "workers", "run", "out", "output")
"""Of a command line: what says nothing about the parts."""


SHARDS = "Shards: on several machines, or kept for another run after a kill"
Workers = Annotated[
    int | None, typer.Option(min=0, show_default=False, help="Worker processes. Default: one per core.")
]
JobDir = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR",
        help="Folder for parts and logs. Existing parts are not made again.",
        rich_help_panel=SHARDS,
    ),
]
Tasks = Annotated[
    int | None,
    typer.Option(min=1, max=MAX_TASKS, help="Number of parts. Default: one per core.", rich_help_panel=SHARDS),
]
Executor = Annotated[
    Literal["local", "slurm", "ray"] | None,
    typer.Option(
        help="Make the parts with datatrove: --workers at a time on this machine, as slurm jobs, or on a Ray cluster. "
        "Without it, this command makes them one after another.",
        rich_help_panel=SHARDS,
    ),
]
ExecutorOptions = Annotated[
    list[str],
    typer.Option(
        metavar="KEY=VALUE ...",
        default_factory=list,
        show_default=False,
        help="Arguments of datatrove's executor: partition=cpu time=2:00:00 of slurm, cpus_per_task=4, ...",
        rich_help_panel=SHARDS,
    ),
]


def run_job(
    args: SimpleNamespace,
    make: Callable[[SimpleNamespace], J],
    finish: Callable[[J, Path, int], int],
    reads: Callable[[], Mapping[str, object]],
) -> int:
    """Make all parts and put them together; the exit status.

    Args:
        make: the job; a function of a module, since tasks on other machines look it up by its name.
        finish: is given the job, the folder of its parts and their number once they are all there.
        reads: gives what the files to read are named in.
    """
    from mllm.commands.data.workers import available_cores
    from mllm.commands.shards import claim, unfinished, work_here

    if not in_shards(args):
        job = make(args)
        with tempfile.TemporaryDirectory(prefix="mllm-") as folder:
            work_here(job, Path(folder), 1)
            return finish(job, Path(folder), 1)
    options = _options(args.executor_options)
    folder, tasks = args.job_dir.resolve(), args.tasks or available_cores()
    of_task = args
    if args.executor:  # of local, workers are tasks; elsewhere a task has the cores that it asks the cluster for
        inner = 0 if args.executor == "local" else args.workers or 0
        of_task = SimpleNamespace(**{**vars(args), "workers": inner})
    job = make(of_task)
    about = {name: _plain(value) for name, value in vars(args).items() if name not in JOB_OPTIONS}
    data = reads()
    claim(folder, {**about, "tasks": tasks, "data": data}, data)
    if missing := unfinished(folder, job.stages, tasks):
        job.open()
        if args.executor:
            run = _engine()
            made = partial(_same, job) if args.executor == "local" else partial(make, of_task)
            run(args.executor, made, job.stages, folder, tasks=tasks, workers=args.workers, options=options)
        else:
            work_here(job, folder, tasks)
        missing = unfinished(folder, job.stages, tasks)
    if missing:
        print(
            f"slurm still has to make {missing} of {tasks * len(job.stages)} parts (see squeue); "
            "then run the same command again: it puts them together, or submits failed ones again"
        )
        return PENDING
    return finish(job, folder, tasks)


def in_shards(args: SimpleNamespace) -> bool:
    """Whether the command line asks for parts in a folder.

    Raises:
        ConfigError: it asks for shards, but names no folder.
    """
    asked = args.executor or args.tasks or args.executor_options
    if asked and args.job_dir is None:
        raise ConfigError(
            where="--job-dir", expected="a folder that all machines share, for --executor and --tasks", found="nothing"
        )
    if args.executor_options and not args.executor:
        raise ConfigError(where="--executor", expected="an executor for --executor-options", found="nothing")
    return args.job_dir is not None


def _engine() -> Callable[..., None]:
    try:
        from mllm.commands.engine import run_stages
    except ModuleNotFoundError as error:  # an extra
        raise ConfigError(f"needs pip install 'mllm[shards]': {error}", where="--executor") from error
    return run_stages


def _same(job: Job) -> Job:
    return job


def _plain(value: object) -> Any:
    return str(value) if isinstance(value, Path) else value


def _options(texts: list[str]) -> dict[str, object]:
    from mllm.config.options import value

    options: dict[str, Any] = {}
    for text in texts:
        name, equals, said = text.partition("=")
        if not equals or not name:
            raise ConfigError(expected="KEY=VALUE", found=repr(text), where="--executor-options")
        options[name] = value(said)
    return options

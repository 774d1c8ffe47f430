"""Jobs of shards on datatrove's executors: processes of this machine, arrays of slurm jobs, or Ray.

A task is a shard of one stage. It needs nothing from the process that starts it but the job's folder, which all
machines share; datatrove keeps the tasks' logs there, under `engine`, and which of them are done.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from importlib import import_module
from pathlib import Path
from typing import Any

from datatrove.executor.base import DistributedEnvVars, PipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.executor.slurm import SlurmPipelineExecutor
from datatrove.utils.logging import logger

from mllm.commands.data.workers import in_order
from mllm.commands.shards import Job, Shard, part, unfinished
from mllm.compat.datatrove import add_sbatch_defaults, run_task
from mllm.errors import ConfigError, RunError, nearest
from mllm.fields import show

OWN_ARGUMENTS = (
    "pipeline",
    "tasks",
    "depends",
    "depends_job_id",
    "logging_dir",
    "skip_completed",
    "job_name",
    "job_id_retriever",
    "nodes_per_task",
)
"""Arguments of executors that are not options."""
CLASSES: Mapping[str, Any] = {"slurm": SlurmPipelineExecutor, "ray": RayPipelineExecutor}
KINDS: Mapping[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "bool": (bool,), "dict": (dict,)}
"""Types of options that are looked at; all others are texts, or end in a text of the batch script."""


class ShardTask:
    """A step of a pipeline of datatrove: a shard of a stage."""

    def __init__(self, make: Callable[[], Job], stage: str, folder: Path) -> None:
        """`make` gives the job wherever the task runs; elsewhere it is looked up by its name."""
        self.make = make
        self.stage = stage
        self.folder = folder

    def __call__(self, data: object, rank: int, world_size: int) -> None:
        if not part(self.folder, self.stage, rank).is_dir():
            self.make().work(self.stage, Shard(rank, world_size), self.folder)

    def __repr__(self) -> str:
        return f"mllm {self.stage} {self.folder}"


class LocalExecutor(PipelineExecutor):
    """Tasks in processes of this machine.

    The pool of datatrove's own local executor waits for ever for a process that was killed; here that is an error. What
    tasks raise is raised in their order.
    """

    def __init__(self, pipeline: list[Any], tasks: int, workers: int | None, logging_dir: str) -> None:
        super().__init__(pipeline, logging_dir)
        self.tasks = tasks
        self.workers = workers

    @property
    def world_size(self) -> int:
        return self.tasks

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        return DistributedEnvVars(
            datatrove_node_ips="localhost",
            datatrove_cpus_per_task="1",
            datatrove_mem_per_cpu="-1",
            datatrove_gpus_on_node="0",
            datatrove_executor="LOCAL",
        )

    def run(self) -> None:
        ranks = self.get_incomplete_ranks()
        done = in_order(ranks, self._run, workers=self.workers, chunk=1, least=1, title="shards", unit="shard")
        deque(done, maxlen=0)

    def _run(self, rank: int) -> None:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere):  # its log says all
            run_task(self, rank)


def run_stages(
    kind: str,
    make: Callable[[], Job],
    stages: Sequence[str],
    folder: Path,
    *,
    tasks: int,
    workers: int | None,
    options: Mapping[str, Any],
) -> None:
    """Make the parts that are not there: all of them, or on slurm only submit what makes them.

    Args:
        kind: local, slurm or ray.
        make: picklable for slurm and ray.
        workers: of `local`, tasks at a time; None: one for each core.

    Raises:
        ConfigError: Ray is not installed; a wrong option.
        RunError: slurm takes no job, or a part could not be made. `local` raises what the first such task raised.
    """
    given = _checked(kind, options)
    executor_class, ours = _executor(kind, workers)
    logger.remove()
    (folder / "engine").mkdir(exist_ok=True)
    logger.add(folder / "engine" / "engine.log")

    def executor(stage: str, **more: Any) -> Any:
        logs = folder / "engine" / stage
        for number in range(tasks):
            if not part(folder, stage, number).is_dir():
                (logs / "completions" / f"{number:05}").unlink(missing_ok=True)
        pipeline = [ShardTask(make, stage, folder)]
        return executor_class(pipeline=pipeline, tasks=tasks, logging_dir=str(logs), **{**ours, **given, **more})

    if kind == "slurm":
        _submit(executor, stages, _job_name(folder))
        return
    for stage in stages:
        executor(stage).run()
        if missing := unfinished(folder, [stage], tasks):
            found = f"{tasks - missing}; {folder / 'engine' / stage / 'logs'} says why"
            raise RunError(where=str(folder / stage), expected=f"{tasks} parts", found=found)


def _executor(kind: str, workers: int | None) -> tuple[Any, dict[str, Any]]:
    """The class, and the arguments that it has unless options say otherwise."""
    if kind == "local":
        return LocalExecutor, {"workers": workers}
    if kind == "slurm":
        in_venv = sys.prefix != sys.base_prefix
        return CLASSES[kind], {"venv_path": f"{sys.prefix}/bin/activate"} if in_venv else {}
    try:
        ray = import_module("ray")
    except ModuleNotFoundError as error:
        raise ConfigError("needs pip install 'mllm[shards]' 'datatrove[ray]'", where="--executor ray") from error
    if not ray.is_initialized():  # datatrove would, and print what all tasks print
        ray.init(log_to_driver=False, logging_level="ERROR")
    return CLASSES[kind], {}


def _checked(kind: str, options: Mapping[str, Any]) -> Mapping[str, Any]:
    where = "--executor-options"
    parameters = inspect.signature(CLASSES[kind]).parameters if kind in CLASSES else {}
    known = [name for name in parameters if name not in OWN_ARGUMENTS]
    for name, value in options.items():
        if name not in known:
            said = nearest(name, known) if known else "it takes none, --workers and --tasks say all"
            raise ConfigError(said, where=where, expected=f"an option of executor {kind}", found=repr(name))
        annotation = parameters[name].annotation
        said = annotation if isinstance(annotation, str) else annotation.__name__
        expected = KINDS.get(said.partition(" |")[0])
        if expected and type(value) not in expected:
            raise ConfigError(where=where, field=name, expected=said.partition(" |")[0], found=show(value))
    missing = [name for name in known if parameters[name].default is inspect.Parameter.empty and name not in options]
    if missing:
        raise ConfigError(
            where=where,
            expected=f"{' '.join(f'{name}=...' for name in missing)} for executor {kind}",
            found=" ".join(options) or "nothing",
        )
    return options


def _job_name(folder: Path) -> str:
    return f"mllm-{hashlib.blake2b(str(folder).encode(), digest_size=4).hexdigest()}"


def _submit(executor: Callable[..., Any], stages: Sequence[str], name: str) -> None:
    """Submit an array of jobs for each stage, which waits for that before it, unless such are in the queue already."""
    try:
        queue = subprocess.run(
            ["squeue", "--noheader", f"--name={name}", "--format=%i"], capture_output=True, text=True, check=True
        )
        if queue.stdout.split():
            return
        last = None
        for stage in stages:
            last = executor(stage, job_name=name, depends=last)
            # what waits for a stage that failed would else stay in the queue
            add_sbatch_defaults(last, {"kill-on-invalid-dep": "yes"})
        assert last is not None
        last.launch_job()
    except FileNotFoundError as error:
        raise RunError(f"{error.filename}: no such command on this machine", where="--executor slurm") from error
    except subprocess.CalledProcessError as error:
        said = (error.stderr or "").strip().partition("\n")[0] or f"exit status {error.returncode}"
        raise RunError(f"{error.cmd[0]} refuses: {said}", where="--executor slurm") from error

"""The output folder of a run: of one run at a time, emptied on demand, given a finished model at the end."""

from __future__ import annotations

import errno
import logging
import shutil
import socket
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from filelock import SoftFileLease, Timeout
from safetensors import SafetensorError
from torch.distributed.checkpoint.api import CheckpointException

from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, RunError
from mllm.pipeline.manifest import MANIFEST, WEIGHTS, read_manifest, write_manifest
from mllm.pipeline.ranks import on_main, wait_for_ranks
from mllm.pipeline.resume import checkpoints, newest_whole, resume_command

logger = logging.getLogger(__name__)

LOCK = "run.lock"
LEASE = 60.0
"""Seconds after which a lock that nobody renews is taken over, where its process cannot be looked up."""
RESULTS = (
    *("*_results.json*", "*_extra_prediction.jsonl*", "*_about.json.partial", "*_report.html*", "*_report_files*"),
    *("report.html", "trainer_state.json", "loss.png", "runs"),
)
UNFINISHED = "model.partial"
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
WRITERS = ("PytorchStreamWriter", "inline_container")
"""By which errors of PyTorch's writer of files are told from others that are a RuntimeError too."""
LITTLE = 2**20
"""Bytes: a disk with less is full."""


@contextmanager
def locked(folder: Path) -> Generator[None, None, None]:
    """Make the folder and hold it; the main process stands for all of a launch.

    Raises:
        ConfigError: it cannot be made or written to, or another run holds it.
    """
    lease = SoftFileLease(folder / LOCK, lease_duration=LEASE)
    on_main(lambda: _acquire(folder, lease))
    try:
        yield
    finally:
        lease.release()


def _acquire(folder: Path, lease: SoftFileLease) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lease.acquire(timeout=0)  # a lock of a dead process of this machine is taken over
    except Timeout:
        owner = lease.owner
        if owner is None or owner.hostname == socket.gethostname():
            raise _held(folder, lease) from None
        logger.warning("%s: waiting %.0f s to see whether its run is alive", _held(folder, lease), LEASE)
        try:
            lease.acquire(timeout=1.5 * LEASE)
        except Timeout:
            raise _held(folder, lease) from None
    except FileExistsError:
        raise ConfigError(
            "choose another --output_dir", where="output_dir", field=str(folder), expected="a folder", found="a file"
        ) from None
    except OSError as error:
        said = f"cannot be used: {error.strerror or error}"
        raise ConfigError(said, where="output_dir", field=str(folder)) from error


def _held(folder: Path, lease: SoftFileLease) -> ConfigError:
    owner = lease.owner
    who = f"process {owner.pid} on {owner.hostname}" if owner else "another process"
    return ConfigError(
        f"in use by {who}: wait for it, or choose another --output_dir", where="output_dir", field=str(folder)
    )


def empty(folder: Path, sources: Iterable[str]) -> None:
    """Delete what an earlier run left: checkpoints, model, results; the log goes on.

    `sources`: paths that the new run begins from.

    Raises:
        ConfigError: one of them is in the folder.
    """
    for source in sources:
        path = Path(source)
        if path.exists() and folder.resolve() in (path.resolve(), *path.resolve().parents):
            raise ConfigError(
                "choose another --output_dir",
                where="overwrite_output_dir",
                expected=f"an output folder without {source}, which this run starts from",
                found=str(folder),
            )
    manifest = read_manifest(folder) if (folder / MANIFEST).is_file() else None
    names = [MANIFEST, *(manifest["files"] if manifest else ())]
    patterns = (
        *WEIGHTS,
        *(f"{pattern}.index.json" for pattern in ("model.safetensors", "pytorch_model.bin")),
        *RESULTS,
    )
    found = [*checkpoints(folder), *(folder / name for name in names)]
    found += [path for pattern in patterns for path in folder.glob(pattern)]
    for path in found:
        _delete(path)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def new_checkpoint(
    folder: Path, args: RunArguments, about: Mapping[str, object], best: Callable[[], str | None]
) -> Generator[None, None, None]:
    """Inside, `folder` is written; then comes its manifest, and only then may older checkpoints go.

    Every rank calls this. `best`: the checkpoint that is kept in any case.

    Raises:
        RunError: the disk does not take it; nothing of it is left.
    """
    on_main(lambda: _delete(folder))  # a part of one, which a killed run left
    limit, args.save_total_limit = args.save_total_limit, None  # transformers would delete first
    try:
        with writing(folder):
            yield
            wait_for_ranks()
            if args.should_save:
                write_manifest(folder, **about)
    finally:
        args.save_total_limit = limit
    if args.should_save and limit:
        _rotate(folder.parent, limit, best())
    wait_for_ranks()


def _rotate(folder: Path, limit: int, best: str | None) -> None:
    """Delete the oldest checkpoints, so that `limit` are left, the best and the newest among them."""
    for name in outdated([path.name for path in checkpoints(folder)], limit, best):
        _delete(folder / name)


def outdated(names: Sequence[str], limit: int, best: str | None) -> list[str]:
    """The checkpoints to delete, of their names from the oldest to the newest, as `_rotate` says."""
    kept = {names[-1]} | ({Path(best).name} if best else set())
    return [name for name in names if name not in kept][: max(len(names) - max(limit, len(kept)), 0)]


@contextmanager
def finished_model(folder: Path, args: RunArguments, about: Mapping[str, object]) -> Generator[Path, None, None]:
    """The folder to write the model to; its files appear in `folder` when all are there, and then their manifest.

    Every rank calls this.

    Raises:
        RunError: the disk does not take it; nothing of it is left.
    """
    partial = folder / UNFINISHED
    on_main(lambda: _delete(partial))
    with writing(partial):
        yield partial
        wait_for_ranks()
        if args.should_save:
            _move_up(partial, folder, about)
    wait_for_ranks()


def _move_up(partial: Path, folder: Path, about: Mapping[str, Any]) -> None:
    write_manifest(partial, **about)
    before = read_manifest(folder)
    for name in (MANIFEST, *(before["files"] if before else ())):
        _delete(folder / name)
    for path in sorted(partial.iterdir(), key=lambda path: path.name == MANIFEST):
        _delete(folder / path.name)
        path.replace(folder / path.name)
    partial.rmdir()


def _of_a_rank(raised: BaseException) -> Exception:
    """What went wrong, where shards are written: first on some rank. All ranks raise it, in what is no Exception."""
    if isinstance(raised, CheckpointException):
        found = [failure for failure, _ in raised.failures.values() if isinstance(failure, Exception)]
        return found[0] if found else RuntimeError(str(raised))
    return cast("Exception", raised)


@contextmanager
def writing(folder: Path) -> Generator[None, None, None]:
    """Name the trouble of a disk, which libraries raise in several ways, and delete what was written.

    Raises:
        RunError: the folder, what the system says, and what can be done.
    """
    try:
        yield
    except (OSError, RuntimeError, SafetensorError, CheckpointException) as raised:
        error = _of_a_rank(raised)
        free = shutil.disk_usage(folder.parent).free
        of_disk = isinstance(error, (OSError, SafetensorError)) or any(name in str(error) for name in WRITERS)
        if not of_disk and free > LITTLE:
            raise error from error.__cause__
        full = free <= LITTLE or (isinstance(error, OSError) and error.errno in DISK_FULL)
        said = "no space left on device" if full else getattr(error, "strerror", None) or str(error).partition("\n")[0]
        shutil.rmtree(folder, ignore_errors=True)
        kept = newest_whole(folder.parent)
        onwards = f"; {kept.name} is whole: make room, then {resume_command()}" if kept else ""
        raise RunError(f"cannot be written: {said}{onwards}", where=str(folder)) from error

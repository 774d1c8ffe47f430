"""A copy of a run's checkpoints and model in object storage, for machines whose disks do not last.

Wherever fsspec reaches: s3://, gs://, az://, file://, ... Credentials come from the environment. The manifest is copied
last and deleted first, so what has one there is whole. Only the main process reads and writes it.
"""

from __future__ import annotations

import json
import logging
import re
import shutil
import time
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from mllm.compat.fsspec import library_errors, to_install
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, MllmError, RunError, one_line
from mllm.fields import is_finite
from mllm.images.fetch import redacted
from mllm.pipeline.manifest import MANIFEST, faults, read_manifest, read_state, saved_at
from mllm.pipeline.output_folder import outdated
from mllm.pipeline.resume import AUTO, newest_whole, resume_command

logger = logging.getLogger(__name__)

WRITE_TEST = ".write_test"


class Mirror:
    """The folder at a URL that a run is copied to; nothing is connected before it is used.

    All methods raise RunError, which names the URL and the cause, where it cannot be read or written.
    """

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        self.protocol = url.partition("://")[0].lower()

    @classmethod
    def of(cls, args: RunArguments) -> Mirror | None:
        """That of a run that trains and has a `mirror_dir`."""
        return cls(args.mirror_dir) if args.do_train and args.mirror_dir else None

    @cached_property
    def _place(self) -> tuple[Any, str]:
        """fsspec's file system, and the path there."""
        from fsspec.core import url_to_fs  # a tenth of a second, which other runs need not spend

        try:
            return url_to_fs(self.url)
        except ImportError as error:
            raise ConfigError(
                f"{self.protocol}:// needs a library that is not installed: {to_install(self.protocol, error)}",
                field="training_args.mirror_dir",
            ) from error

    def check(self, folder: Path) -> None:
        """Write a small file there and delete it. `folder`: the run's output folder.

        Raises:
            ConfigError: it cannot be written, or is the output folder itself.
        """
        with self._naming("cannot be used", ConfigError):
            system, root = self._place
            system.invalidate_cache()
            if "file" in system.protocol and Path(root).resolve() == folder.resolve():
                raise ConfigError(
                    field="training_args.mirror_dir", expected="another place than output_dir", found=redacted(self.url)
                )
            self._make_folder(root)
            system.pipe_file(f"{root}/{WRITE_TEST}", b"mllm")
            system.rm_file(f"{root}/{WRITE_TEST}")

    def holds(self) -> str:
        """What of a run is there: a checkpoint's name, "a model", or ""."""
        with self._naming("cannot be read"):
            return next(reversed(self._checkpoints()), "a model" if self._manifest("") else "")

    def add_checkpoint(self, checkpoint: Path, limit: int | None, best: str | None) -> None:
        """Copy a whole checkpoint; then delete the oldest there, as `save_total_limit` does on the disk.

        Args:
            limit: how many are left, None for all.
            best: the checkpoint that is kept in any case.
        """
        onwards = f"; {checkpoint} is whole: {resume_command()}"
        with self._naming(f"{checkpoint.name} cannot be copied there", onwards=onwards):
            self._copy(checkpoint, checkpoint.name)
            for name in outdated([*self._checkpoints()], limit, best) if limit else ():
                self._remove_checkpoint(name)

    def add_model(self, folder: Path) -> None:
        """Copy the files of a finished model, if they are not there."""
        with self._naming("the model cannot be copied there", onwards=f"; it is in {folder}"):
            before = self._manifest("")
            if before is None or before["saved_at"] != saved_at(folder):
                self._copy(folder, "")

    def empty(self) -> None:
        """Delete checkpoints and model of an earlier run."""
        with self._naming("cannot be emptied"):
            for name in self._checkpoints():
                self._remove_checkpoint(name)
            self._withdraw("", keep=())

    def fetch(self, folder: Path) -> list[str]:
        """Bring the newest whole checkpoint here if it is newer than those of `folder`, and the best one it names.

        Returns:
            What was done, for the log.
        """
        local = newest_whole(folder)
        since = saved_at(local) if local else 0.0
        with self._naming("cannot be read"):
            there = self._checkpoints()
        cut = [name for name, finished in there.items() if not finished]
        notes = [f"{redacted(self.url)}/{name} is passed over: no {MANIFEST}, its upload was cut" for name in cut]
        for name in reversed(there):
            if there[name] > since:
                found = self._fetch(name, folder)
                if not found:
                    notes.append(f"{redacted(self.url)}/{name} is newer than what {folder} holds: fetched")
                    return [*notes, *self._fetch_best(folder / name, there)]
                notes.append(f"{redacted(self.url)}/{name} is passed over: {'; '.join(found)}")
        return notes

    def _fetch_best(self, checkpoint: Path, there: Mapping[str, float]) -> list[str]:
        best = Path(read_state(checkpoint).get("best_model_checkpoint") or "").name
        if not there.get(best) or (checkpoint.parent / best).is_dir():
            return []
        found = self._fetch(best, checkpoint.parent)
        said = f"is passed over: {'; '.join(found)}" if found else "has the best model so far: fetched"
        return [f"{redacted(self.url)}/{best} {said}"]

    def _fetch(self, name: str, folder: Path) -> list[str]:
        """Why the checkpoint cannot be used; nothing where it has been put into `folder`."""
        system, root = self._place
        partial = folder / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)  # of a run that was killed
        try:
            with self._naming(f"{name} cannot be fetched"):
                partial.mkdir(parents=True)
                system.get_file(f"{root}/{name}/{MANIFEST}", str(partial / MANIFEST))
                try:
                    manifest = read_manifest(partial)
                except RunError as error:
                    return [str(error)]
                for file in manifest["files"] if manifest else ():
                    (partial / file).parent.mkdir(parents=True, exist_ok=True)
                    with suppress(FileNotFoundError):  # `faults` names it
                        system.get_file(f"{root}/{name}/{file}", str(partial / file))
                found = faults(partial)
                if not found:
                    shutil.rmtree(folder / name, ignore_errors=True)
                    partial.replace(folder / name)
                return found
        finally:
            shutil.rmtree(partial, ignore_errors=True)

    def _copy(self, folder: Path, name: str) -> None:
        """Copy what the manifest of `folder` lists, and the manifest last."""
        began = time.perf_counter()
        manifest = read_manifest(folder)
        if manifest is None:
            raise RunError(f"no {MANIFEST}, since an earlier version wrote it: not copied", where=str(folder))
        files: dict[str, Any] = manifest["files"]
        self._withdraw(name, keep=files)
        system, _ = self._place
        for file in (*files, MANIFEST):
            target = self._path(name, file)
            self._make_folder(target.rpartition("/")[0])
            system.put_file(str(folder / file), target)
        size = sum(entry["size"] for entry in files.values()) / 2**20
        took = time.perf_counter() - began
        logger.info("%s: %.1f MiB copied to %s in %.1f s", name or "the model", size, redacted(self.url), took)

    def _withdraw(self, name: str, keep: Iterable[str]) -> None:
        """Delete a manifest, then the files that it lists, except for those to keep."""
        system, _ = self._place
        if (before := self._manifest(name)) is not None:
            system.rm_file(self._path(name, MANIFEST))
            for file in before["files"].keys() - {*keep}:
                with suppress(FileNotFoundError):
                    system.rm_file(self._path(name, file))

    def _remove_checkpoint(self, name: str) -> None:
        system, root = self._place
        with suppress(FileNotFoundError):  # its upload was cut
            system.rm_file(f"{root}/{name}/{MANIFEST}")
        with suppress(FileNotFoundError):  # object storage has no empty folders
            system.rm(f"{root}/{name}", recursive=True)

    def _checkpoints(self) -> dict[str, float]:
        """Names, the oldest first, and when each was finished, in seconds since 1970; 0 where its upload was cut."""
        system, root = self._place
        try:
            paths = system.ls(root, detail=False)
        except FileNotFoundError:  # an empty folder of object storage
            return {}
        names = {path.rstrip("/").rpartition("/")[2] for path in paths}
        found: list[tuple[float, int, str]] = []
        for name in names:
            if match := re.fullmatch(r"checkpoint-(\d+)", name):
                manifest = self._manifest(name)
                found.append((float(manifest["saved_at"]) if manifest else 0.0, int(match[1]), name))
        return {name: finished for finished, _, name in sorted(found)}

    def _manifest(self, name: str) -> dict[str, Any] | None:
        """None where there is none, or a part of one."""
        system, _ = self._place
        try:
            manifest = json.loads(system.cat_file(self._path(name, MANIFEST)))
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        if not isinstance(manifest, dict) or not is_finite(manifest.get("saved_at")):
            return None
        return manifest if isinstance(manifest.get("files"), dict) else None

    def _path(self, name: str, file: str) -> str:
        return "/".join(part for part in (self._place[1], name, file) if part)

    def _make_folder(self, path: str) -> None:
        """Where there are folders; object storage would make a bucket instead, or nothing."""
        system, _ = self._place
        if not system.async_impl:
            system.makedirs(path, exist_ok=True)

    @contextmanager
    def _naming(self, what: str, kind: type[MllmError] = RunError, onwards: str = "") -> Generator[None, None, None]:
        try:
            yield
        except (OSError, ValueError, *library_errors(self.protocol)) as error:
            said = redacted(one_line(error, 300))
            message = f"{what}: {type(error).__name__}: {said}{onwards}"
            raise kind(message, where=f"mirror_dir {redacted(self.url)}") from error


def prepare(args: RunArguments) -> list[str]:
    """Check the mirror before training, and fetch what `resume_from_checkpoint auto` goes on from.

    Returns:
        What was done, for the log.

    Raises:
        ConfigError: it cannot be written, or holds an earlier run and nothing says what to do with it.
        RunError: it cannot be read.
    """
    mirror, folder, wanted = Mirror.of(args), Path(args.output_dir or "."), args.resume_from_checkpoint
    if mirror is None:
        return []
    mirror.check(folder)
    if args.overwrite_output_dir:
        return []
    if wanted is not None and str(wanted).lower() in AUTO:
        return mirror.fetch(folder)
    goes_on = wanted is not None and Path(wanted).resolve().parent == folder.resolve()
    if not goes_on and (held := mirror.holds()):
        raise ConfigError(
            "continue with --resume_from_checkpoint auto, choose another --mirror_dir, or delete what is there and in "
            "output_dir with --overwrite_output_dir",
            where=f"mirror_dir {redacted(mirror.url)}",
            expected="a new mirror_dir",
            found=held,
        )
    return []

"""What a checkpoint must hold: a list of its files with sizes and digests, written last.

A folder that its manifest agrees with was written to the end and has not been changed or cut since. Checkpoints of
versions that wrote none are checked for their parts, and for files that end early.
"""

from __future__ import annotations

import hashlib
import json
import time
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from mllm.errors import RunError
from mllm.fields import Count, PositiveInt, check, in_field, show
from mllm.files import read_json
from mllm.model_files import MANIFEST as MANIFEST

TRAINER_STATE = "trainer_state.json"
VERSION = 1
READ_WHOLE = 2**24
"""Bytes up to which a digest is of the whole file; of larger ones it is of `SAMPLES` evenly spaced blocks."""
SAMPLES = 64
BLOCK = 2**16
WEIGHTS = (
    *("model*.safetensors", "pytorch_model*.bin", "adapter_model.safetensors", "trained_in_full.safetensors"),
    *("pytorch_model_fsdp_0/*.distcp", "global_step*/*"),
)
MANIFEST_FIELDS: Mapping[str, object] = {
    "saved_at": float,
    "ranks": PositiveInt,
    "position": dict,
    "length": dict,
    "train_files": dict,
}
"""What is beside the files in a manifest that is read, with its types."""
COUNTED: Mapping[str, object] = {"global_step": Count, "max_steps": int, "epoch": float | None}
"""What the state of a training loop counts, with its types."""
OPTIMIZER = ("optimizer.pt", "optimizer.bin", "optimizer_0/*.distcp", "global_step*/*")
SCHEDULER = ("scheduler.pt", "global_step*/*")


def write_manifest(folder: Path, **about: object) -> None:
    """List all files in the folder, which nobody writes to any more; `about` is kept beside them."""
    content = {"version": VERSION, "saved_at": time.time(), **about}
    content["files"] = {name: _entry(folder / name) for name in sorted(_files(folder))}
    partial = folder / f"{MANIFEST}.partial"
    partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    partial.replace(folder / MANIFEST)


def read_manifest(folder: Path) -> dict[str, Any] | None:
    """What `write_manifest` wrote; None where there is none.

    Raises:
        RunError: it cannot be read.
    """
    if not (folder / MANIFEST).is_file():
        return None
    manifest = _read_json(folder / MANIFEST)
    files = manifest.get("files")
    if not isinstance(files, dict) or not all(isinstance(entry, dict) for entry in files.values()):
        raise RunError(field=f"{MANIFEST}: files", expected="an object of files", found=show(files))
    if any(Path(name).is_absolute() or ".." in Path(name).parts for name in files):
        raise RunError(
            field=f"{MANIFEST}: files",
            expected="paths inside its folder",
            found=next(repr(name) for name in files if Path(name).is_absolute() or ".." in Path(name).parts),
        )
    for name, kind in MANIFEST_FIELDS.items():
        if name in manifest:
            in_field(f"{MANIFEST}: {name}", check, manifest[name], kind, RunError)
    return manifest


def read_state(folder: Path) -> dict[str, Any]:
    """The state of the training loop.

    Raises:
        RunError: it is missing, cannot be read, or counts steps in something else than numbers.
    """
    state = _read_json(folder / TRAINER_STATE)
    for name, kind in COUNTED.items():
        if name in state:
            in_field(f"{TRAINER_STATE}: {name}", check, state[name], kind, RunError)
    return state


def changes(folder: Path) -> list[str]:
    """How the files differ from the manifest; nothing where there is none.

    Raises:
        RunError: the manifest cannot be read.
    """
    manifest = read_manifest(folder)
    return [] if manifest is None else list(_changes(folder, manifest["files"]))


def faults(folder: Path) -> list[str]:
    """Why training cannot go on from a checkpoint, as far as its files show; nothing where it can."""
    try:
        manifest, found = read_manifest(folder), changes(folder)
        read_state(folder)
    except RunError as error:
        return [str(error)]
    for part, patterns in (("weights", WEIGHTS), ("optimizer", OPTIMIZER), ("scheduler", SCHEDULER)):
        if not any(next(folder.glob(pattern), None) for pattern in patterns):
            found.append(f"no {part}")
    found += _random_states(folder, None if manifest is None else manifest.get("ranks"))
    if manifest is None:
        found += [f"{path.name} is cut off" for path in sorted(folder.iterdir()) if _is_cut(path)]
    return found


def saved_at(folder: Path) -> float:
    """When a checkpoint was finished, in seconds since 1970; of one without manifest the time of its files.

    0 for a link that leads nowhere.
    """
    try:
        manifest = read_manifest(folder)
    except RunError:
        manifest = None
    if manifest is None:
        return folder.stat().st_mtime if folder.exists() else 0.0
    return float(manifest.get("saved_at", 0))


def _files(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        if path.is_file() and path.name not in (MANIFEST, f"{MANIFEST}.partial"):
            yield path.relative_to(folder).as_posix()


def _entry(path: Path) -> dict[str, Any]:
    return {"size": path.stat().st_size, "digest": digest(path)}


def digest(path: Path) -> str:
    """A hash of the file's contents; of a large file of blocks all over it."""
    size = path.stat().st_size
    found = hashlib.blake2b(digest_size=16)
    with path.open("rb") as file:
        if size <= READ_WHOLE:
            found.update(file.read())
        else:
            for number in range(SAMPLES):
                file.seek((size - BLOCK) * number // (SAMPLES - 1))
                found.update(file.read(BLOCK))
    return found.hexdigest()


def _changes(folder: Path, files: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    for name, entry in files.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != entry.get("size"):
            yield f"{name} has {path.stat().st_size} bytes instead of {entry.get('size')}"
        elif digest(path) != entry.get("digest"):
            yield f"{name} differs from what was written"


def _random_states(folder: Path, ranks: int | None) -> list[str]:
    """What is missing of the state of each rank's random numbers; `ranks`: how many there were, where that is known."""
    numbers = {int(path.stem.rpartition("_")[2]) for path in folder.glob("rng_state_[0-9]*.pth")}
    if (folder / "rng_state.pth").is_file() and ranks in (None, 1):
        return []
    expected = range(ranks or max(numbers, default=0) + 1)
    names = ["rng_state.pth"] if ranks == 1 else [f"rng_state_{rank}.pth" for rank in expected if rank not in numbers]
    return [f"no {name}" for name in names]


def _is_cut(path: Path) -> bool:
    """Whether a file that PyTorch or safetensors wrote ends early."""
    if path.suffix in (".pt", ".pth", ".bin"):
        return path.is_file() and not zipfile.is_zipfile(path)
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt"):
                return False
        except SafetensorError:
            return True
    return False


def _read_json(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise RunError(f"no {path.name}")
    try:
        return read_json(path, dict, RunError)
    except RunError as error:
        raise RunError(f"{path.name}: {error.reason}") from error

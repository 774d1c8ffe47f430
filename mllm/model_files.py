"""Folders of models, which may come from strangers: what is looked at before any library reads them.

- Every file is a regular one, or a link to one, as the cache of Hugging Face links its files: no pipe, no device.
- An index of weights names files beside it, and all of them are there: no links out of the folder, unless to the blobs
  of the same model in the cache of Hugging Face.
- Numbers of the settings are in bounds: of a billion layers no library says so before memory is gone.
- No setting names code: kernels that transformers would fetch from a hub, or adapters put in beside the weights.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

from mllm.errors import MllmError, ModelError
from mllm.fields import show
from mllm.files import other_than_file, read_json
from mllm.generation_args import check_generation_file
from mllm.json_fields import field

CONFIG = "config.json"
GENERATION = "generation_config.json"
ADAPTER_CONFIG = "adapter_config.json"
INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
SETTINGS_FILES = (
    *(CONFIG, GENERATION, "tokenizer_config.json", ADAPTER_CONFIG),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
)
"""JSON files of settings, whose numbers are checked."""
PROMPT_FORMAT_FILE = "mllm_speech.json"
"""Says in which codec, template and placement a model was trained."""
MANIFEST = "manifest.json"
"""Lists what was in a folder when it was written."""
TOKENIZER = (
    "mllm_tokens.json",
    "tokenizer.json",
    "tokenizer.model",
    "chat_template.jinja",
    "special_tokens_map.json",
    "added_tokens.json",
)
MAX_MESSAGE = 240
"""Characters of a library's message that are shown."""
WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
OURS = ("checkpoints/", "outputs/")
"""Where the configs that come with mllm expect models."""
"""As in `OWNER/MODEL`."""
LARGEST_SETTINGS = 64 << 20
"""Bytes of a JSON file of settings, or of an index."""
BOUNDS = (
    (re.compile(r"(^|_)(layers?|depths?|blocks|stages|repeats)$"), 1_024),
    (re.compile(r"(^|_)(experts|heads?)$"), 4_096),
    (re.compile(r"position|(^|_)(n_ctx|seq_len)"), 1 << 24),
    (re.compile(r"(^|_)(labels|extra_ids)$"), 1_000_000),
    (re.compile(r"beams?(_groups)?$|return_sequences$"), 1_024),
    (re.compile(r"^(min_|max_)?(patches|num_frames)$|^(rows|columns)$"), 1_024),
    (re.compile(r"^image_size$"), 16_384),
    (re.compile(r"^((min|max)_pixels|(shortest|longest)_edge|height|width|size|crop_size)$"), 400_000_000),
    (re.compile(r"^model_max_length$"), 1 << 110),  # transformers writes 10**30 for "not known"
    (re.compile(""), 1 << 53),
)
"""The name of a setting -> its largest value: the first pattern that is found. Sizes of tensors are bounded by what the
files of weights hold, when a model is built."""


def check_folder(folder: str | Path) -> None:
    """Look at the files of a model's folder.

    Raises:
        ModelError: names the file, and the key, that is not as the module says.
    """
    names: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            names.append(entry.name)
            _check_entry(entry)
    if MANIFEST in names:
        _check_listed(Path(folder, MANIFEST), names)
    for name in INDEXES:
        if name in names:
            indexed_files(Path(folder, name))
    for name in SETTINGS_FILES:
        if name in names:
            settings = _read(Path(folder, name))
            check_settings(settings, Path(folder, name))
            if name == GENERATION:
                check_generation_file(settings, str(Path(folder, name)))
            if name == CONFIG and "model_type" in settings:
                field(settings, "model_type", str, where=Path(folder, name), error=ModelError)


def indexed_files(index: Path) -> dict[str, str]:
    """What an index says: the file beside it in which each tensor is.

    Raises:
        ModelError: it holds something else, names a file elsewhere, or one that is not there.
    """
    placed: Any = _read(index).get("weight_map")
    if not isinstance(placed, dict) or not placed:
        raise ModelError(where=str(index), field="weight_map", expected="an object of tensors", found=show(placed))
    files = cast("dict[str, Any]", placed)
    for name in files.values():
        if not isinstance(name, str) or name in ("", ".", "..") or {*name} & {"/", "\0"}:
            raise ModelError(
                where=str(index), field="weight_map", expected="the name of a file beside it", found=show(name)
            )
    wanted = sorted(set(files.values()))
    missing = [name for name in wanted if not (index.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{len(missing)} of {len(wanted)} shards are missing: {', '.join(missing[:8])}", where=str(index)
        )
    for name in wanted:
        _check_link(index, name)
    return files


def _check_link(index: Path, name: str) -> None:
    """Check that what an index names is not a link to a file of somebody else.

    The cache of Hugging Face keeps `snapshots/REVISION/name`, a link to `blobs/HASH` beside `snapshots`.

    Raises:
        ModelError: names the target.
    """
    folder, target = index.parent.resolve(), (index.parent / name).resolve()
    own = [folder, folder.parent.parent / "blobs"] if folder.parent.name == "snapshots" else [folder]
    if not any(target.is_relative_to(place.resolve()) for place in own):
        raise ModelError(
            "put the file itself there, or a hard link",
            where=str(index),
            field="weight_map",
            expected="a file of this folder",
            found=f"{show(name)}, a link to {target}",
        )


def check_settings(settings: object, where: str | Path, error: type[MllmError] = ModelError) -> None:
    """Look at every number and text of the settings that stand in a file, or elsewhere.

    Raises:
        error: names the key.
    """
    for place, name, value in _walk(settings, "", ""):
        if isinstance(value, int) and not isinstance(value, bool):
            most = next(most for pattern, most in BOUNDS if pattern.search(name))
            if abs(value) > most:
                raise error(where=str(where), field=place, expected=f"at most {most:,}", found=show(value))
        elif isinstance(value, str) and name.endswith("_implementation") and "/" in value:
            raise error(
                "code is never fetched from a hub", where=str(where), field=place, expected="a name", found=show(value)
            )


@contextmanager
def reading_model_files(
    where: str | Path, what: str = "", names: Sequence[str] = (), error: type[MllmError] = ModelError
) -> Generator[None, None, None]:
    """The door to libraries that read a model's files: whatever they raise becomes one line that names the file.

    Args:
        where: the file or the folder, or whatever else the message is about.
        what: what of it is read, such as "its tokenizer".
        names: JSON files of the folder that are looked at to say where they break off.

    Raises:
        error: as above; errors of ours pass.
    """
    try:
        yield
    except (MllmError, MemoryError):
        raise
    except BaseException as reason:
        # tokenizers raises nothing narrower than Exception, or panics; others raise what their parsers stumble over
        if not isinstance(reason, Exception) and type(reason).__name__ != "PanicException":
            raise
        for path in (Path(where, name) for name in names):
            if path.exists():
                read_json(path, dict, error)
        raise error(f"{what} cannot be read: {in_a_line(reason)}".lstrip(), where=str(where)) from reason


def in_a_line(reason: BaseException) -> str:
    """What a library's exception says, on one line and not too long."""
    said = " ".join(str(reason).split())
    return f"{type(reason).__name__}: {said[:MAX_MESSAGE]}{'...' if len(said) > MAX_MESSAGE else ''}"


NAME_A_MODEL = "name a model's folder, --cfg-options model_args.model_name_or_path=DIR"
"""What to do about a config that names no model."""


def how_to_get(path: str | Path) -> str:
    """What to do about a model's folder that is not there."""
    if str(path).startswith(OURS):
        return "nothing is downloaded: put the folder there, or name yours"
    if HUB_ID.fullmatch(str(path)) and not Path(path).parent.exists():
        how = f"name the folder that `hf download {path}` prints"
        return f"nothing is downloaded: if this is an id of Hugging Face's hub, {how}"
    return "nothing is downloaded"


def bytes_of_weights(folder: str | Path) -> int:
    """How large the files of weights in a folder are together."""
    return sum(path.stat().st_size for path in Path(folder).iterdir() if path.suffix in WEIGHTS)


def _check_entry(entry: os.DirEntry[str]) -> None:
    known = entry.name in (*SETTINGS_FILES, *INDEXES, PROMPT_FORMAT_FILE, *TOKENIZER)
    try:
        found = entry.stat()
    except OSError as reason:
        if known:
            raise ModelError(f"cannot be read: {reason.strerror}", where=entry.path) from reason
        return  # whoever needs it says what is wrong with it
    if (known or not stat.S_ISDIR(found.st_mode)) and (other := other_than_file(found.st_mode)):
        raise ModelError(where=entry.path, expected="a file", found=other)
    if entry.name in (*SETTINGS_FILES, *INDEXES) and found.st_size > LARGEST_SETTINGS:
        megabytes = f"{found.st_size / 1e6:,.0f} MB"
        raise ModelError(where=entry.path, expected=f"at most {LARGEST_SETTINGS >> 20} MB", found=megabytes)


def _check_listed(manifest: Path, names: Sequence[str]) -> None:
    """Of the files that say what a model is, those must be there that were there when its folder was written.

    Without one of them the model would be read in another way: other texts around the question, other boxes.
    """
    try:
        listed: Any = _read(manifest).get("files")
    except ModelError:  # another program's, or one that only going on with training needs
        return
    if not isinstance(listed, dict):
        return
    for name in (*SETTINGS_FILES, PROMPT_FORMAT_FILE, *TOKENIZER):
        if name in listed and name not in names:
            raise ModelError(
                f"is missing, though {MANIFEST} lists it; it holds the model's prompt format",
                where=str(manifest.parent / name),
            )


def _read(path: Path) -> Mapping[str, Any]:
    return read_json(path, dict, ModelError)


def _walk(value: object, place: str, name: str) -> Iterator[tuple[str, str, object]]:
    """Each value that holds no others: where it is, the nearest key above it, and itself."""
    if isinstance(value, dict):
        for key, inner in cast("dict[str, Any]", value).items():
            yield from _walk(inner, f"{place}.{key}" if place else key, key)
    elif isinstance(value, list):
        for number, inner in enumerate(cast("list[Any]", value)):
            yield from _walk(inner, f"{place}[{number}]", name)
    else:
        yield place, name, value

"""What a checkpoint layout is: how to tell it, what its weights are called here, what a whole model of it takes.

To add a layout, put one file into `mllm/models/checkpoints/layouts` and decorate its class with
`@LAYOUTS.register_module(name)`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from mllm.errors import ModelError
from mllm.files import read_json
from mllm.model_files import check_folder
from mllm.models.checkpoints.lazy import Weights, chain_of, open_file, open_folder
from mllm.registry import LAYOUTS


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What a path holds, of which no tensor has been read.

    Attributes:
        path: a folder, a file, or "a.pt,b.pt".
        config: of its config.json; empty where there is none.
        files: the weights, under their own names; several of a chain, in order.
        names: of the folder's files.
    """

    path: str
    config: Mapping[str, Any]
    files: tuple[Weights, ...]
    names: frozenset[str] = frozenset()

    @property
    def weights(self) -> Weights:
        return {name: lazy for weights in self.files for name, lazy in weights.items()}

    @property
    def model_type(self) -> str | None:
        return self.config.get("model_type")

    @property
    def folder(self) -> Path:
        path = Path(self.path)
        return path if path.is_dir() else path.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModels:
    """Where that is which a checkpoint leaves out; None: not given."""

    base: str | None = None
    vision_tower: str | None = None
    tokenizer: str | None = None
    tuning_config: str | None = None

    def need(self, name: str, opened: Checkpoint, why: str) -> str:
        """The folder or file given as `name`.

        Raises:
            ModelError: it was not given; `why` says what it is for.
        """
        found = getattr(self, name)
        if found is None:
            raise ModelError(where=opened.path, field=f"--{name.replace('_', '-')}", expected=why, found="nothing")
        return found

    def refuse(self, opened: Checkpoint, *names: str) -> None:
        """Raises ModelError where something was given that the checkpoint brings itself."""
        given = [f"--{name.replace('_', '-')}" for name in names if getattr(self, name) is not None]
        if given:
            raise ModelError(
                "drop it", where=opened.path, expected="no other files, as it holds all", found=", ".join(given)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelPlan:
    """A whole model, of which no tensor has been read.

    Attributes:
        kind: the `type` of model_args.
        prompt_format: codec, template and placement, as far as the layout's code has only one.
        config: of our model class, at the vocabulary of the checkpoint.
        weights: under our names.
        folders: where tokenizer and generation settings may be, the first that has them counts.
        tokens: what the checkpoint's tokenizer has beyond that of the folder, in order.
        vocabulary: number of tokens that the tokenizer then has to have; None: any.
        base_rows: embeddings before any token was added, where that is known.
    """

    config: Any
    weights: Weights
    kind: str
    prompt_format: Mapping[str, Any] = field(default_factory=dict)
    folders: Sequence[str] = ()
    tokens: Sequence[str] = ()
    vocabulary: int | None = None
    base_rows: int | None = None


class CheckpointLayout(Protocol):
    """Attributes:
    about: what it is, for people.
    source: where its rules were read.
    """

    about: str
    source: str

    def fits(self, opened: Checkpoint) -> bool:
        """Whether the path is of this layout, by its config and the names of its weights."""
        ...

    def named(self, opened: Checkpoint) -> Weights:
        """The path's own weights under our names, as far as they have one."""
        ...

    def absent(self, opened: Checkpoint) -> Mapping[str, str]:
        """Parts that the path lacks, and may lack in this layout, each with where it is to be taken from."""
        ...

    def plan(self, opened: Checkpoint, sources: BaseModels) -> ModelPlan:
        """The whole model.

        Raises:
            ModelError: something is lacking, or given in vain.
        """
        ...


def open_path(path: str) -> Checkpoint:
    """Look at a folder, a file, or "a.pt,b.pt".

    Raises:
        ModelError: nothing there, or damaged.
    """
    folder = Path(path)
    if not folder.is_dir():
        return Checkpoint(path=path, config={}, files=tuple(open_file(file) for file in chain_of(path)))
    check_folder(folder)
    names = frozenset(file.name for file in folder.iterdir())
    return Checkpoint(path=path, config=read_optional_config(folder), files=(open_folder(folder),), names=names)


def read_optional_config(folder: Path) -> dict[str, object]:
    """config.json, or nothing.

    Raises:
        ModelError: the file holds no JSON object.
    """
    path = folder / "config.json"
    return read_json(path, dict, ModelError) if path.is_file() else {}


def fitting(opened: Checkpoint) -> dict[str, CheckpointLayout]:
    """The layouts that a path may be of, by name."""
    return {name: layout for name in LAYOUTS.names() if (layout := LAYOUTS.find(name)()).fits(opened)}


def detect(opened: Checkpoint) -> tuple[str, CheckpointLayout]:
    """The layout of a path, with its name.

    Raises:
        ModelError: none, or more than one.
    """
    found = fitting(opened)
    if len(found) != 1:
        known = "; ".join(f"{name} ({LAYOUTS.find(name).about})" for name in LAYOUTS.names())
        first = ", ".join(sorted(opened.weights)[:3])
        raise ModelError(
            f"{'no' if not found else 'more than one'} known layout {list(found) or ''}, model_type "
            f"{opened.model_type!r}, {len(opened.weights)} tensors: {first} ...; known are {known}",
            where=opened.path,
        )
    return next(iter(found.items()))

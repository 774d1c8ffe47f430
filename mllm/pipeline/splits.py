"""What a config reads: its splits, and the datasets that these are made of."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mllm.config.sections import multitest_entries
from mllm.dataset.base import Dataset, LineDataset
from mllm.dataset.base import Dataset as MllmDataset
from mllm.dataset.mixing import Subset
from mllm.errors import ConfigError, DataError, nearest
from mllm.fields import show
from mllm.registry import DATASETS

Config = Mapping[str, Any]

ITEM_KEY = re.compile(r"(?P<file>.+?)(?::\d+|\[\d+\])(?: and \d+ more)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """A dataset of data_args under all the names that it has there."""

    names: tuple[str, ...]
    cfg: Config

    @property
    def training(self) -> bool:
        return "train" in self.names

    @property
    def epoch(self) -> int | None:
        """What is drawn: as in the first epoch of training, else nothing."""
        return 0 if self.training else None

    def __str__(self) -> str:
        return ", ".join(self.names)


def splits(data: Config, names: Sequence[str] = ()) -> list[Split]:
    """train, validation, test and `multitest.{name}` of data_args, or those named; equal datasets are one split.

    Raises:
        ConfigError: no such split, or none at all.
    """
    found = {name: data[name] for name in ("train", "validation", "test") if data.get(name)}
    found |= {f"multitest.{name}": entry["cfg"] for name, entry in multitest_entries(data).items()}
    if not found:
        raise ConfigError(field="data_args", expected="train, validation, test or multitest", found="none of them")
    for name in names:
        if name not in found:
            raise ConfigError(
                nearest(name, found), where="--split", expected="a dataset of the config", found=show(name)
            )
    distinct: list[tuple[list[str], Config]] = []
    for name in names or found:
        same = next((entry for entry in distinct if entry[1] == found[name]), None)
        if same:
            same[0].append(name)
        else:
            distinct.append(([name], found[name]))
    return [Split(names=tuple(same), cfg=cfg) for same, cfg in distinct]


def component_datasets(cfg: Config) -> list[Config | MllmDataset]:
    """The datasets that a dataset draws from, whose every item is to be looked at; itself where it draws from none.

    A part of one (`Subset`) stays: what it leaves out is not read. Those of a mixture that a file describes are built.
    """
    several = cfg.get("datasets")
    if isinstance(several, Sequence) and several and all(isinstance(each, Mapping) for each in several):
        return [part for each in several for part in component_datasets(cast(Config, each))]
    inner = cfg.get("dataset")
    if isinstance(inner, Mapping) and DATASETS.find(cfg.get("type")) is not Subset:
        return component_datasets(inner)
    if not isinstance(DATASETS.find(cfg.get("type")), type):
        try:
            return list(getattr(DATASETS.make(cfg), "datasets", [cfg]))
        except DataError:
            pass  # reading it says so again
    return [cfg]


def line_of(dataset: Dataset, index: int) -> tuple[Mapping[str, object], str] | None:
    """The annotation line behind an item and where it stands; None where there is no single one."""
    source, own = _source(dataset, index)
    if not isinstance(source, LineDataset):
        return None
    number = source.line_number(own)
    return source.lines[number], source.lines.where(number)


def place_of(dataset: Dataset, index: int) -> str:
    """Where an item comes from, without reading it."""
    source, own = _source(dataset, index)
    if not isinstance(source, LineDataset):
        return f"{type(source).__name__}[{own}]"
    return source.lines.where(source.line_number(own))


def _source(dataset: Any, index: int) -> tuple[object, int]:
    """The dataset that an item of a part or a sum of datasets is of, and its index there."""
    while hasattr(dataset, "part"):
        dataset, index = dataset.part(index)
    return dataset, index


def file_of(key: str) -> str:
    """The annotation file in an item's key."""
    match = ITEM_KEY.fullmatch(key)
    return match["file"] if match else key

"""`mllm list`: the datasets, metrics, rewards, codecs, models and configs that there are, read from their sources."""

from __future__ import annotations

from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

Row = tuple[str, str, str]
"""Name, what it is, file."""


class Listing(StrEnum):
    """What can be listed."""

    DATASETS = "datasets"
    METRICS = "metrics"
    REWARDS = "rewards"
    CODECS = "codecs"
    TEMPLATES = "templates"
    MODELS = "models"
    CONNECTORS = "connectors"
    CONFIGS = "configs"


def list_kinds(
    kinds: Annotated[
        list[Listing] | None,
        typer.Argument(metavar="KIND", help=f"{', '.join(Listing)}. Default: all.", show_default=False),
    ] = None,
) -> None:
    """List what a config can name: datasets, metrics, rewards, codecs, templates, models, connectors and configs.

    For each its name, one line about it, and its file. Components of your own, which custom_imports names, are not
    among them.
    """
    from mllm.report.tables import table

    for kind in kinds or list(Listing):
        print(table((kind, "", "file"), list_rows(kind)))
        print()


def list_rows(kind: Listing) -> list[Row]:
    """What there is of a kind; nothing of it is imported."""
    from mllm import registry

    if kind is Listing.CONFIGS:
        return list(_configs())
    registries = {
        Listing.DATASETS: registry.DATASETS,
        Listing.METRICS: registry.METRICS,
        Listing.REWARDS: registry.REWARDS,
        Listing.CODECS: registry.CODECS,
        Listing.TEMPLATES: registry.TEMPLATES,
        Listing.MODELS: registry.MODELS,
        Listing.CONNECTORS: registry.CONNECTORS,
    }
    root = Path(registry.__file__).parents[1]
    return [(one.name, one.about, str(one.path.relative_to(root))) for one in registries[kind].sources()]


def _configs() -> Iterator[Row]:
    """The configs that run, and the first sentence above each."""
    from mllm.config.shipped import shipped_root

    folder = shipped_root() / "config"
    for path in (*sorted(folder.glob("*.py")), *sorted(folder.glob("eval/*.py"))):
        yield path.relative_to(folder).with_suffix("").as_posix(), _header(path), f"config/{path.relative_to(folder)}"


def _header(path: Path) -> str:
    lines = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        lines.append(line.strip("# "))
    first, stop, _ = " ".join(lines).partition(". ")
    return f"{first}." if stop else first

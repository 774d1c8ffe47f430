"""The test sets of `data_args.multitest`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mllm.errors import ConfigError


def multitest_entries(data: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of `data_args.multitest` by name; one that is None, as an override may say, is left out.

    Raises:
        ConfigError: an entry without `cfg`, or with more than `cfg` and `compute_metric`.
    """
    several = {name: entry for name, entry in (data.get("multitest") or {}).items() if entry is not None}
    for name, entry in several.items():
        if not isinstance(entry, Mapping) or "cfg" not in entry or set(entry) - {"cfg", "compute_metric"}:
            raise ConfigError(f"data_args.multitest.{name}: expected dict(cfg=..., compute_metric=...), found {entry}")
    return several

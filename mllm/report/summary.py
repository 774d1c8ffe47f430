"""Scores for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mllm.metrics.base import Metric
from mllm.metrics.outcome import WITHOUT_METRIC, Outcome
from mllm.report.tables import table

MOST_PARTS = 12
"""Parts of a dataset that the terminal lists."""
TERMINAL_NAMES = {"failure_none": "nothing to read"}
"""Names of scores for the terminal, where that of the files reads as something else."""


def summary(prefix: str, found: Outcome, metric: Metric | None, report: Path | None) -> str:
    """The scores as a table, the headline with its 95 % interval and its floor first; then its parts."""
    scores = found.apart
    first = [metric.headline, f"constant_box_{metric.headline}"] if metric else []
    names = [name for name in first if name in scores] + [name for name in scores if name not in first]
    meanings = {**WITHOUT_METRIC, **(metric.meanings if metric else {})}
    lines = [f"{prefix}:"]
    for name in names:
        value = scores[name]
        is_count = isinstance(value, int) or (value.is_integer() and name.partition("/")[0] not in meanings)
        shown = f"{value:.0f}" if is_count else f"{value:.4f}"
        lines.append(f"  {TERMINAL_NAMES.get(name, name):24}{shown:>10}  {meanings.get(name, '')}".rstrip())
        if name == found.headline and found.interval:
            lines.append(
                f"  {'':34}  {found.interval.low:.4f} to {found.interval.high:.4f}: 95 % interval, over images"
            )
    for name, parts in found.parts.items():
        lines.append(f"  {found.headline} by {name}:")
        for part in parts[:MOST_PARTS]:
            items = "item" if part.count == 1 else "items"
            lines.append(f"    {part.value:22.22}{part.score:>10.4f}  {part.count} {items}")
        if len(parts) > MOST_PARTS:
            lines.append(f"    {len(parts) - MOST_PARTS} more in the report and the results")
    if report:
        lines.append(f"  report: {report}")
    return "\n".join(lines)


def joint_summary(scores: Mapping[str, float], metrics: Mapping[str, Metric | None]) -> str:
    """A table with a line for each test set.

    Args:
        scores: of all test sets, keys with the prefix of their test set.
        metrics: by prefix.
    """
    lines = []
    for prefix, metric in metrics.items():
        own = {
            name.removeprefix(f"{prefix}_"): value for name, value in scores.items() if name.startswith(f"{prefix}_")
        }
        name = metric.headline if metric else "loss"
        floor = own.get(f"constant_box_{name}")
        failed = sum(value for key, value in own.items() if key.startswith("failure_"))
        lines.append(
            (
                prefix,
                name,
                f"{own[name]:.4f}" if name in own else "",
                "" if floor is None else f"{floor:.4f}",
                f"{own['count']:.0f}" if "count" in own else "",
                f"{failed:.0f}" if metric else "",
            )
        )
    return table(("test set", "score", "", "constant box", "count", "failures"), lines, numbers=True)

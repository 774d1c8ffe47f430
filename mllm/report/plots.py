"""Curves of a training run, from the log that the Trainer keeps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

# Okabe and Ito's colours: told apart by colour-blind readers
TRAIN, EVAL, RATE = "#0072B2", ("#D55E00", "#009E73", "#CC79A7", "#E69F00"), "#999999"


def plot_losses(log_history: Sequence[Mapping[str, object]], path: str | Path) -> bool:
    """Write a PNG of the train and evaluation losses and the learning rate over optimizer steps.

    Args:
        log_history: the Trainer's (`log_history` in trainer_state.json): one dict per log call, with `step`, and `loss`
            and `learning_rate`, or `eval_loss` (`eval_{name}_loss` with several evaluation sets).
        path: where to write; its folder exists.

    Returns:
        Whether anything was written: False, and no file, when the log holds no loss.
    """
    train = _series(log_history, "loss")
    keys = sorted({key for entry in log_history for key in entry if _is_eval_loss(key)})
    if not train and not keys:
        return False
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # here: it takes a second, at the end of a run
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    FigureCanvasAgg(figure)  # draws without a display, and leaves pyplot's global backend alone
    axes = figure.subplots()
    if train:
        marker = "o" if len(train) == 1 else ""  # one point makes no line
        axes.plot(
            *zip(*train, strict=True), color=TRAIN, linewidth=1.2, marker=marker, markersize=4, label="train loss"
        )
    for number, key in enumerate(keys):
        colour = EVAL[number % len(EVAL)]
        points = zip(*_series(log_history, key), strict=True)
        axes.plot(*points, color=colour, linewidth=1.2, marker="o", markersize=4, label=key.replace("_", " "))
    axes.set_xlabel("optimizer step")
    axes.set_ylabel("loss")
    axes.grid(alpha=0.25)
    handles, labels = axes.get_legend_handles_labels()
    rates = _series(log_history, "learning_rate")
    if rates:
        second = axes.twinx()
        handles += second.plot(*zip(*rates, strict=True), color=RATE, linewidth=1, linestyle="--")
        labels.append("learning rate")
        second.set_ylabel("learning rate")
        second.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.legend(handles, labels, loc="upper right", frameon=False)
    figure.savefig(path, format="png", dpi=130)
    return True


def _is_eval_loss(key: str) -> bool:
    return key.startswith("eval_") and key.endswith("loss")


def _series(log_history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """(step, value) of each entry that has the key."""
    return [(int(entry["step"]), float(entry[key])) for entry in log_history if key in entry]

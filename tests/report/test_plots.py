from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from mllm.report.plots import plot_losses

TRAIN = [{"step": step, "epoch": step / 10, "loss": 3 / step, "learning_rate": 1e-5} for step in range(1, 6)]


@pytest.mark.parametrize(
    "log",
    [
        TRAIN,
        TRAIN[:1],
        [*TRAIN, {"step": 5, "eval_loss": 0.7}, {"step": 5, "train_loss": 1.1}],
        [{"step": 5, "eval_rec_loss": 0.7, "eval_vqa_loss": 0.6, "eval_rec_acc@0.5": 0.3}],
        [{"step": 1, "loss": float("nan")}, {"step": 2, "loss": 1.0}],
    ],
    ids=["train", "one step", "train and eval", "several eval sets", "not a number"],
)
def test_a_png_is_written(log: list[dict[str, float]], tmp_path: Path) -> None:
    path = tmp_path / "loss.png"
    assert plot_losses(log, path)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert len(image.convert("RGB").getcolors(image.width * image.height) or ()) > 10


@pytest.mark.parametrize("log", [[], [{"step": 5, "eval_acc@0.5": 0.5}, {"step": 5, "train_loss": 1.1}]])
def test_nothing_is_written_without_a_loss(log: list[dict[str, float]], tmp_path: Path) -> None:
    assert not plot_losses(log, tmp_path / "loss.png")
    assert list(tmp_path.iterdir()) == []

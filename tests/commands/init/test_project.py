"""`mllm init`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from mllm.cli import main
from mllm.commands.init.cli import ProjectTask
from mllm.commands.init.project import CIRCLE, IMAGE_NAME, KINDS, SQUARE


@pytest.mark.parametrize("task", ProjectTask)
def test_a_new_project_is_checked_without_a_fault(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["init", task, "my project"]) == 0
    assert "mllm train 'my project/config.py'" in capsys.readouterr().out.replace(str(tmp_path) + "/", "")
    assert len((tmp_path / "my project" / "train.jsonl").read_text().splitlines()) == 2
    monkeypatch.chdir("/")
    words = [str(tmp_path / "my project" / "config.py"), "--workers", "0", "--decode"]
    assert main(["data", "check", *words, "--cfg-options", "model_args.tokenizer.vocab_size=400"]) == 0


def test_every_task_has_a_kind() -> None:
    assert set(KINDS) == set(ProjectTask)


def test_the_boxes_of_the_lines_are_where_the_shapes_are(tmp_path: Path) -> None:
    assert main(["init", "rec", str(tmp_path)]) == 0
    image = Image.open(tmp_path / IMAGE_NAME).convert("RGB")
    boxes = [json.loads(line)["bbox"] for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert boxes == [list(CIRCLE), list(SQUARE)]
    for (left, top, right, bottom), colour in zip(boxes, [(220, 30, 30), (30, 60, 220)], strict=True):
        pixels = [(x, y) for x in range(image.width) for y in range(image.height) if image.getpixel((x, y)) == colour]
        xs, ys = zip(*pixels, strict=True)
        assert (min(xs), min(ys), max(xs) + 1, max(ys) + 1) == (left, top, right, bottom)


@pytest.mark.parametrize("held", ["file", "folder"])
def test_nothing_is_overwritten(held: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "x"
    if held == "folder":
        target.mkdir()
        (target / ".hidden").write_text("")
    else:
        target.write_text("")
    assert main(["init", "rec", str(target)]) == 1
    error = capsys.readouterr().err
    assert f"{target}: expected a new or empty folder" in error
    assert len(error.splitlines()) == 1
    assert main(["init", "rex", str(tmp_path / "y")]) == 2


@pytest.mark.parametrize("above", ["/proc", "file"])
def test_where_nothing_can_be_written_one_line_says_so(
    above: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    target = tmp_path / above / "x"
    assert main(["init", "rec", str(target)]) == 1
    error = capsys.readouterr().err
    assert error.startswith(f"ConfigError: {target}: cannot be written: ")
    assert len(error.splitlines()) == 1
    assert ".log" not in error


@pytest.mark.slow
@pytest.mark.parametrize("task", ProjectTask)
def test_a_new_project_trains_and_scores(task: str, tmp_path: Path) -> None:
    assert main(["init", task, str(tmp_path)]) == 0
    assert main(["train", str(tmp_path / "config.py")]) == 0
    scores = json.loads((tmp_path / "out" / "eval_results.json").read_text())
    name = {"rec": "eval_acc@0.5", "vqa": "eval_accuracy"}.get(task, "eval_exact_match")
    assert scores[name] == 1.0, scores

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.cli import main


def write(folder: Path, name: str, scores: list[float], **fields: Any) -> str:
    (folder / name).mkdir()
    with (folder / name / "eval_extra_prediction.jsonl").open("w") as file:
        for index, score in enumerate(scores):
            record = {
                **{"key": f"a.jsonl:{index + 1}", "index": index, "image": f"{index // 2}.jpg", "text": f"{name} says"},
                **{"pred": [], "target": [[0, 0, 1, 1]], "failure": None, "score": score},
                "group": {"split": "testA" if index % 2 else "testB"},
                **fields,
            }
            file.write(json.dumps(record) + "\n")
    return str(folder / name)


def said(capsys: pytest.CaptureFixture[str], *paths: str) -> str:
    assert main(["compare", *paths]) == 0
    return capsys.readouterr().out


def test_compare_tells_a_better_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path, "first", [0.0] * 80 + [1.0] * 20)
    b = write(tmp_path, "second", [1.0] * 60 + [0.0] * 20 + [1.0] * 20)
    text = said(capsys, a, b)
    assert "A  first/eval: 0.2000" in text
    assert "B - A: +0.6000" in text
    assert "over 50 images with 100 answers" in text
    assert "only A is right: 0; only B is right: 60" in text
    assert "B is better: the interval leaves out 0" in text
    assert "B - A by split:" in text
    assert "second says" in text


def test_compare_says_when_it_cannot_tell(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path, "first", [0.0, 1.0] * 20)
    b = write(tmp_path, "second", [1.0, 0.0] * 10 + [0.0, 1.0] * 9 + [1.0, 1.0])
    text = said(capsys, a, b)
    assert "neither is better by these answers" in text
    assert "would need about" in text


def test_compare_says_that_nothing_differs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = (write(tmp_path, name, [0.0, 1.0, 1.0, 0.0]) for name in ("first", "second"))
    assert "both score the same on every item" in said(capsys, a, b)


def test_compare_takes_several_models_and_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [write(tmp_path, name, [0.0, 1.0, float(name == "c"), 0.0]) for name in "abc"]
    text = said(capsys, folders[0], f"{folders[1]}/eval_extra_prediction.jsonl", folders[2])
    assert text.count("B - A:") == 2
    assert "B  c/eval" in text


@pytest.mark.parametrize(
    ("scores", "fields", "message"),
    [
        ([0.0] * 3, {}, "expected 4 answers"),
        ([0.0] * 4, {"target": [[0, 0, 2, 2]]}, "target: expected list '[[0, 0, 1, 1]]'"),
        ([0.0] * 4, {"key": "b.jsonl:1"}, "key: expected str 'a.jsonl:1'"),
        ([0.0] * 4, {"score": None}, "score: expected a value, found nothing"),
        ([float("nan")] * 4, {}, "score: expected a number or None, found float 'nan'"),
        ([0.0] * 4, {"index": 2}, "expected one answer of index 2, found two"),
    ],
)
def test_compare_refuses_answers_to_other_items(
    scores: list[float], fields: dict[str, Any], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = write(tmp_path, "first", [0.0] * 4), write(tmp_path, "second", scores, **fields)
    assert main(["compare", a, b]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_compare_refuses_one_file_and_the_same_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a = write(tmp_path, "first", [0.0] * 4)
    for arguments, message in (([a], "at least two"), ([a, a], "different files"), ([a, str(tmp_path)], "one file")):
        assert main(["compare", *arguments]) == 1
        assert message in capsys.readouterr().err

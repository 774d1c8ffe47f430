"""Files for evaluation servers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Two questions without ground truth, as of a test split."""
    lines: list[dict[str, Any]] = []
    for number in (30, 10):
        name = f"COCO_test2015_{number:012}.jpg"
        Image.new("RGB", (8, 8)).save(tmp_path / name)
        keys = {"question_id": number, "questionId": f"0{number}", "image": name}
        lines.append({**keys, "image_path": name, "question": "Is it red?"})
    (tmp_path / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "questions.json").write_text('["<image> <question>"]')
    dataset = {
        **{"type": "VQAv2", "filename": str(tmp_path / "lines.jsonl"), "image_folder": str(tmp_path)},
        "questions": str(tmp_path / "questions.json"),
    }
    (tmp_path / "config.py").write_text(f"data_args = dict(test={dataset!r})\n")
    return str(tmp_path / "config.py")


def submit(tmp_path: Path, config: str, name: str, *numbers: int) -> int:
    """Of our own predictions, whose keys are the lines of the dataset."""
    lines = tmp_path / "lines.jsonl"
    texts = ("The answer is **Red**.", "<think>?</think>Two dogs.")
    records = [
        {
            "key": f"{lines}:{number + 1}",
            "index": number,
            "text": texts[number],
            "pred": [],
            "target": [],
        }
        for number in numbers
    ]
    answers = tmp_path / "test_extra_prediction.jsonl"
    answers.write_text("".join(json.dumps(record) + "\n" for record in records))
    options = ["--data", config, "--submission", name, "--output_dir", str(tmp_path / "out")]
    return main(["score", str(answers), *options])


@pytest.mark.parametrize(
    ("name", "records"),
    [
        ("vqa", [{"question_id": 30, "answer": "Red"}, {"question_id": 10, "answer": "Two dogs"}]),
        ("gqa", [{"questionId": "030", "prediction": "red"}, {"questionId": "010", "prediction": "two dogs"}]),
        (
            "vizwiz",
            [
                {"image": "COCO_test2015_000000000030.jpg", "answer": "red"},
                {"image": "COCO_test2015_000000000010.jpg", "answer": "two dogs"},
            ],
        ),
        (
            "coco_captions",
            [{"image_id": 30, "caption": "The answer is **Red**."}, {"image_id": 10, "caption": "Two dogs."}],
        ),
    ],
)
def test_submission_has_every_question_of_the_split_once(
    name: str, records: list[dict[str, Any]], config: str, tmp_path: Path
) -> None:
    assert submit(tmp_path, config, name, 1, 0) == 0  # in any order
    assert json.loads((tmp_path / "out" / f"submission_{name}.json").read_text()) == records


@pytest.mark.parametrize(
    ("numbers", "message"),
    [((0,), "1 items without an answer"), ((0, 1, 1), "two answers to one item have the same key")],
)
def test_submission_refuses_missing_and_doubled_answers(
    numbers: tuple[int, ...], message: str, config: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert submit(tmp_path, config, "vqa", *numbers) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_submission_needs_the_data_and_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.txt").write_text("yes\n")
    assert main(["score", str(tmp_path / "a.txt"), "--submission", "vqa"]) == 1
    assert "--submission: expected --data and --output_dir, found neither" in capsys.readouterr().err

"""Every field of every layout of answers, with values that it cannot have: one line names the record and the field."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main

SAMPLE = 40
"""Tries that the fast test makes."""
WRONG = [7, -0.5, 10**400, 1e300, math.nan, math.inf, "x", True, None, [], {}, [7], [None], ["x"], [math.nan], [["x"]]]
WRONG += [[[1, 2, 3, 4]], [[1e400, 1, 1, 1]], {"a": [1]}]
OURS: dict[str, Any] = {
    **{"key": "a:1", "index": 0, "image": "a.jpg", "image_size": [40, 24], "expression": "it", "question": "Where?"},
    **{"text": "x", "pred": [[1, 2, 3, 4]], "pred_images": [0], "pred_labels": ["a"], "pred_scores": [0.5]},
    **{"pred_points": [[1, 2]], "pred_point_images": [0], "pred_spans": [[0, 1]], "target": [[4, 4, 20, 18]]},
    **{"target_images": [0], "target_labels": ["a"], "target_points": [[1, 2]], "target_point_images": [0]},
    **{"target_spans": [[0, 1]], "target_texts": ["x"], "options": ["a", "b"], "candidates": [[4, 4, 20, 18]]},
    **{"candidate_images": [0], "masks": [{"size": [2, 2], "counts": [1, 3]}], "failure": None, "read_by": ["json"]},
    **{"group": {"a": "b"}, "duration": 10.0, "clipped": 0, "candidate_scores": {"x": -1.0}, "iou": 0.5, "score": 0.0},
}
ANSWERED = ["--data", "asked.py", "--metric", "VQAAccuracy"]
LAYOUTS: dict[str, tuple[dict[str, Any], Sequence[str]]] = {
    "mllm": (OURS, []),
    "internvl": ({"answer": "[1,2,3,4]", "gt_bbox": [1, 2, 3, 4], "hw": [24, 40]}, ["--reading", "internvl"]),
    "lmms_eval": (
        {"doc_id": 0, "filtered_resps": ["[0.1, 0.1, 0.2, 0.2]"], "acc": {"bbox": [0.1, 0.1, 0.3, 0.3], "pred": [0]}},
        ["--reading", "lmms_eval"],
    ),
    "vlmevalkit": (
        {"index": "1", "prediction": "[1,2,3,4]", "bbox_x1": 1, "bbox_y1": 2, "bbox_x2": 3, "bbox_y2": 4}
        | {"width": 40, "height": 24, "split": "val"},
        ["--reading", "vlmevalkit"],
    ),
    "shikra": ({"pred": "[0.1,0.1,0.3,0.3]", "target": "[0.1,0.1,0.3,0.3]"}, ["--reading", "shikra"]),
    "llava": ({"question_id": 1, "text": "no"}, ANSWERED),
    "vqa": ({"question_id": 1, "answer": "no"}, ANSWERED),
    "texts": ({"text": "no"}, ANSWERED),
    "coco_detection": (
        {"image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5},
        ["--data", "found.py", "--instances", "instances.json", "--metric", "Detection"],
    ),
}
TRIES = [(layout, field, value) for layout, (record, _) in LAYOUTS.items() for field in record for value in WRONG]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answers")
    Image.new("RGB", (40, 24)).save(folder / "7.jpg")
    asked = {"image_path": "7.jpg", "question": "Is it red?", "question_id": 1}
    asked |= {"annotation": {"multiple_choice_answer": "no", "answers": [{"answer": "no"}] * 10}}
    found = {"img_path": "7.jpg", "expression": "things", "boxes": [[1, 2, 3, 4]], "labels": ["dog"]}
    for name, kind, record in (("asked", "VQAv2", asked), ("found", "BoxList", found)):
        (folder / f"{name}.jsonl").write_text(json.dumps(record), encoding="utf-8")
        data = dict(type=kind, filename=f"{name}.jsonl", image_folder=".", questions=f"{name}.json")
        text = f"data_args = dict(validation={data!r})\nmodel_args = dict()\ntraining_args = dict()\n"
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    (folder / "asked.json").write_text('["<question> <image>"]', encoding="utf-8")
    (folder / "found.json").write_text('["<expr> <image>"]', encoding="utf-8")
    instances = {"images": [{"id": 7, "file_name": "7.jpg"}], "categories": [{"id": 1, "name": "dog"}]}
    (folder / "instances.json").write_text(json.dumps(instances), encoding="utf-8")
    return folder


@pytest.fixture(autouse=True)
def _inside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_whole_record_is_scored(layout: str, capsys: pytest.CaptureFixture[str]) -> None:
    record, arguments = LAYOUTS[layout]
    Path("a.json").write_text(json.dumps([record]), encoding="utf-8")
    assert main(["score", "a.json", *arguments]) == 0, capsys.readouterr().err


def test_a_sample_of_wrong_fields_of_answers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    faults = list(_faults(random.Random(0).sample(TRIES, SAMPLE), capsys))
    assert not faults, "\n".join(faults)


@pytest.mark.slow
def test_every_wrong_field_of_answers_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    faults = list(_faults(TRIES, capsys))
    assert not faults, "\n".join(faults)


@pytest.mark.parametrize("field", ["pred", "pred_labels", "group", "iou", "target_points", "duration", "read_by"])
def test_compare_refuses_wrong_fields(field: str, capsys: pytest.CaptureFixture[str]) -> None:
    records = [OURS | {"index": number, "key": f"a:{number}", "image": f"{number}.jpg"} for number in range(2)]
    for name, changed in (("a", records), ("b", [records[0], records[1] | {field: [["x"]]}])):
        Path(f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in changed), encoding="utf-8")
    assert main(["compare", "b.jsonl", "a.jsonl"]) == 1
    assert f"DataError: b.jsonl:2: {field}" in capsys.readouterr().err


def _faults(tries: Sequence[tuple[str, str, Any]], capsys: pytest.CaptureFixture[str]) -> Iterator[str]:
    """What is wrong with what `mllm score` says of a value; a record that is scored holds one that it may have."""
    for layout, field, value in tries:
        record, arguments = LAYOUTS[layout]
        Path("a.json").write_text(json.dumps([record | {field: value}]), encoding="utf-8")
        status, error = main(["score", "a.json", *arguments]), capsys.readouterr().err
        if status and (error.count("\n") != 1 or "unexpected error" in error or "a.json" not in error):
            yield f"{layout}: {field} = {value!r:.60}: {error[-300:]}"

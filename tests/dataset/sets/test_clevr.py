from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mllm.dataset.sets.clevr import CLEVR, checked, run_program
from mllm.errors import ConfigError, DataError
from mllm.registry import DATASETS


def solid(color: str, shape: str, x: int, size: str = "small", material: str = "metal") -> dict[str, Any]:
    return {"color": color, "shape": shape, "size": size, "material": material, "pixel_coords": [x, 50, 9.5]}


# three solids from left to right, in the layout of CLEVR_train_scenes.json
SCENE = {
    "image_index": 0,
    "image_filename": "CLEVR_train_000000.png",
    "objects": [solid("red", "cube", 10), solid("blue", "cube", 20), solid("red", "sphere", 30, size="large")],
    "relationships": {"left": [[], [0], [0, 1]], "right": [[1, 2], [2], []], "front": [[], [], []]},
}


def step(function: str, *inputs: int, value: str | None = None) -> dict[str, Any]:
    return {"function": function, "inputs": list(inputs), "value_inputs": [] if value is None else [value]}


LEFT_OF_SPHERE = [
    step("scene"),
    step("filter_shape", 0, value="sphere"),
    step("unique", 1),
    step("relate", 2, value="left"),
    step("filter_color", 3, value="green"),
    step("count", 4),
]
QUESTION = {
    "split": "train",
    "image_filename": "CLEVR_train_000000.png",
    "image_index": 0,
    "question": "How many green things are left of the sphere?",
    "answer": "0",
    "program": LEFT_OF_SPHERE,
}


@pytest.fixture
def clevr(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., CLEVR]:
    """The two public files, in their layout."""

    def make(version: Any, question: Any = QUESTION, scene: Any = SCENE) -> CLEVR:
        (tmp_path / "questions.json").write_text(json.dumps({"info": {"split": "train"}, "questions": [question]}))
        (tmp_path / "scenes.json").write_text(json.dumps({"info": {}, "scenes": [scene]}))
        return CLEVR(
            filename=str(tmp_path / "questions.json"),
            questions=pool(["<image>\n<question>"]),
            version=version,
            scenes=str(tmp_path / "scenes.json"),
        )

    return make


def test_what_each_version_answers(clevr: Callable[..., CLEVR]) -> None:
    assert clevr("q-a")[0].turns[1].text == "The answer is 0."
    assert clevr("q-s")[0].turns[1].text == (
        "scene -> filter_shape:sphere[0] -> unique[1] -> relate:left[2] -> filter_color:green[3] -> count[4] "
        "The answer is 0."
    )
    item = clevr("q-bs")[0]
    assert item.turns[1].text == (
        "scene -> filter_shape:sphere[0] -> unique[1]<points> -> relate:left[2]<points> "
        "-> filter_color:green[3] (none) -> count[4] The answer is 0."
    )
    assert [[item.points[i].x for i in group] for group in item.turns[1].points_seq] == [[30], [10, 20]]
    assert item.truth.texts == ("0",)


def test_programs_run() -> None:
    program = [
        step("scene"),
        step("filter_color", 0, value="red"),
        step("filter_shape", 0, value="cube"),
        step("union", 1, 2),
        step("intersect", 1, 2),
        step("unique", 4),
        step("same_size", 5),
        step("same_shape", 5),
        step("query_color", 5),
        step("exist", 6),
        step("equal_color", 8, 8),
    ]
    found = [[0, 1, 2], [0, 2], [0, 1], [0, 1, 2], [0], [0], [1], [1], None, None, None]
    assert run_program(program, checked(SCENE)) == found


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"objects": 3}, "objects: expected a list, found int '3'"),
        ({"objects": [None]}, "objects[0]: expected an object, found nothing"),
        ({"objects": [{**SCENE["objects"][0], "color": None}]}, "objects[0].color: expected a text, found nothing"),
        (
            {"objects": [{**SCENE["objects"][0], "pixel_coords": [1]}]},
            "objects[0].pixel_coords: expected x and y, found list '[1]'",
        ),
        (
            {"objects": [{**SCENE["objects"][0], "pixel_coords": [1, "2"]}]},
            "objects[0].pixel_coords.y: expected a finite number, found str '2'",
        ),
        ({"relationships": None}, "relationships: expected an object, found nothing"),
        (
            {"relationships": {"left": [[], [], [3]]}},
            "relationships.left: expected a list of indices of objects for each of 3, found list '[[], [], [3]]'",
        ),
    ],
)
def test_bad_scenes(clevr: Callable[..., CLEVR], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        clevr("q-bs", scene={**SCENE, **change})[0]
    assert "questions.json[0]: " in str(caught.value)
    assert f"scenes.json[0]: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (7, "program[1]: expected an object, found int '7'"),
        ({"function": None}, "program[1].function: expected a text, found nothing"),
        ({"inputs": [1]}, "program[1].inputs: expected indices of earlier steps, found list '[1]'"),
        ({"inputs": []}, "program[1]: expected 1 inputs and 1 value_inputs for filter_shape, found 0 and 1"),
        ({"value_inputs": []}, "program[1]: expected 1 inputs and 1 value_inputs for filter_shape, found 1 and 0"),
        (
            {"function": "relate"},
            "relate: expected a relation of the scene, found str 'sphere'; known: front, left, right",
        ),
    ],
)
def test_bad_programs(clevr: Callable[..., CLEVR], change: Any, message: str) -> None:
    step_ = {**LEFT_OF_SPHERE[1], **change} if isinstance(change, dict) else change
    with pytest.raises(DataError) as caught:
        clevr("q-bs", {**QUESTION, "program": [LEFT_OF_SPHERE[0], step_, *LEFT_OF_SPHERE[2:]]})[0]
    assert f"questions.json[0]: {message}" in str(caught.value)


def test_bad_records(clevr: Callable[..., CLEVR]) -> None:
    with pytest.raises(
        DataError,
        match=r"questions\.json\[0\]: program\[0\]: expected a function of CLEVR, found str 'uniqe'; did you mean",
    ):
        clevr("q-bs", {**QUESTION, "program": [step("uniqe")]})[0]
    with pytest.raises(DataError, match=r"image_index: expected one of the 1 scenes of .*scenes\.json, found 3"):
        clevr("q-bs", {**QUESTION, "image_index": 3})[0]
    with pytest.raises(DataError, match=r"scenes\.json\[0\]: expected image_index 0, found another scene"):
        clevr("q-bs", scene={**SCENE, "image_index": 1})[0]
    cfg = {"type": "CLEVR", "filename": clevr("q-a").lines.path, "questions": "config/questions/vqa.json"}
    with pytest.raises(ConfigError, match=r"version: expected one of .*, found str 'q-b'; did you mean 'q-bs'"):
        DATASETS.make({**cfg, "version": "q-b"})
    with pytest.raises(ConfigError, match=r"scenes: expected .*, which version 'q-bs' needs, found nothing"):
        DATASETS.make({**cfg, "version": "q-bs"})

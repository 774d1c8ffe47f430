"""Every value inside a line of every dataset replaced by others: it is read, or a fault names the file and the line."""

from __future__ import annotations

import copy
import json
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from mllm.errors import DataError
from mllm.registry import DATASETS
from tests.fuzz.values import Place, dotted, put

WRONG = [
    7,
    -0.5,
    10**400,
    1e300,
    math.nan,
    math.inf,
    "x",
    "",
    "\ud800",
    True,
    None,
    [],
    {},
    [7],
    [None],
    ["x"],
    [["x"]],
]
WRONG += [[math.nan], [[1, 2, 3, 4]], [[1e400, 1, 1, 1]], {"a": [1]}, {"x": 1, "y": None}]
QUESTION, PHRASE = "<image> <question>", "<image> <expr>"
POOLS = {"REG": "<image> <objs>", "Moments": "<video> <expr>", "Caption": "<image>", "GroundedCaption": "<image>"}
POOLS |= {"ScienceQA": "<question>"} | dict.fromkeys(("REC", "BoxList", "HumanRef", "PointList", "ScreenSpot"), PHRASE)
SCENES = ("scene_graphs", "scenes")
"""Arguments that name a file with the scenes of the images."""
SAMPLE = 100
"""Tries that the fast test makes."""
PLAIN = ("Instruct", "TextOnly", "InstructFlamingo", "MimicIt")
"""Datasets without a pool of questions."""
BOX = [1, 2, 3, 4]
TURNS = [
    {"from": "human", "value": "<image>\nWhere <boxes>?", "boxes_seq": [[0]], "image": 0},
    {"from": "gpt", "value": "there <points>", "points_seq": [[0]]},
]
TIMED = [
    {"from": "human", "value": "<video>\nWhen?"},
    {"from": "gpt", "value": "<spans> <boxes>", "spans_seq": [[0]], "boxes_seq": [[0]]},
]
TARGET = {"boxes": [BOX], "boxes_image": [0], "points": [[1, 2]], "points_image": [0], "labels": ["x"]}
STEPS = [("scene", [], []), ("filter_color", [0], ["red"]), ("unique", [1], []), ("query_shape", [2], [])]
SOLID = {"color": "red", "shape": "cube", "size": "small", "material": "metal", "pixel_coords": [1, 5, 9.5]}
SCENE = {"image_index": 0, "image_filename": "a.png", "objects": [SOLID], "relationships": {"left": [[]]}}
GRAPH = {"width": 40, "height": 24, "objects": {"12": {"name": "sky", "x": 0, "y": 0, "w": 4, "h": 5}}}
LINES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "REC": (
        {},
        {"img_path": "a.jpg", "expression": "dog", "bbox": BOX, "width": 40, "height": 24, "group": {"a": "b"}},
    ),
    "REG": ({}, {"img_path": "a.jpg", "expression": "dog", "bbox": BOX}),
    "BoxList": ({}, {"img_path": "a.jpg", "expression": "dog", "boxes": [BOX], "labels": ["dog"]}),
    "PointList": (
        {},
        {"img_path": "a.jpg", "expression": "dog", "points": [[1, 2]], "masks": [{"size": [4, 5], "counts": [0, 20]}]},
    ),
    "Moments": (
        {},
        {"video": {"frames": ["a", "b"], "times": [0.0, 1.0]}, "expression": "it", "spans": [[0, 1]], "duration": 2.0},
    ),
    "Caption": ({}, {"img_path": "a.jpg", "caption": ["a dog"]}),
    "GroundedCaption": (
        {},
        {"image_id": "a", "sentence": "<ph_st>a dog<ph_ed> runs", "boxes": [BOX], "boxes_seq": [[0]]},
    ),
    "VQAv2": (
        {},
        {"image_path": "a.jpg", "question": "Is it?"}
        | {"annotation": {"multiple_choice_answer": "no", "answers": [{"answer": "no"}] * 3}},
    ),
    "VQAReason": (
        {"kind": "vqa_e"},
        {"file_path": "a.jpg", "question": "Is it?", "explanation": ["no", 0.5], "multiple_answers": "no"},
    ),
    "POPE": ({}, {"image": "a.jpg", "text": "Is it?", "label": "no", "category": "random"}),
    "HatefulMemes": ({}, {"img": "a.jpg", "text": "Is it?", "label": 1}),
    "OCRBench": (
        {},
        {
            "image_path": "a.jpg",
            "question": "?",
            "answers": ["no"],
            "type": "Scene Text-centric VQA",
            "dataset_name": "x",
        },
    ),
    "AOKVQA": (
        {"reason": True},
        {"image_id": 1, "question": "Is it?", "choices": ["a", "b"], "correct_choice_idx": 1}
        | {"direct_answers": ["a"] * 3, "difficult_direct_answer": False, "rationales": ["x"]},
    ),
    "AOKVQA direct": (
        {"task": "direct"},
        {
            "image_id": 1,
            "question": "Is it?",
            "choices": ["a", "b"],
            "direct_answers": ["a"] * 3,
            "difficult_direct_answer": False,
        },
    ),
    "ScienceQA": (
        {"explained": "before"},
        {
            "id": "7",
            "image": "image.png",
            "split": "val",
            "question": "Is it?",
            "choices": ["a", "b"],
            "answer": 1,
            "hint": "h",
            "lecture": "l",
        }
        | {"solution": "s", "subject": "s", "grade": "g"},
    ),
    "PointQALocal": (
        {"version": "p"},
        {"file_path": "a.jpg", "question": "Is it?", "answer": "no", "bbox": BOX, "point": [1, 2]},
    ),
    "PointQATwice": (
        {"version": "gq-p"},
        {"file_path": "a.jpg", "obj_question": "?", "super_question": "?", "general_question": "?", "answer": "no"}
        | {"bbox": BOX, "point": [1, 2]},
    ),
    "V7WPointing": (
        {"version": "b"},
        {"file_path": "a.jpg", "question": "Is it?", "candidates": [BOX, BOX, BOX], "answer": BOX} | {"point": [1, 2]},
    ),
    "VCR": (
        {"version": "qc-rac"},
        {"img_fn": "a.jpg", "boxes": [[0, 0, 9, 9, 0.9]], "question": ["Why", [0], "?"], "answer_label": 1}
        | {"answer_choices": [["He", "."], [[0], "."]], "rationale_choices": [["C"], ["D"]], "rationale_label": 0},
    ),
    "GQA": (
        {"version": "qb-bs", "scene_graphs": {"7": GRAPH}},
        {"imageId": "7", "question": "Is the sky dark?", "answer": "yes", "fullAnswer": "Yes, the sky is."}
        | {"semanticStr": "select: sky (12)->verify color: dark [0]"}
        | {"annotations": {"answer": {}, "question": {"2": "12"}, "fullAnswer": {"2": "12"}}},
    ),
    "CLEVR": (
        {"version": "q-bs", "scenes": {"scenes": [SCENE]}},
        {"image_filename": "a.png", "image_index": 0, "question": "What is it?", "answer": "cube"}
        | {"program": [{"function": name, "inputs": given, "value_inputs": values} for name, given, values in STEPS]},
    ),
    "Instruct": (
        {},
        {"image": "a.jpg", "conversations": TURNS, "target": TARGET, "expression": "it", "system": "Be kind."}
        | {"truth": {"texts": ["a"], "boxes": [0], "points": [0], "options": ["a"], "candidates": [0]}},
    ),
    "Instruct video": (
        {},
        {"video": {"folder": "frames", "fps": 1, "duration": 4.0}, "conversations": TIMED}
        | {"target": {"spans": [[0, 1]], "boxes": [BOX], "boxes_time": [2.0]}},
    ),
    "TextOnly": ({}, {"instruction": "a", "input": "b", "output": "c"}),
    "ReferentialDialogue": (
        {"version": "bc"},
        {"img_path": "a.jpg", "question": "<ph_st>a dog<ph_ed>?", "cot_with_ans": "<ph_st>a dog<ph_ed>", "answer": "no"}
        | {"boxes": [BOX], "question_boxes_seq": [[0]], "answer_boxes_seq": [[0]]},
    ),
    "InstructFlamingo": ({}, {"input": "<img_path>a.jpg<img_path> what", "output": "a"}),
    "ScreenSpot": (
        {"version": "v2"},
        {"img_filename": "a.jpg", "bbox": BOX, "instruction": "x", "data_type": "text", "data_source": "ios"},
    ),
    "HumanRef": (
        {},
        {"image_name": "a.jpg", "referring": "men", "answer_boxes": [BOX], "domain": "attribute", "sub_domain": "one"},
    ),
}


def places(value: object, place: Place = ()) -> Iterator[Place]:
    """Where anything stands in a record."""
    if place:
        yield place
    if isinstance(value, Mapping):
        for key, inner in cast("Mapping[str, object]", value).items():
            yield from places(inner, (*place, key))
    elif isinstance(value, list):
        for number, inner in enumerate(cast("list[object]", value)):
            yield from places(inner, (*place, number))


def without(record: Mapping[str, Any], place: Place) -> dict[str, Any]:
    changed: Any = copy.deepcopy(dict(record))
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    del holder[place[-1]]
    return changed


def read(folder: Path, name: str, record: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """The only item of a file with this line."""
    kind = name.split()[0]
    given: dict[str, Any] = {"type": kind, "filename": str(folder / "line.jsonl"), **arguments}
    (folder / "line.jsonl").write_text(json.dumps(record), encoding="utf-8")
    for key in SCENES:
        if key in arguments:
            given[key] = str(folder / f"{key}.json")
            (folder / f"{key}.json").write_text(json.dumps(arguments[key]), encoding="utf-8")
    if kind not in PLAIN:
        given["questions"] = str(folder / "pool.json")
        (folder / "pool.json").write_text(json.dumps([POOLS.get(kind, QUESTION)]), encoding="utf-8")
    dataset = DATASETS.build(given)
    for epoch in (None, 0):
        dataset.set_epoch(epoch)
        for index in range(len(dataset)):  # the only line may be left out
            dataset[index]


def fault(folder: Path, name: str, record: Mapping[str, Any], arguments: Mapping[str, Any], *files: str) -> str:
    """What is wrong with how a changed record is read; "" where nothing is."""
    try:
        read(folder, name, record, arguments)
    except DataError as error:
        said = str(error)
        return "" if "\n" not in said and any(file in said for file in files) else f"says {said}"
    except Exception as error:  # noqa: BLE001, whatever it is, it is a fault
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "frames").mkdir()
    for number in range(4):
        (tmp_path / "frames" / f"{number}.jpg").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tries(name: str) -> Iterator[tuple[str, Place, object]]:
    """Each place of a line and of its scene with each value; `...` takes away what stands there."""
    arguments, record = LINES[name]
    yield from ((name, place, value) for place in places(record) for value in (*WRONG, ...))
    for key in SCENES:
        if key in arguments:
            yield from ((name, (key, *place), value) for place in places(arguments[key]) for value in WRONG)


def faults(tries: Sequence[tuple[str, Place, object]], folder: Path) -> Iterator[str]:
    for name, place, value in tries:
        arguments, record = LINES[name]
        if place[0] in SCENES:
            key = str(place[0])
            changed = {**arguments, key: put(arguments[key], place[1:], value)}
            why = fault(folder, name, record, changed, f"{key}.json", "line.jsonl:1")
        else:
            changed = without(record, place) if value is ... else put(record, place, value)
            why = fault(folder, name, changed, arguments, "line.jsonl:1")
        if why:
            yield f"{name}: {dotted(place)} = {str(value)[:60]!r}: {why}"


@pytest.mark.parametrize("name", LINES)
def test_a_line_is_read(name: str, folder: Path) -> None:
    arguments, record = LINES[name]
    read(folder, name, record, arguments)


def test_a_sample_of_wrong_values_is_named(folder: Path) -> None:
    every = [found for name in LINES for found in tries(name)]
    assert not (found := list(faults(random.Random(0).sample(every, SAMPLE), folder))), "\n".join(found)


@pytest.mark.slow
@pytest.mark.parametrize("name", LINES)
def test_every_wrong_value_is_named(name: str, folder: Path) -> None:
    assert not (found := list(faults(list(tries(name)), folder))), "\n".join(found)

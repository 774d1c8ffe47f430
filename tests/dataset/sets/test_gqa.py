from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mllm.dataset.sets.gqa import GQA
from mllm.errors import ConfigError, DataError
from mllm.images import FileImage
from mllm.registry import DATASETS

QUESTION = {
    "imageId": "2370799",
    "question": "Is the sky above the man dark?",
    "answer": "yes",
    "fullAnswer": "Yes, the sky is dark.",
    "isBalanced": True,
    "semanticStr": "select: man (11)->relate: sky,above,s (12) [0]->select: dog (-) [1]->verify color: dark [1]",
    "annotations": {"answer": {}, "question": {"2": "12", "4:6": "11,13"}, "fullAnswer": {"2": "12"}},
}
SCENE: dict[str, Any] = {
    "width": 640,
    "height": 480,
    "objects": {
        "11": {"name": "man", "x": 10, "y": 20, "w": 30, "h": 40, "relations": [], "attributes": []},
        "12": {"name": "sky", "x": 0, "y": 0, "w": 640, "h": 100},
        "13": {"name": "man", "x": 10, "y": 20, "w": 30, "h": 40},
    },
}


@pytest.fixture
def gqa(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., GQA]:
    """The two public files, in their layout."""
    scenes = tmp_path / "train_sceneGraphs.json"

    def make(
        version: str, question: Any = QUESTION, name: str = "train_balanced_questions.json", scene: Any = SCENE
    ) -> GQA:
        scenes.write_text(json.dumps({"1": {"objects": {}}, "2370799": scene}))
        path = tmp_path / name
        path.write_text(json.dumps(question if name.endswith("l") else {"02930152": question}))
        return GQA(
            filename=str(path),
            questions=pool(["<image>\n<question>"]),
            version=version,
            image_folder="gqa",
            scene_graphs=str(scenes),
        )

    return make


def test_answers(gqa: Callable[..., GQA]) -> None:
    item = gqa("q-a")[0]
    assert item.images == (FileImage("gqa/2370799.jpg"),)
    assert [turn.text for turn in item.turns] == ["<image>\nIs the sky above the man dark?", "The answer is yes."]
    assert item.truth.texts == ("yes",)
    assert item.truth == gqa("q-a", name="lines.jsonl")[0].truth


def test_what_each_version_answers(gqa: Callable[..., GQA]) -> None:
    said = {version: gqa(f"q-{version}")[0].turns[1] for version in ("c", "bc", "s", "bs")}
    assert {version: turn.text for version, turn in said.items()} == {
        "c": "Yes, the sky is dark. The answer is yes.",
        "bc": "Yes, the sky<boxes> is dark. The answer is yes.",
        "s": "select: man->relate: sky,above,s [0]->select: dog [1]->verify color: dark [1]. The answer is yes.",
        "bs": "select: man<boxes>->relate: sky,above,s<boxes> [0]->select: dog [1]->verify color: dark [1]. "
        "The answer is yes.",
    }
    item = gqa("q-bs")[0]
    assert [[item.boxes[i].xyxy for i in group] for group in said["bs"].boxes_seq] == [
        [(10, 20, 40, 60)],
        [(0, 0, 640, 100)],
    ]


def test_a_question_with_boxes(gqa: Callable[..., GQA]) -> None:
    item = gqa("qb-bc")[0]
    assert item.turns[0].text == "<image>\nIs the sky<boxes> above the man<boxes> dark?"
    assert item.turns[0].boxes_seq == ((0,), (1, 1))  # two objects with one box
    assert item.turns[1].boxes_seq == ((0,),)
    dataset = gqa("qbp-a")
    drawn: set[int] = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        drawn.add(len(dataset[0].turns[0].boxes_seq))
    assert drawn == {0, 2}
    dataset.set_epoch(None)
    assert dataset[0].turns[0].boxes_seq == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"imageId": "5"}, "imageId: expected an image of "),
        (
            {"annotations": {"question": {"9": "12"}}},
            "annotations.question: expected a span of 7 words such as 2:4",
        ),
        ({"annotations": {"question": {"2": "99"}}}, "expected an object of the image's scene graph, found str '99'"),
    ],
)
def test_bad_records(gqa: Callable[..., GQA], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        gqa("qb-a", {**QUESTION, **change})[0]
    assert f"train_balanced_questions.json[0]: {message}" in str(caught.value)


@pytest.mark.parametrize(
    ("thing", "message"),
    [
        (None, "objects.12: expected an object, found nothing"),
        ({"x": 0, "y": 0, "w": "640"}, "objects.12.w: expected a finite number, found str '640'"),
        ({"x": 0, "y": float("nan")}, "objects.12.y: expected a finite number, found float 'nan'"),
        ({"x": 0}, "objects.12.y: expected a value, found nothing (the record has x)"),
    ],
)
def test_bad_scene_graphs(gqa: Callable[..., GQA], thing: Any, message: str) -> None:
    dataset = gqa("q-bc", scene={**SCENE, "objects": {**SCENE["objects"], "12": thing}})
    with pytest.raises(DataError) as caught:
        dataset[0]
    assert str(caught.value).partition("[0]: ")[2].endswith(f"train_sceneGraphs.json: 2370799.{message}")


def test_a_version_with_boxes_needs_scene_graphs(tmp_path: Path, gqa: Callable[..., GQA]) -> None:
    gqa("q-a")
    path = tmp_path / "train_balanced_questions.json"
    cfg = {"type": "GQA", "filename": str(path), "questions": str(tmp_path / "pool.json")}
    with pytest.raises(ConfigError, match=r"version: expected one of .*, found str 'q-bb'; did you mean"):
        DATASETS.make({**cfg, "version": "q-bb"})
    with pytest.raises(ConfigError, match=r"scene_graphs: expected .*, which version 'qb-a' needs, found nothing"):
        DATASETS.make({**cfg, "version": "qb-a"})

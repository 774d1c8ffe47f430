from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mllm.dataset.sets.choice import AOKVQA, ScienceQA
from mllm.errors import ConfigError, DataError
from mllm.images import FileImage
from mllm.pipeline.splits import line_of, place_of
from mllm.registry import DATASETS

# a record of aokvqa_v1p0_val.json (Apache-2.0)
CANDLE = {
    "split": "val",
    "image_id": 117425,
    "question_id": "2U3SiXdyEgJBHNThL4YbPz",
    "question": "What interests the child most here?",
    "choices": ["table", "fork", "candle", "floor"],
    "correct_choice_idx": 2,
    "direct_answers": ["candle", "cake", "candle flame"],
    "difficult_direct_answer": False,
    "rationales": ["The kid wants the candle.", "The child is looking at the flame"],
}


@pytest.fixture
def candle(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., AOKVQA]:
    def make(line: Any = CANDLE, **arguments: Any) -> AOKVQA:
        path = tmp_path / "aokvqa_v1p0_val.json"
        path.write_text(json.dumps([line]))
        return AOKVQA(filename=str(path), questions=pool(["<image>\n<question>"]), **arguments)

    return make


def test_aokvqa_choice(candle: Callable[..., AOKVQA]) -> None:
    item = candle(image_folder="coco")[0]
    assert item.images == (FileImage("coco/000000117425.jpg"),)
    assert [turn.text for turn in item.turns] == [
        "<image>\nWhat interests the child most here?\n(A) table (B) fork (C) candle (D) floor",
        "The answer is C.",
    ]
    assert item.truth.texts == ("C",)
    assert item.truth.options == ("table", "fork", "candle", "floor")


def test_aokvqa_direct_with_reason(candle: Callable[..., AOKVQA]) -> None:
    dataset = candle(task="direct", reason=True)
    assert dataset[0].turns[0].text == "<image>\nWhat interests the child most here?"
    assert dataset[0].turns[1].text == "The kid wants the candle. The answer is candle."
    assert dataset[0].truth.texts == ("candle", "cake", "candle flame")
    drawn: set[str] = set()
    for epoch in range(60):
        dataset.set_epoch(epoch)
        drawn.add(dataset[0].turns[1].text)
    assert len(drawn) == 6
    assert "The child is looking at the flame. The answer is cake." in drawn


def test_aokvqa_test_split(candle: Callable[..., AOKVQA]) -> None:
    hidden = ("correct_choice_idx", "direct_answers", "rationales")
    item = candle({name: value for name, value in CANDLE.items() if name not in hidden})[0]
    assert len(item.turns) == 1


def test_aokvqa_direct_leaves_out_the_questions_marked_difficult(
    jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]
) -> None:
    """As the public evaluation of direct answers does; the choice asks them all."""
    marks = [True, False, True, False]
    path = jsonl(*({**CANDLE, "question": f"q{n}", "difficult_direct_answer": mark} for n, mark in enumerate(marks)))
    arguments = {"filename": path, "questions": pool(["<image>\n<question>"])}
    direct = AOKVQA(task="direct", **arguments)
    assert [direct[n].turns[0].text for n in range(len(direct))] == ["<image>\nq1", "<image>\nq3"]
    assert [direct[n].key for n in range(len(direct))] == [f"{path}:2", f"{path}:4"]
    assert len(AOKVQA(task="direct", difficult=True, **arguments)) == 4
    assert len(AOKVQA(task="choice", **arguments)) == 4
    assert place_of(direct, 1) == f"{path}:4"
    found = line_of(direct, 1)
    assert found is not None
    assert (found[0]["question"], found[1]) == ("q3", f"{path}:4")
    path = jsonl(CANDLE, {**CANDLE, "difficult_direct_answer": "true"}, name="wrong.jsonl")
    with pytest.raises(DataError, match=r":2: difficult_direct_answer: expected True or False, found str 'true'"):
        AOKVQA(task="direct", **{**arguments, "filename": path})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"correct_choice_idx": 4}, "correct_choice_idx: expected an index of 4 choices, found 4"),
        ({"choices": ["a", 5]}, "choices[1]: expected a text, found int '5'"),
        ({"image_id": [1]}, "image_id: expected a whole number or a text, found list '[1]'"),
    ],
)
def test_bad_records(candle: Callable[..., AOKVQA], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        candle({**CANDLE, **change})[0]
    assert str(caught.value).endswith(f"aokvqa_v1p0_val.json[0]: {message}")


PROBLEM = {
    "question": "Which is a mammal?",
    "choices": ["a trout", "a bat"],
    "answer": 1,
    "hint": "Look at the image.",
    "image": "image.png",
    "lecture": "Mammals feed milk.",
    "solution": "A bat is a mammal",
    "split": "train",
    "subject": "natural science",
    "grade": "grade2",
}
PROBLEMS = {
    "3": PROBLEM,
    "7": {**PROBLEM, "image": None, "hint": "", "lecture": "", "solution": ""},
    "9": {**PROBLEM, "split": "test"},
}


@pytest.fixture
def science(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., ScienceQA]:
    """The two public files, in their layout."""
    (tmp_path / "problems.json").write_text(json.dumps(PROBLEMS))
    (tmp_path / "pid_splits.json").write_text(
        json.dumps({"train": ["3", "7"], "test": ["9"], "minitest": ["9"], "broken": 3})
    )

    def make(split: str | None = "train", **arguments: Any) -> ScienceQA:
        return ScienceQA(
            filename=str(tmp_path / "problems.json"),
            split=split,
            questions=pool(["<question>\nWhich?"]),
            image_folder="scienceqa",
            **{"splits": str(tmp_path / "pid_splits.json"), **arguments},
        )

    return make


def test_scienceqa(science: Callable[..., ScienceQA]) -> None:
    with_image, without = science()[0], science()[1]
    assert with_image.images == (FileImage("scienceqa/train/3/image.png"),)
    assert [turn.text for turn in with_image.turns] == [
        "<image>\nLook at the image.\nWhich is a mammal?\n(A) a trout (B) a bat\nWhich?",
        "The answer is B.",
    ]
    assert without.images == ()
    assert without.turns[0].text == "Which is a mammal?\n(A) a trout (B) a bat\nWhich?"
    assert with_image.truth.texts == ("B",)
    assert with_image.group == {"subject": "natural science", "grade": "grade2", "image": True, "hint": True}
    assert without.group == {"subject": "natural science", "grade": "grade2", "image": False, "hint": False}


def test_scienceqa_explained(science: Callable[..., ScienceQA]) -> None:
    before, after = science(explained="before"), science(explained="after")
    assert before[0].turns[1].text == "Mammals feed milk. A bat is a mammal. The answer is B."
    assert after[0].turns[1].text == "The answer is B. Mammals feed milk. A bat is a mammal"
    assert before[1].turns[1].text == "The answer is B."  # it has neither lecture nor solution


def test_scienceqa_parts(science: Callable[..., ScienceQA]) -> None:
    assert [len(science(pictures=which)) for which in ("all", "with", "without")] == [2, 1, 1]
    assert science("minitest")[0].key.endswith("problems.json[2]")
    with pytest.raises(
        ConfigError, match=r"split: expected a split of .*, found str 'minival'; known: broken, minitest, test, train"
    ):
        science("minival")
    with pytest.raises(ConfigError, match=r"expected problems of split 'test' \(pictures: without\), found none"):
        science("test", pictures="without")
    with pytest.raises(ConfigError, match="explained: expected one of 'no', 'before', 'after', found str 'befor'"):
        DATASETS.make({"type": "ScienceQA", "filename": "a", "questions": "b", "explained": "befor"})
    assert len(science(None, splits=None)) == len(PROBLEMS)
    with pytest.raises(ConfigError, match="splits, split: expected both or neither"):
        science(None)
    with pytest.raises(DataError, match=r"pid_splits\.json: broken: expected a list, found int"):
        science("broken")

from __future__ import annotations

import pickle
import subprocess
import sys
from typing import Any

import pytest

from mllm.dataset.base import Dataset
from mllm.dataset.sets.scenes import Scenes
from mllm.dataset.synthetic.expressions import WORDS, expression_kind
from mllm.dataset.synthetic.shapes import SceneImage
from mllm.errors import ConfigError
from mllm.registry import DATASETS

ALL = ("rec", "reg", "count")
POOLS = {task: f"config/questions/{task}.json" for task in ALL}


def said(dataset: Scenes, index: int, epoch: int | None = None) -> list[str]:
    dataset.set_epoch(epoch)
    return [turn.text for turn in dataset[index].turns]


def test_a_terse_question_is_the_expression_alone() -> None:
    dataset = Scenes(count=5, seed=3)
    assert isinstance(dataset, Dataset)
    assert len(dataset) == 5
    item = dataset[4]
    assert item.key == "scenes seed 3:4"
    assert item.images == (SceneImage(3, 4, 64, (2, 5)),)
    question, answer = item.turns
    assert question.text.startswith("<image>\nthe ")
    assert (answer.text, len(answer.boxes_seq)) == ("<boxes>", 1)
    assert item.truth.boxes == (item.boxes[answer.boxes_seq[0][0]],)
    with pytest.raises(IndexError, match="Scenes: item 5 of 5"):
        dataset[5]


def test_terse_words_come_from_the_vocabulary() -> None:
    dataset = Scenes(count=100, tasks=ALL, questions_per_scene=3)
    words = {word for index in range(100) for text in said(dataset, index) for word in text.split()}
    assert words <= {*" ".join(WORDS).split(), "<image>", "<boxes>"}


def test_reg_and_count() -> None:
    item = Scenes(count=1, tasks=["reg"])[0]
    assert (item.turns[0].text, len(item.turns[0].boxes_seq)) == ("<image>\n<boxes>", 1)
    assert len(item.turns[1].text.split()) == 4
    item = Scenes(count=1, tasks=["count"])[0]
    assert item.turns[0].text.startswith("<image>\nhow many ")
    assert item.truth.texts == (item.turns[1].text,)
    assert item.turns[1].text.isdigit()


def test_questions_in_whole_sentences() -> None:
    dataset = Scenes(count=30, tasks=ALL, questions=POOLS, answer="Answer: <boxes> .", questions_per_scene=2)
    first_templates = {said(dataset, index)[0].split()[1] for index in range(30)}
    assert first_templates == {"Where", "What", "How"}
    assert any(said(dataset, index)[1] == "Answer: <boxes> ." for index in range(30))
    drawn = {said(dataset, index, 0)[0].split()[1] for index in range(30)}
    assert len(drawn) > 5
    dataset = Scenes(count=1, questions=POOLS["rec"])
    assert said(dataset, 0)[0].startswith("<image>\nWhere is the ")


def test_several_questions_share_one_image_each_about_another_shape() -> None:
    dataset = Scenes(count=20, questions_per_scene=4, objects=(2, 6))
    for index in range(20):
        item = dataset[index]
        turns = min(4, len(item.boxes))
        assert len(item.turns) == 2 * turns
        assert [turn.text.count("<image>") for turn in item.turns] == [1] + [0] * (2 * turns - 1)
        assert len({turn.boxes_seq for turn in item.turns[1::2]}) == turns


def test_evaluation_is_fixed_and_training_draws() -> None:
    dataset = Scenes(count=50, tasks=ALL)
    fixed = [said(dataset, index) for index in range(50)]
    epochs = [[said(dataset, index, epoch) for index in reversed(range(50))][::-1] for epoch in (0, 1, 0)]
    assert epochs[0] == epochs[2]
    assert fixed != epochs[0] != epochs[1]
    assert [said(dataset, index) for index in range(50)] == fixed
    assert [said(Scenes(count=50, seed=1, tasks=ALL), index) for index in range(50)] != fixed


def test_the_same_in_every_process() -> None:
    code = (
        "import hashlib; from mllm.dataset.sets.scenes import Scenes; d = Scenes(count=9, tasks=['rec', 'count']); "
        "d.set_epoch(1); item = d[8]; "
        "print(item.turns, item.boxes, hashlib.sha256(item.images[0].open().tobytes()).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": hashed}, capture_output=True, text=True, check=True
        ).stdout
        for hashed in ("1", "2")
    }
    assert len(runs) == 1
    dataset = Scenes(count=9, tasks=["rec", "count"])
    dataset.set_epoch(1)
    assert str(dataset[8].turns) in runs.pop()
    assert pickle.loads(pickle.dumps(dataset))[8] == dataset[8]  # noqa: S301


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"count": 0}, "count: expected a whole number from 1 to 100,000,000, found int '0'"),
        ({"size": 31}, "size: expected a whole number from 32 to 4,096, found int '31'"),
        ({"objects": (3, 2)}, "objects: expected (fewest, most), found (3, 2)"),
        ({"objects": (1, 9)}, "objects.1: expected a whole number from 1 to 8, found int '9'"),
        ({"answer": "here"}, "answer: expected a text with <boxes> in it once, found str 'here'"),
        ({"tasks": []}, "tasks: expected a non-empty list, each one of 'rec', 'reg', 'count', found list '[]'"),
        ({"tasks": ["a"]}, "tasks.0: expected one of 'rec', 'reg', 'count', found str 'a'"),
        ({"tasks": ALL, "questions": "a"}, "questions: expected {task: pool} for 3 tasks, found str 'a'"),
        ({"questions": {"reg": "a"}}, "questions: expected one of the tasks rec, found str 'reg'; did you mean 'rec'?"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        DATASETS.make({"type": "Scenes", "count": 1, **arguments})
    assert str(caught.value) == f"dataset 'Scenes': {message}"


def test_items_are_cheap() -> None:
    """Two cores train and draw: an item with its image takes about 1,500 calls, half a millisecond."""
    dataset = Scenes(count=1000, size=64)
    dataset.set_epoch(0)
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    for index in range(100):
        dataset[index].images[0].open()
    sys.setprofile(None)
    assert calls / 100 < 2000


def test_a_referring_expression_knows_the_other_shapes_and_its_kind() -> None:
    items = Scenes(count=200, seed=3)
    kinds = set()
    for index in range(200):
        item = items[index]
        target = item.turns[-1].boxes_seq[0][0]
        assert item.truth.boxes == (item.boxes[target],)
        assert item.truth.candidates[0] == item.boxes[target]
        assert sorted(box.xyxy for box in item.truth.candidates) == sorted(box.xyxy for box in item.boxes)
        kinds.add(item.group["expression"])
    assert kinds == {"looks", "extreme", "relation"}


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        ("the large red circle", "looks"),
        ("the largest green shape", "extreme"),
        ("the circle left of the red square", "relation"),
        ("the leftmost shape", "extreme"),
        ("the shape above the largest square", "relation"),
    ],
)
def test_kind_of_an_expression(expression: str, kind: str) -> None:
    assert expression_kind(expression) == kind

"""Items behind demonstrations: which ones, in what order, and what of them an item takes on."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.few_shot import FewShot, prepend_demonstrations, shared_items
from mllm.dataset.mixing import ConcatDataset, Subset
from mllm.errors import ConfigError, DataError
from mllm.pipeline.splits import line_of
from mllm.records import read_item
from mllm.registry import DATASETS
from mllm.types import Item

SCENES: dict[str, Any] = dict(type="Scenes", size=32, objects=[2, 3])
ASKED, SHOWN = dict(SCENES, count=6, seed=2), dict(SCENES, count=40, seed=9)

Rec = Callable[..., dict[str, Any]]


@pytest.fixture
def rec(tmp_path: Path, jsonl: Callable[..., str], pool: Callable[[Sequence[Any]], str]) -> Rec:
    """A REC dataset, a line for each colour; the k-th box begins at x = k."""

    def cfg(name: str, *colours: str, folder: str = "") -> dict[str, Any]:
        images = tmp_path / (folder or name)
        images.mkdir(exist_ok=True)
        for number, colour in enumerate(colours):
            Image.new("RGB", (99, 9), colour).save(images / f"{name}{number}.png")
        lines = [
            {"img_path": f"{name}{k}.png", "expression": colour, "bbox": [k, 0, 99, 9]}
            for k, colour in enumerate(colours)
        ]
        file = jsonl(*lines, name=f"{name}.jsonl")
        return dict(type="REC", filename=file, image_folder=str(images), questions=pool(["<image>\n<expr>?"]))

    return cfg


def test_an_item_is_asked_behind_answered_ones(rec: Rec) -> None:
    few = FewShot(dataset=rec("test", "red"), demonstrations=rec("train", "blue", "green"), shots=2, seed=1)
    item = few[0]
    order = few.chosen(0)
    assert sorted(order) == [0, 1]
    colours = ["blue", "green"]
    words = [f"<image>\n{colour}?" for colour in (*(colours[number] for number in order), "red")]
    assert [turn.text for turn in item.turns[::2]] == words
    assert [box.x1 for box in item.boxes] == [*order, 0]
    assert [box.image for box in item.boxes] == [0, 1, 2]
    assert [turn.boxes_seq for turn in item.turns[1::2]] == [((0,),), ((1,),), ((2,),)]
    assert item.key.endswith("test.jsonl:1")
    assert [key[-13:] for key in item.demonstrations] == [f"train.jsonl:{number + 1}" for number in order]
    assert (item.demonstrated_images, len(item.own_images), item.answer_image) == (2, 1, 2)
    assert item.truth.boxes == (item.boxes[2],)
    assert item.truth.boxes[0].image == 2
    found = line_of(few, 0)
    assert found is not None
    assert found[0]["expression"] == "red"


def test_draws_follow_from_seed_epoch_and_index() -> None:
    few = FewShot(dataset=ASKED, demonstrations=SHOWN, shots=3)
    drawn = [few.chosen(index) for index in range(6)]
    assert len(set(map(tuple, drawn))) == 6
    assert all(len(set(each)) == 3 for each in drawn)
    assert [FewShot(dataset=ASKED, demonstrations=SHOWN, shots=3).chosen(index) for index in range(6)] == drawn
    part = Subset(dataset=few, indices=[4])
    assert part[0] == few[4]
    assert FewShot(dataset=ASKED, demonstrations=SHOWN, shots=3, seed=1).chosen(0) != drawn[0]
    few.set_epoch(0)
    assert few.chosen(0) != drawn[0]
    assert few[0].turns[0].text.startswith("<image>")
    few.set_epoch(None)
    assert few.chosen(0) == drawn[0]


def test_common_demonstrations_are_those_of_all_items() -> None:
    few = FewShot(dataset=ASKED, demonstrations=SHOWN, shots=3, choose="common")
    assert len({few[index].demonstrations for index in range(6)}) == 1
    assert few.chosen(0) != FewShot(dataset=ASKED, demonstrations=SHOWN, shots=3, choose="common", seed=1).chosen(0)


def test_without_shots_items_stay_as_they_are() -> None:
    few = FewShot(dataset=ASKED, demonstrations=ASKED, shots=0)
    plain = DATASETS.make(ASKED)
    assert [few[index] for index in range(6)] == [plain[index] for index in range(6)]


def test_text_only_demonstrations_have_no_image(rec: Rec, jsonl: Callable[..., str], pool: Callable[..., str]) -> None:
    """OpenFlamingo's zero-shot: two of them, their `<image>` taken away."""
    folder = rec("train", "red", "blue")["image_folder"]
    lines = [{"img_path": f"train{k}.png", "caption": f"A {name}."} for k, name in enumerate(("cat", "dog"))]
    shown = dict(type="Caption", filename=jsonl(*lines), image_folder=folder, questions=pool(["<image>Output:"]))
    few = FewShot(dataset=ASKED, demonstrations=shown, shots=0, text_only=2)
    item = few[0]
    assert [turn.text for turn in item.turns[:4:2]] == ["Output:", "Output:"]
    assert {turn.text for turn in item.turns[1:4:2]} == {"A cat.", "A dog."}
    assert (len(item.images), item.demonstrated_images, len(item.demonstrations)) == (1, 0, 2)
    assert item.truth == DATASETS.make(ASKED)[0].truth
    boxes = FewShot(dataset=ASKED, demonstrations=SHOWN, shots=0, text_only=1)
    with pytest.raises(DataError, match=r"scenes seed 9:\d+: text_only: expected words alone, .* found a region"):
        boxes[0]


def test_demonstrations_of_the_test_set_are_refused(rec: Rec, tmp_path: Path) -> None:
    asked, shown = rec("test", "red", "blue"), rec("train", "green", "white")
    assert shared_items(DATASETS.make(asked), DATASETS.make(shown)) == {}
    shutil.copy(tmp_path / "test" / "test1.png", tmp_path / "train" / "train0.png")
    with pytest.raises(DataError, match=r"train\.jsonl:1: demonstrations: .* found the image of .*test\.jsonl:2"):
        FewShot(dataset=asked, demonstrations=shown, shots=1)
    few = FewShot(dataset=asked, demonstrations=shown, shots=1, overlap="leave_out")
    assert [few.chosen(index) for index in range(2)] == [[1], [1]]
    with pytest.raises(ConfigError, match=r"shots: expected at most 1, the demonstrations that there are, found 2"):
        FewShot(dataset=asked, demonstrations=shown, shots=2, overlap="leave_out")
    with pytest.raises(DataError, match=r"test\.jsonl:1: demonstrations: .* found the same item"):
        FewShot(dataset=asked, demonstrations=asked, shots=1)
    same = dict(asked, filename=str(shutil.copy(asked["filename"], tmp_path / "again.jsonl")))
    with pytest.raises(DataError, match=r"again\.jsonl:1: .* found the image of .*test\.jsonl:1"):
        FewShot(dataset=asked, demonstrations=same, shots=1)


def test_texts_overlap_by_their_words(tmp_path: Path) -> None:
    lines = [{"instruction": word, "input": "", "output": word.upper()} for word in ("a", "b")]
    for name, some in (("x", lines), ("y", lines[1:])):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in some))
    x, y = (DATASETS.make(dict(type="TextOnly", filename=str(tmp_path / f"{name}.jsonl"))) for name in "xy")
    (found,) = shared_items(x, y).values()
    assert found.endswith("x.jsonl:2")
    joint = ConcatDataset(datasets=[x, DATASETS.make(ASKED)])
    assert list(shared_items(joint, y)) == [0]


def test_a_demonstration_needs_an_answer() -> None:
    question = read_item({"conversations": [{"from": "human", "value": "?"}]}, key="a:1")
    asked = DATASETS.make(ASKED)[0]
    with pytest.raises(DataError, match="a:1: expected an answer as the last turn"):
        prepend_demonstrations(asked, [question])
    assert prepend_demonstrations(question, [asked]).turns[-1].text == "?"


def test_an_item_with_several_images_is_asked_about_its_own() -> None:
    record = {"images": ["a.jpg", "b.jpg"], "conversations": [{"from": "human", "value": "<image><image> Which?"}]}
    item = prepend_demonstrations(read_item(record, key="a"), [DATASETS.make(ASKED)[0]])
    assert item.answer_image == 1


def with_system(key: str, system: str | None) -> Item:
    turns = [{"from": "human", "value": f"{key}?"}, {"from": "gpt", "value": f"{key}!"}]
    return read_item({"system": system, "conversations": turns}, key=key)


def test_an_item_keeps_its_system_message_behind_demonstrations() -> None:
    assert prepend_demonstrations(with_system("a", "Be short."), [with_system("b", None)]).system == "Be short."
    assert prepend_demonstrations(with_system("a", "Be short."), [with_system("b", "Be short.")]).system == "Be short."
    with pytest.raises(
        DataError, match=r"b: system: expected that of .* rounds .*, str 'Be short.' or none, found str 'Sing.'"
    ):
        prepend_demonstrations(with_system("a", "Be short."), [with_system("b", "Sing.")])
    with pytest.raises(DataError, match=r"b: system: expected .*, none, found str 'Sing.'"):
        prepend_demonstrations(with_system("a", None), [with_system("b", "Sing.")])

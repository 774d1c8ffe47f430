from __future__ import annotations

from dataclasses import replace

from PIL import Image

from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.detection import Detection
from mllm.metrics.outcome import ImageNames, as_record, outcome
from mllm.metrics.rec import REC
from mllm.metrics.text import ExactMatch
from mllm.records import read_item
from mllm.types import Box, GroundTruth, Item, Prediction

BOX = Box(x1=0, y1=0, x2=10, y2=10)


def item(key: str, **images: object) -> Item:
    record = {
        **images,
        "conversations": [{"from": "human", "value": "<image>" * (1 if images else 0) + "?"}],
    }
    return read_item(record, key=key)


def test_outcome_is_written_with_its_interval_and_parts() -> None:
    predictions = [
        Prediction(key="a:1", index=0, text="yes", truth=GroundTruth(texts=("yes",)), group={"kind": "cat"}),
        Prediction(key="a:2", index=1, text="no", truth=GroundTruth(texts=("yes",)), group={"kind": "dog"}),
    ]
    record = outcome(ExactMatch(), predictions, ["a", "b"]).as_json("test")
    assert (record["test_exact_match"], record["test_count"]) == (0.5, 2)
    assert record["intervals"] == {"test_exact_match": [0.0, 1.0]}
    assert record["parts"]["kind"] == [
        {"value": "cat", "count": 1, "score": 1.0, "interval": None},
        {"value": "dog", "count": 1, "score": 0.0, "interval": None},
    ]
    assert record["read_by"] == {"text": 2}


def test_image_names_are_the_same_for_items_about_the_same_image() -> None:
    name = ImageNames()
    picture = Image.new("RGB", (4, 4))
    assert name(item("a:1", image="x.jpg")) == "x.jpg"
    first = item("a:2", image=picture)
    assert name(first) == name(Item(key="a:3", images=first.images, turns=first.turns)) == "the image of a:2"
    assert name(item("a:4", image=Image.new("RGB", (4, 4)))) == "the image of a:4"
    assert name(item("a:5")) == "a:5"


def test_as_record_holds_the_score_image_labels_and_group_of_an_answer() -> None:
    prediction = Prediction(
        key="a:1",
        index=0,
        text="dog",
        boxes=(Box(x1=0, y1=0, x2=10, y2=6, label="dog"),),
        truth=GroundTruth(boxes=(BOX,)),
        group={"kind": "cat"},
        image_size=(20, 30),
    )
    record = as_record(prediction, image="x.jpg", metric=REC())
    expected = {"image": "x.jpg", "image_size": (20, 30), "score": 1.0, "iou": 0.6, "pred_labels": ["dog"]}
    assert {name: record[name] for name in expected} == expected
    assert record["group"] == {"kind": "cat"}


def test_as_record_has_no_wrong_count_where_a_list_was_asked_for() -> None:
    prediction = Prediction(key="a", index=0, text="", boxes=(BOX, BOX), truth=GroundTruth(boxes=(BOX,)))
    for metric, failure in ((REC(), "wrong_count"), (None, "wrong_count"), (BoxesF1(), None), (Detection(), None)):
        assert as_record(prediction, image="x.jpg", metric=metric)["failure"] == failure


def test_as_record_says_which_image_each_region_lies_on_where_there_are_several() -> None:
    there = replace(BOX, image=2)
    prediction = Prediction(key="a", index=0, text="", boxes=(BOX, there), truth=GroundTruth(boxes=(there, BOX)))
    record = as_record(prediction, image="x.jpg", metric=BoxesF1())
    assert (record["pred_images"], record["target_images"]) == ([0, 2], [2, 0])
    alone = replace(prediction, boxes=(there,), truth=GroundTruth(boxes=(there,)))
    assert "pred_images" not in as_record(alone, image="x.jpg", metric=BoxesF1())

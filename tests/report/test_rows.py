from __future__ import annotations

from dataclasses import replace

from PIL import Image

from mllm.records import read_item
from mllm.report.report import _entries
from mllm.report.rows import answer_rows
from mllm.types import Box, GroundTruth, Prediction
from tests.pipeline.tiny import Items


def test_rows_show_the_image_that_the_question_is_about() -> None:
    record = {
        "images": [Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9))],
        "target": {"boxes": [[0, 0, 1, 1]], "boxes_image": [1]},
        "conversations": [
            {"from": "human", "value": "<image><image>\nWhere?", "image": 1},
            {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
        ],
    }
    item = read_item(record, key="a:1")
    for truth in (item.truth, GroundTruth()):
        (row,) = answer_rows(
            [Prediction(key="a:1", index=0, text="", truth=truth)], Items([replace(item, truth=truth)]), None
        )
        assert (row.places, row.image) == ({1: (0, 0)}, item.images[1])


def test_rows_show_all_images_that_regions_lie_on() -> None:
    record = {
        "images": [Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9)), Image.new("RGB", (7, 7))],
        "target": {"boxes": [[0, 0, 1, 1], [1, 2, 3, 4]], "boxes_image": [0, 2]},
        "conversations": [
            {"from": "human", "value": "<image><image><image>\nWhere?"},
            {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0, 1]]},
        ],
    }
    item = read_item(record, key="a:1")
    prediction = Prediction(key="a:1", index=0, text="", truth=item.truth)
    (row,) = answer_rows([prediction], Items([item]), None)
    assert (list(row.places), row.image_name) == ([0, 2], "the image of a:1: images 0, 2")
    assert row.image is not None
    assert row.image.size == (8 + 8 + 8, 12 + 8)
    (shown,) = _entries([replace(row, prediction=replace(prediction, boxes=item.boxes))]).values()
    assert shown.answers[0].places == ("image 1: 0, 0, 1, 1", "image 3: 1, 2, 3, 4")
    x, y = row.places[2]
    assert [box.xyxy for box in shown.true if isinstance(box, Box)] == [
        (0, 12, 1, 13),
        (1 + x, 2 + y, 3 + x, 4 + y),
    ]

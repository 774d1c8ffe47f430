from __future__ import annotations

from dataclasses import replace

from PIL import Image

from mllm.report.rows import rows
from mllm.types import GroundTruth, Item, Prediction
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
    item = Item.from_dict(record, key="a:1")
    for truth in (item.truth, GroundTruth()):
        (row,) = rows([Prediction(key="a:1", index=0, text="", truth=truth)], Items([replace(item, truth=truth)]), None)
        assert (row.image_number, row.image) == (1, item.images[1])

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ConfigError, DataError
from mllm.metrics.point_in import PointIn
from mllm.registry import DATASETS
from mllm.types import Item, Point, Prediction

V2 = {
    "img_filename": "mobile_1.png",
    "bbox": [10, 20, 30, 40],
    "instruction": "check battery",
    "data_type": "icon",
    "data_source": "ios",
}
PRO = {
    "id": "android_studio_mac_0",
    "img_filename": "android_studio_mac/screenshot_1.png",
    "bbox": [10, 20, 40, 60],
    "img_size": [3840, 2160],
    "instruction": "run the app",
    "instruction_cn": "",
    "ui_type": "text",
    "platform": "macos",
    "application": "android_studio",
    "group": "Dev",
}


@pytest.fixture
def read(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., Item]:
    def item(line: Any, version: str) -> Item:
        path = tmp_path / "screens.json"
        path.write_text(json.dumps([line]), encoding="utf-8")
        templates = pool(["<image>\nPoint to <expr>."])
        return DATASETS.make({"type": "ScreenSpot", "version": version}, filename=str(path), questions=templates)[0]

    return item


@pytest.mark.parametrize(("line", "version"), [(V2, "v1"), (V2, "v2"), (PRO, "pro")])
def test_the_same_box_from_both_layouts(read: Callable[..., Item], line: Any, version: str) -> None:
    item = read(line, version)
    assert [box.xyxy for box in item.truth.candidates] == [(10, 20, 40, 60)]
    assert item.truth.points == (Point(x=25, y=40),)
    assert (item.turns[1].text, item.turns[1].points_seq) == ("<points>", ((0,),))


@pytest.mark.parametrize(
    ("source", "platform"), [("windows", "desktop"), ("macos", "desktop"), ("android", "mobile"), ("gitlab", "web")]
)
def test_groups_are_the_cells_of_the_tables(read: Callable[..., Item], source: str, platform: str) -> None:
    group = read({**V2, "data_source": source}, "v2").group
    assert group == {"type": "icon", "platform": platform, "cell": f"{platform} icon"}
    assert read(PRO, "pro").group == {
        "type": "text",
        "platform": "macos",
        "application": "android_studio",
        "cell": "Dev text",
    }


def test_clicks_are_scored_in_the_box(read: Callable[..., Item]) -> None:
    items = [read(V2, "v2"), read(PRO, "pro")]
    clicks = [(Point(x=40, y=60),), (Point(x=41, y=60),)]
    given = [
        Prediction(key=item.key, index=n, text="", points=points, truth=item.truth, group=item.group)
        for n, (item, points) in enumerate(zip(items, clicks, strict=True))
    ]
    scores = PointIn(group="cell")(given)
    assert (scores["accuracy/mobile icon"], scores["accuracy/Dev text"], scores["mean_accuracy"]) == (1, 0, 0.5)


def test_faults(read: Callable[..., Item]) -> None:
    with pytest.raises(DataError, match=r"bbox: expected 4 numbers, found list"):
        read({**V2, "bbox": [1, 2, "3", 4]}, "v2")
    with pytest.raises(DataError, match=r"ui_type: expected a text, found nothing"):
        read(V2, "pro")
    with pytest.raises(ConfigError, match="version"):
        read(V2, "v3")

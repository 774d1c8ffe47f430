"""Moments of videos."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from tests.tools.convert.layouts import Items, Run, Save


def frames(folder: Path, name: str, count: int) -> None:
    (folder / name).mkdir(parents=True)
    for number in range(count):
        Image.new("RGB", (8, 6)).save(folder / name / f"{name}-{number + 1:06}.jpg")


def test_charades_sta(run: Run, items: Items, tmp_path: Path) -> None:
    shown = run("moments")
    frames(tmp_path / "rgb", "V1", 3)
    (item,) = items("TG_charades_sta_test.jsonl", "Moments", "moment", image_folder=str(tmp_path / "rgb"), fps=24)
    assert [(span.start, span.end) for span in item.truth.time_spans] == [(24.3, 30.4)]
    assert (item.expression, item.duration, len(item.images)) == ("a person opens the door.", 31, 3)
    assert "spans that end before they begin" in shown


def test_activitynet_captions(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    known = {"v_a": {"duration": 9.5, "timestamps": [[0, 4.5], [4, 9.5]], "sentences": ["A man runs.", " He sits. "]}}
    run("moments", "activitynet", save("val_2.json", known))
    frames(tmp_path / "frames", "v_a", 9)
    given = {"image_folder": str(tmp_path / "frames"), "fps": 1}
    both = items("TG_activitynet_captions_val_2.jsonl", "Moments", "moment", **given)
    assert [item.expression for item in both] == ["A man runs.", "He sits."]
    assert json.dumps([[span.start, span.end] for span in both[1].truth.time_spans]) == "[[4.0, 9.5]]"

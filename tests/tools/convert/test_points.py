"""Points and counts."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ImageError
from mllm.metrics.counting import Counting
from mllm.metrics.point_in import PointIn
from mllm.types import Item, Point, Prediction
from tests.tools.convert.layouts import PIXMO, Items, JsonLines, Run, Save
from tools.convert import pixmo


def answered(item: Item, *points: tuple[float, float], text: str = "") -> Prediction:
    found = tuple(Point(x=x, y=y) for x, y in points)
    return Prediction(key=item.key, index=0, text=text, points=found, truth=item.truth, image_size=item.images[0].size)


def test_pixmo_points_are_in_pixels_and_scored_on_their_masks(run: Run, items: Items, tmp_path: Path) -> None:
    run("pixmo")
    (item,) = items("PT_pixmo_points_test.jsonl", "PointList", "point", image_folder=str(tmp_path / "pictures"))
    assert [point.xy for point in item.truth.points] == [(0.5, 0.5), (3.96, 1.5)]
    assert "black bomb" in item.turns[0].text
    metric = PointIn(rule="match")
    assert metric([answered(item, (3.5, 1.2), (1.9, 0.1))])["f1"] == 1
    scores = metric([answered(item, (3.5, 1.2), (1.9, 0.1), (2.9, 1.9))])
    assert (scores["precision"], scores["recall"]) == pytest.approx((2 / 3, 1))
    assert metric([answered(item, (2.5, 0.5))])["f1"] == 0


def test_pixmo_points_from_parquet_and_without_any_point(run: Run, items: Items, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    run("pixmo")
    nothing = {**PIXMO, "points": [], "masks": [[[False] * 4] * 2]}
    parquet.write_table(pyarrow.Table.from_pylist([PIXMO, nothing]), tmp_path / "test-00000-of-00001.parquet")
    run("pixmo", "points", str(tmp_path / "test-00000-of-00001.parquet"), "--images", str(tmp_path / "pictures"))
    pictures = str(tmp_path / "pictures")
    both = items("PT_pixmo_points_test.jsonl", "PointList", "point", image_folder=pictures)
    assert [item.truth.no_target for item in both] == [False, True]
    assert PointIn(rule="match")([answered(both[1], text="There are none.")])["no_target_acc"] == 1


def test_pixmo_counts(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("pixmo")
    row = {name: PIXMO[name] for name in ("image_url", "image_sha256")} | {
        "count": 7,
        "points": None,
        "label": "people",
    }
    table = save("validation-0.jsonl", JsonLines([row]))
    run("pixmo", "count", table, "--images", str(tmp_path / "pictures"))
    (item,) = items("CNT_pixmo_count_validation.jsonl", "Instruct", image_folder=str(tmp_path / "pictures"))
    assert item.turns[0].text.endswith("How many people are there?")
    assert Counting()([answered(item, text="I see seven people.")])["accuracy"] == 1


def test_pixmo_fetches_what_is_missing_and_counts_what_is_gone(
    run: Run, save: Save, items: Items, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run("pixmo")
    (picture,) = (tmp_path / "pictures").iterdir()
    data = picture.read_bytes()

    def fetch(url: str) -> bytes:
        if "gone" in url:
            raise ImageError("no such file", where=url)
        return data + (b" " if "other" in url else b"")

    monkeypatch.setattr(pixmo, "fetch", fetch)
    digests = [hashlib.sha256(name.encode()).hexdigest() for name in ("gone", "other")]
    rows: list[dict[str, Any]] = [PIXMO]
    for name, digest in zip(("gone", "other"), digests, strict=True):
        rows.append({**PIXMO, "image_url": f"https://x.org/{name}", "image_sha256": digest})
    shown = run("pixmo", "points", save("test-1.jsonl", JsonLines(rows)), "--images", str(tmp_path / "new"))
    assert "1  left out: images that cannot be fetched" in shown
    assert "1  left out: images that have changed" in shown
    assert [path.name for path in (tmp_path / "new").iterdir()] == [picture.name]
    assert len(items("PT_pixmo_points_test.jsonl", "PointList", "point", image_folder=str(tmp_path / "new"))) == 1


def test_pixmo_leaves_out_masks_of_another_size(run: Run, save: Save, tmp_path: Path) -> None:
    run("pixmo")
    rows = [PIXMO, {**PIXMO, "masks": [[[True] * 5] * 2] * 2}, {**PIXMO, "masks": PIXMO["masks"][:1]}]
    shown = run("pixmo", "points", save("test-1.jsonl", JsonLines(rows)), "--images", str(tmp_path / "pictures"))
    assert "1  left out: images of another size than their masks" in shown
    assert "1  left out: rows with other than one mask for each point" in shown

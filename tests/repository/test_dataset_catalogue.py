"""The named datasets and the example set: every config fits its class, and every example line reads."""

from __future__ import annotations

import ast
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.questions import Questions
from mllm.registry import DATASETS

FILES = sorted((Path(__file__).parents[2] / "config" / "catalogue").glob("*.py"))
EXAMPLES = Path("examples/coco_photos")


def constants(path: Path) -> dict[str, Any]:
    names: dict[str, Any] = {}
    exec(compile(path.read_text(), path, "exec"), names)  # noqa: S102  (as mmengine does)
    return {name: value for name, value in names.items() if not name.startswith("__")}


ALL = {name: cfg for path in FILES for name, cfg in constants(path).items()}


def test_the_catalogue_holds_literals_only() -> None:
    counted = 0
    for path in FILES:
        for statement in ast.parse(path.read_text()).body:
            assert isinstance(statement, (ast.Assign, ast.Expr)), path
        counted += len(constants(path))
    assert counted == len(ALL) > 30  # no name twice


@pytest.mark.parametrize("name", ALL)
def test_every_entry_fits_its_class(name: str) -> None:
    assert name.isupper()
    cfg = dict(ALL[name])
    signature = inspect.signature(DATASETS.find(cfg.pop("type")))
    signature.bind(**cfg)
    pools = cfg.get("questions", [])
    for pool in [pools] if isinstance(pools, str) else dict(pools).values():
        assert Path(pool).is_file()


@pytest.mark.parametrize("name", [name for name in ALL if "COCO_PHOTOS" in name or "SCENES" in name])
@pytest.mark.parametrize("epoch", [None, 0])
def test_entries_that_need_no_download_are_read(name: str, epoch: int | None) -> None:
    dataset = DATASETS.make(ALL[name])
    dataset.set_epoch(epoch)
    for index in range(min(len(dataset), 60)):
        item = dataset[index]
        width, height = item.images[0].size
        for box in item.boxes:
            assert 0 <= box.x1 < box.x2 <= width
            assert 0 <= box.y1 < box.y2 <= height
        assert item.turns[-1].role == "gpt"


def lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (EXAMPLES / name).read_text().splitlines()]


def test_the_example_set() -> None:
    train, heldout, captions = lines("train.jsonl"), lines("heldout.jsonl"), lines("captions.jsonl")
    photos = {path.name for path in (EXAMPLES / "images").iterdir()}
    in_train, in_heldout = ({line["img_path"] for line in part} for part in (train, heldout))
    assert in_train.isdisjoint(in_heldout)
    assert in_train | in_heldout == photos
    assert {line["img_path"] for line in captions} <= photos
    assert 0.15 < len(in_heldout) / len(photos) < 0.35
    for line in (*train, *heldout):
        with Image.open(EXAMPLES / "images" / line["img_path"]) as image:
            assert image.size == (line["width"], line["height"])
    attribution = (EXAMPLES / "ATTRIBUTION.md").read_text()
    for photo in photos:
        assert f"| {photo} |" in attribution
    assert sum(path.stat().st_size for path in (EXAMPLES / "images").iterdir()) < 4_000_000


def test_the_pools_ask_for_what_the_datasets_answer() -> None:
    assert "box" in Questions("config/questions/rec.json", ("<image>", "<expr>")).draw(None)

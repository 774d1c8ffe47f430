from __future__ import annotations

import io
import json
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mllm.cli import main
from mllm.metrics.detection import STATS

FILES = {7: "b.jpg", 3: "a.jpg", 12: "c.jpg"}
NAMES = {1: "dog", 18: "Traffic Light", 44: "cat"}
OBJECTS = [  # image, category, xywh
    (7, 1, [10, 10, 40, 40]),
    (7, 1, [100, 20, 50, 30]),
    (7, 18, [5, 60, 12, 30]),
    (3, 1, [0, 0, 120, 110]),
    (3, 18, [130, 5, 20, 60]),
    (12, 18, [20, 20, 20, 60]),
]
FOUND = [  # image, category, xywh, score; 12 has no box of the traffic light
    (7, 1, [12, 11, 40, 38], 0.9),
    (7, 1, [98, 25, 50, 30], 0.35),
    (7, 18, [6, 58, 12, 30], 0.8),
    (3, 1, [10, 0, 110, 110], 0.6),
    (3, 1, [60, 60, 40, 40], 0.95),
    (3, 18, [130, 9, 22, 60], 0.2),
]
Setup = Callable[[], tuple[str, str]]


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    """Writes the dataset, a line for each category of an image; the paths of config and annotations."""

    def write() -> tuple[str, str]:
        for name in FILES.values():
            Image.new("RGB", (160, 120)).save(tmp_path / name)
        lines: dict[tuple[int, int], list[list[float]]] = {}
        for image, category, (x, y, w, h) in OBJECTS:
            lines.setdefault((image, category), []).append([x, y, x + w, y + h])
        (tmp_path / "boxes.jsonl").write_text(
            "".join(
                json.dumps(
                    {
                        "img_path": FILES[image],
                        "expression": NAMES[category],
                        "boxes": boxes,
                        "labels": [NAMES[category]] * len(boxes),
                    }
                )
                + "\n"
                for (image, category), boxes in lines.items()
            )
        )
        (tmp_path / "questions.json").write_text('["<image> <expr>"]')
        dataset = {
            "type": "BoxList",
            "filename": str(tmp_path / "boxes.jsonl"),
            "image_folder": str(tmp_path),
            "questions": str(tmp_path / "questions.json"),
        }
        config, instances = tmp_path / "config.py", tmp_path / "instances.json"
        config.write_text(f"data_args = dict(test={dataset!r})\n")
        instances.write_text(json.dumps(annotations()))
        return str(config), str(instances)

    return write


def annotations(more: tuple[str, ...] = ()) -> dict[str, Any]:
    """`more`: names of images without objects, with ids from 100 on."""
    files = FILES | dict(enumerate(more, 100))
    return {
        "images": [{"id": number, "file_name": f"val2017/{name}"} for number, name in files.items()],
        "categories": [{"id": number, "name": name} for number, name in NAMES.items()],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, c, box) in enumerate(OBJECTS, 1)
        ],
    }


def results(tmp_path: Path, **changed: Any) -> str:
    """A file of results, the first one changed."""
    names = ("image_id", "category_id", "bbox", "score")
    records = [dict(zip(names, found, strict=True)) for found in FOUND]
    path = tmp_path / "found.json"
    path.write_text(json.dumps([{**records[0], **changed}, *records[1:]]))
    return str(path)


def scored(found: str, config: str, instances: str, out: Path) -> tuple[dict[str, float], dict[str, float]]:
    """Our scores, and those of pycocotools."""
    assert main(["score", found, "--data", config, "--instances", instances, "--output_dir", str(out)]) == 0
    ours = json.loads((out / "score_results.json").read_text())
    with redirect_stdout(io.StringIO()):
        truth = COCO(instances)
        theirs: Any = COCOeval(truth, truth.loadRes(found), "bbox")
        theirs.evaluate()
        theirs.accumulate()
        theirs.summarize()
    return ours, {name: value for (name, _), value in zip(STATS, theirs.stats, strict=True) if value >= 0}


def test_score_of_detections_is_that_of_pycocotools(setup: Setup, tmp_path: Path) -> None:
    config, instances = setup()
    out = tmp_path / "out"
    ours, expected = scored(results(tmp_path), config, instances, out)
    assert 0.2 < expected["ap"] < 0.8
    assert {name: ours[f"score_{name}"] for name in expected} == pytest.approx(expected)
    assert (ours["score_count"], ours["score_boxes"], ours["score_true_boxes"]) == (3, 6, 6)
    last = json.loads((out / "score_extra_prediction.jsonl").read_text().splitlines()[-1])
    assert (last["image"].rsplit("/")[-1], last["pred"]) == ("c.jpg", [])


def test_score_counts_detections_on_images_without_objects_as_false(setup: Setup, tmp_path: Path) -> None:
    config, instances = setup()
    without, _ = scored(results(tmp_path), config, instances, tmp_path / "without")
    (tmp_path / "instances.json").write_text(json.dumps(annotations(more=("d.jpg", "e.jpg"))))
    found = results(tmp_path, image_id=100, score=0.99)
    ours, expected = scored(found, config, instances, tmp_path / "out")
    assert {name: ours[f"score_{name}"] for name in expected} == pytest.approx(expected)
    assert ours["score_ap"] < without["score_ap"]
    assert (ours["score_count"], ours["score_boxes"]) == (5, 6)


def test_score_leaves_out_detections_on_images_that_the_data_does_not_ask_about(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, instances = setup()
    lines = (tmp_path / "boxes.jsonl").read_text().splitlines()
    (tmp_path / "boxes.jsonl").write_text("\n".join(line for line in lines if "a.jpg" not in line))
    assert main(["score", results(tmp_path), "--data", config, "--instances", instances]) == 0
    assert "3 boxes are left out: on 1 images whose objects the dataset does not ask for" in capsys.readouterr().out
    (tmp_path / "boxes.jsonl").write_text("\n".join(line for line in lines if "c.jpg" in line))
    assert main(["score", results(tmp_path), "--data", config, "--instances", instances]) == 1
    assert "expected boxes on the images of the data, by their ids in" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"image_id": 5}, "image_id: expected an image of the data"),
        ({"category_id": 2}, "category_id: expected a category of "),
        ({"bbox": [1, 2, 3]}, "expected 4 numbers"),
        ({"bbox": [1, 2, -3, 4]}, "expected x1 <= x2"),
        ({"score": float("nan")}, "score: expected a number, found float 'nan'"),
    ],
)
def test_score_names_a_detection_that_belongs_nowhere(
    changed: dict[str, Any], message: str, setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, instances = setup()
    found = results(tmp_path, **changed)
    assert main(["score", found, "--data", config, "--instances", instances]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "found.json" in error
    assert error.count("\n") == 1


def test_score_refuses_two_items_for_the_same_boxes(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, instances = setup()
    lines = (tmp_path / "boxes.jsonl").read_text()
    (tmp_path / "boxes.jsonl").write_text(lines + lines.splitlines()[0] + "\n")
    assert main(["score", results(tmp_path), "--data", config, "--instances", instances]) == 1
    assert "expected b.jpg: dog once, found a second item" in capsys.readouterr().err


def test_score_of_detections_names_the_options_that_it_needs(
    setup: Setup, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, instances = setup()
    found = results(tmp_path)
    assert main(["score", found, "--data", config]) == 1
    assert "expected --data and --instances for a detector's results, found no --instances" in capsys.readouterr().err
    assert main(["score", found, "--data", config, "--instances", instances, "--codec", "shikra"]) == 1
    assert "--codec: expected answers in words, found a detector's results" in capsys.readouterr().err
    texts = tmp_path / "a.txt"
    texts.write_text("a\n")
    assert main(["score", str(texts), "--data", config, "--instances", instances]) == 1
    assert "--instances: expected answers of layout 'coco_detection', found 'texts'" in capsys.readouterr().err

"""People's own boxes, each category of an image as one answer; and predictions back into their formats."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from mllm.metrics.detection import Detection
from mllm.metrics.outcome import as_record
from mllm.types import Item, Prediction
from tests.tools.convert.layouts import COCO_NAMES, PREDICTED, VOC, Items, JsonLines, Run, Save


def found(items: list[Item]) -> dict[str | None, list[tuple[float, ...]]]:
    """Boxes by category."""
    assert all(len({box.label for box in item.truth.boxes}) == 1 for item in items)
    return {item.truth.boxes[0].label: [box.xyxy for box in item.truth.boxes] for item in items}


def test_voc(run: Run, items: Items, tmp_path: Path) -> None:
    shown = run("voc")
    read = items("DET_voc.jsonl", "BoxList", "boxes")
    assert found(read) == {"dog": [(10, 20, 40, 60)], "cat": [(49.5, 0, 100, 9)]}
    assert "dog" in read[0].turns[0].text
    assert "1  left out: objects marked difficult" in shown
    run("voc", str(tmp_path / "voc"), "--difficult", "--origin", "0")
    assert found(items("DET_voc.jsonl", "BoxList", "boxes"))["dog"] == [(11, 21, 40, 60), (1, 1, 5, 5)]


def test_voc_takes_a_split(run: Run, save: Save, tmp_path: Path) -> None:
    save("voc/Annotations/a.xml", VOC)
    save("voc/Annotations/b.xml", "<a/>")
    save("voc/ImageSets/Main/val.txt", "a 1\n")
    assert "2  " in run("voc", str(tmp_path / "voc"), "--split", "val", "--name", "mine")
    assert (tmp_path / "out" / "DET_mine.jsonl").exists()


def test_voc_refuses_entities(run: Run, save: Save, tmp_path: Path) -> None:
    save("voc/a.xml", "<!DOCTYPE a [<!ENTITY b SYSTEM 'file:///etc/passwd'>]><a>&b;</a>")
    assert "expected XML without a document type" in run("voc", str(tmp_path / "voc"), status=1)


def test_yolo(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("yolo")
    expected = {"dog": [(10, 20, 40, 60)], "cat": [(10, 8, 90, 16)]}
    assert found(items("DET_pictures.jsonl", "BoxList", "boxes")) == expected
    for names in ("names: [cat, dog]\n", "names:\n  0: cat\n  1: dog\n"):
        run("yolo", str(tmp_path / "pictures"), str(tmp_path / "labels"), "--names", save("data.yaml", names))
        assert found(items("DET_pictures.jsonl", "BoxList", "boxes")) == expected


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("names: {0: cat, 2: dog}", "data.yaml: names: expected a list of texts, found dict"),
        ("nc: 2", "data.yaml: names: expected a value, found nothing"),
        ("!!python/object/apply:os.system [exit]", "data.yaml: not YAML: could not determine a constructor"),
    ],
)
def test_yolo_names_are_read_safely(run: Run, save: Save, tmp_path: Path, names: str, message: str) -> None:
    run("yolo")
    words = (str(tmp_path / "pictures"), str(tmp_path / "labels"), "--names", save("data.yaml", names))
    assert message in run("yolo", *words, status=1)


def test_labelme(run: Run, items: Items) -> None:
    shown = run("labelme")
    read = found(items("DET_labelme.jsonl", "BoxList", "boxes"))
    assert read == {"dog": [(10, 20, 40, 60), (1, 2, 9, 8)], "ball": [(45, 35, 55, 45)]}
    assert "1  left out: shapes of kind 'point'" in shown


def test_cvat(run: Run, items: Items) -> None:
    shown = run("cvat")
    read = found(items("DET_annotations.jsonl", "BoxList", "boxes"))
    assert read == {"dog": [(10, 20, 40, 60), (0, 30, 40, 50)], "cat": [(1, 2, 9, 8)]}
    assert "1  left out: elements 'points'" in shown


def test_label_studio(run: Run, items: Items) -> None:
    shown = run("label_studio")
    (item,) = items("DET_project.jsonl", "BoxList", "boxes")
    assert found([item]) == {"dog": [(20, 20, 60, 60)]}
    assert "photos/a.jpg" in str(item.images[0])
    assert "1  left out: regions of type 'choices'" in shown


def test_coco_detection(run: Run, save: Save, items: Items) -> None:
    size = {"width": 40, "height": 30}
    annotations = [
        {"id": n, "image_id": 9, "category_id": c, "bbox": box, "iscrowd": crowd}
        for n, (c, box, crowd) in enumerate(
            [(1, [0, 0, 10, 10], 0), (1, [20, 0, 30, 10], 0), (2, [0, 0, 40, 30], 0), (2, [0, 0, 9, 9], 1)], 1
        )
    ]
    categories = [{"id": 1, "name": "dog"}, {"id": 2, "name": "person"}]
    images = [{"id": 9, "file_name": "9.jpg", **size}]
    path = save("instances_val2017.json", {"images": images, "annotations": annotations, "categories": categories})
    shown = run("coco", "detection", path)
    assert found(items("DET_coco2017_val.jsonl", "BoxList", "boxes")) == {"dog": [(0, 0, 10, 10), (20, 0, 40, 10)]}
    assert "2  left out: objects of a category with a crowd in the image" in shown


def test_predictions_to_coco(run: Run, save: Save, tmp_path: Path) -> None:
    assert "1  left out: boxes without a known category" in run("predictions")
    results: Any = json.loads((tmp_path / "out" / "eval_coco.json").read_text())
    first = {"image_id": 7, "category_id": 18, "bbox": [10, 20, 30, 40], "score": 1.0}
    assert results == [first]
    lines = save("eval.jsonl", JsonLines([{**PREDICTED, "pred_scores": [0.25, None]}]))
    run("predictions", "coco", lines, "--instances", str(tmp_path / "instances.json"), "--label", "dog")
    results = json.loads((tmp_path / "out" / "eval_coco.json").read_text())
    assert results == [{**first, "score": 0.25}, {**first, "bbox": [0, 0, 50, 40]}]


def test_predictions_to_yolo_are_read_back(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("yolo")
    lines = save("eval.jsonl", JsonLines([PREDICTED, {**PREDICTED, "pred": [], "pred_labels": []}]))
    names = str(tmp_path / "names.txt")
    run("predictions", "yolo", lines, "--names", names, "--label", "cat")
    assert (tmp_path / "out" / "a.txt").read_text().splitlines()[0] == "1 0.250000 0.500000 0.300000 0.500000"
    run("yolo", str(tmp_path / "pictures"), str(tmp_path / "out"), "--names", names)
    expected = {"dog": [(10, 20, 40, 60)], "cat": [(0, 0, 50, 40)]}
    assert found(items("DET_pictures.jsonl", "BoxList", "boxes")) == expected


def test_predictions_of_a_folder_of_images(run: Run, save: Save, tmp_path: Path) -> None:
    asked = {"model": "m", "prompt": "Find the dogs."}
    record = {**asked, "image": "sub/a.jpg", "image_size": [100, 80], "text": "", "boxes": [[10, 20, 40, 60]]}
    broken = {**asked, "image": "b.jpg", "error": "not an image"}
    lines = save("answers.jsonl", JsonLines([{**record, "labels": ["dog"]}, {**record, "boxes": []}, broken]))
    shown = run("predictions", "yolo", lines, "--names", save("names.txt", "cat\ndog\n"))
    assert (tmp_path / "out" / "a.txt").read_text() == "1 0.250000 0.500000 0.300000 0.500000\n"
    assert "1  left out: images of a folder that could not be read" in shown
    lines = save("answers.jsonl", JsonLines([{**record, "labels": ["dog", "cat"]}]))
    message = "answers.jsonl:1: labels: expected 1 labels and scores, found 2 and 1"
    names = str(tmp_path / "names.txt")
    assert message in run("predictions", "yolo", lines, "--names", names, status=1)


def perfect(read: list[Item]) -> list[dict[str, Any]]:
    """Lines of predictions that equal the truth."""
    return [
        as_record(
            Prediction(
                key=item.key,
                index=index,
                text="",
                boxes=item.truth.boxes,
                truth=item.truth,
                image_size=item.images[0].size,
            ),
            image=str(item.images[0].path),  # type: ignore[attr-defined]
            metric=Detection(),
        )
        for index, item in enumerate(read)
    ]


def test_coco_to_items_to_predictions_to_coco_is_perfect(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    objects = [
        (7, 1, [10, 10, 40, 40.5]),
        (7, 1, [100, 20, 50, 30]),
        (7, 18, [5, 60, 12, 30]),
        (3, 18, [130, 5, 20, 60]),
    ]
    for number in (3, 7):
        Image.new("RGB", (160, 120)).save(tmp_path / f"{number}.jpg")
    truth = {
        "images": [{"id": number, "file_name": f"{number}.jpg", "width": 160, "height": 120} for number in (3, 7)],
        "categories": [{"id": 1, "name": "dog"}, {"id": 18, "name": "Traffic Light"}],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for n, (i, c, box) in enumerate(objects, 1)
        ],
    }
    instances = save("instances_val2017.json", truth)
    run("coco", "detection", instances)
    read = items("DET_coco2017_val.jsonl", "BoxList", "boxes", image_folder=str(tmp_path))
    lines = save("eval.jsonl", JsonLines(perfect(read)))
    run("predictions", "coco", lines, "--instances", instances)
    with redirect_stdout(io.StringIO()):
        coco = COCO(instances)
        evaluation: Any = COCOeval(coco, coco.loadRes(str(tmp_path / "out" / "eval_coco.json")), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1.0)


def test_yolo_to_items_to_predictions_to_yolo_is_the_same(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    labels = "1 0.250000 0.500000 0.300000 0.500000\n0 0.500000 0.150000 0.800000 0.100000\n"
    run("yolo")
    save("labels/a.txt", labels)
    words = [str(tmp_path / name) for name in ("pictures", "labels")]
    run("yolo", *words, "--names", str(tmp_path / "names.txt"))
    read = items("DET_pictures.jsonl", "BoxList", "boxes", image_folder=str(tmp_path / "pictures"))
    lines = save("eval.jsonl", JsonLines(perfect(read)))
    run("predictions", "yolo", lines, "--names", str(tmp_path / "names.txt"))
    assert sorted((tmp_path / "out" / "a.txt").read_text().splitlines()) == sorted(labels.splitlines())


def test_predictions_on_many_images_are_summed_up(run: Run, save: Save) -> None:
    lines = [{**PREDICTED, "image": f"{number}.jpg"} for number in range(1500)]  # more files than may be open at once
    shown = run("predictions", "yolo", save("eval.jsonl", JsonLines(lines)), "--names", save("names.txt", "dog\n"))
    assert "1500  " in shown
    assert shown.splitlines()[0].endswith("out, in 1,500 files")


def test_faults_of_predictions(run: Run, save: Save, tmp_path: Path) -> None:
    lines = save("eval.jsonl", JsonLines([PREDICTED, {**PREDICTED, "image": "other/a.jpg"}]))
    assert "--instances: expected a file, which coco needs" in run("predictions", "coco", lines, status=1)
    names = save("names.txt", "dog\n")
    message = "eval.jsonl:2: image: expected one image for a.txt, found a second, other/a.jpg"
    assert message in run("predictions", "yolo", lines, "--names", names, status=1)
    twice = {**COCO_NAMES, "images": [{"id": 7, "file_name": "a.jpg"}, {"id": 8, "file_name": "b/a.jpg"}]}
    message = "images[1]: file_name: expected a name of its own, found a second 'a.jpg'"
    assert message in run("predictions", "coco", lines, "--instances", save("i.json", twice), status=1)


def test_yolo_takes_images_in_folders_and_counts_labels_without_one(
    run: Run, save: Save, items: Items, tmp_path: Path
) -> None:
    for place in ("a.png", "sub/b.png"):
        path = tmp_path / "pictures" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (200, 100)).save(path)
    names = save("names.txt", "dog\n")
    for place in ("a", "sub/b", "c"):
        path = tmp_path / "labels" / f"{place}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("0 0.3 0.35 0.4 0.5\n")
    shown = run("yolo", str(tmp_path / "pictures"), str(tmp_path / "labels"), "--names", names)
    assert "1  left out: files of labels without an image" in shown
    lines = (tmp_path / "out" / "DET_pictures.jsonl").read_text().splitlines()
    assert [json.loads(line)["img_path"] for line in lines] == ["a.png", "sub/b.png"]
    (tmp_path / "labels" / "a.txt").write_text("0 60 35 80 50\n")
    message = run("yolo", str(tmp_path / "pictures"), str(tmp_path / "labels"), "--names", names, status=1)
    assert "a.txt:1: coordinates: expected fractions of the image, 0 to 1, found 80" in message


def test_labelme_names_images_from_where_their_file_lies(run: Run, save: Save, tmp_path: Path) -> None:
    shape = {"label": "dog", "points": [[20, 10], [100, 60]], "shape_type": "rectangle"}
    record = {"shapes": [shape], "imageWidth": 200, "imageHeight": 100}
    (tmp_path / "boxes" / "sub").mkdir(parents=True)
    for place, image in (("a", "a.jpg"), ("sub/b", "b.jpg"), ("sub/c", "..\\pictures\\c.jpg")):
        (tmp_path / "boxes" / f"{place}.json").write_text(json.dumps({**record, "imagePath": image}))
    run("labelme", str(tmp_path / "boxes"))
    lines = (tmp_path / "out" / "DET_boxes.jsonl").read_text().splitlines()
    assert [json.loads(line)["img_path"] for line in lines] == ["a.jpg", "sub/b.jpg", "pictures/c.jpg"]

"""Boxes and captions: RefCOCO, Visual Genome, Flickr30k Entities, COCO; read by the datasets they are for."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from tests.tools.convert.layouts import (
    GREF,
    GREF_INSTANCES,
    IMAGE_DATA,
    INSTANCES,
    REF,
    REF_L4,
    REFS,
    REGION,
    XML,
    Items,
    Run,
    Save,
)


@pytest.mark.parametrize("protocol", [0, 2])  # as Python 2 wrote them
def test_refcoco(run: Run, save: Save, items: Items, tmp_path: Path, protocol: int) -> None:
    save("refcoco+/instances.json", INSTANCES)
    (tmp_path / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(REFS, protocol))
    shown = run("refcoco", str(tmp_path / "refcoco+"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "REC_refcoco+_unc_testA.jsonl",
        "REC_refcoco+_unc_train.jsonl",
    ]
    (item,) = items("REC_refcoco+_unc_testA.jsonl", "REC", "rec")
    assert item.boxes[0].xyxy == pytest.approx((103.9, 300, 238.1, 480))  # cut at the edge of the image
    assert "the lady" in item.turns[0].text
    for line in (
        "         2  left out: boxes without area",
        "         2  left out: expressions without a word",
        "         1  left out: expressions whose box or image is not in instances.json",
    ):
        assert line in shown


def test_refcoco_keeps_what_a_review_finds_right(run: Run, save: Save, tmp_path: Path) -> None:
    words = ("the lady", "Her  Bag", "a man", "unseen")
    sentences = [{"sent": text} for text in words]
    save("refcoco+/instances.json", INSTANCES)
    (tmp_path / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps([{**REFS[0], "sentences": sentences}], 2))
    images = [{"id": n, "original_id": 581857, "caption": text.lower()} for n, text in enumerate(words[:3])]
    annotations = [
        {"image_id": n, "original_id": 16, "caption_quality": quality} for n, quality in enumerate((1, 1, 0))
    ]
    review = save("val.json", {"images": images, "annotations": annotations})
    shown = run("refcoco", str(tmp_path / "refcoco+"), "--reviewed", review)
    lines = (tmp_path / "out" / "REC_refcoco+_unc_testA_reviewed.jsonl").read_text().splitlines()
    assert [json.loads(line)["expression"] for line in lines] == ["the lady", "Her  Bag"]
    assert "1  left out: expressions that a review calls faulty" in shown
    assert "1  left out: expressions without a review" in shown
    annotations[0]["caption_quality"] = 2
    review = save("val.json", {"images": images, "annotations": annotations})
    shown = run("refcoco", str(tmp_path / "refcoco+"), "--reviewed", review, status=1)
    assert "annotations[0]: caption_quality: expected 0 or 1, found 2" in shown


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_hostile_pickle_runs_nothing(run: Run, save: Save, tmp_path: Path) -> None:
    save("refcoco/instances.json", INSTANCES)
    trap = tmp_path / "trap"
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([REF, Hostile(str(trap))]))
    shown = run("refcoco", str(tmp_path / "refcoco"), status=1)
    assert "refs(unc).p: not a pickle of plain values: it names posix.mkdir" in shown
    assert not trap.exists()
    assert not list((tmp_path).glob("out/*"))
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(b"not a pickle")
    assert "not a pickle of plain values" in run("refcoco", str(tmp_path / "refcoco"), status=1)


def test_visual_genome(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    regions = [{"id": 1, "regions": [REGION, {**REGION, "x": 900}, {**REGION, "image_id": 7}]}]
    files = save("region_descriptions.json", regions), save("image_data.json", IMAGE_DATA)
    shown = run("visual_genome", *files)
    (item,) = items("GC_genome_all.jsonl", "REG", "region_caption")
    assert item.turns[1].text == "the clock"
    assert item.boxes[0].xyxy == (421, 57, 503, 600)
    assert "1  left out: boxes without area in the image" in shown
    assert "1  left out: regions of an image that is not in image_data.json" in shown
    run("visual_genome", *files, "--val", save("val.txt", "1\n"))
    assert (tmp_path / "out" / "GC_genome_val.jsonl").exists()


def test_flickr30k_entities(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    shown = run("flickr30k_entities")
    (item,) = items("CWB_flickr30k_eval.jsonl", "GroundedCaption", "grounded_caption")
    assert item.turns[1].text == "A group<boxes> and a hand<boxes> near a park with it ."
    assert item.turns[1].boxes_seq == ((0, 1), (0,))
    assert [box.xyxy for box in item.boxes] == [(0, 0, 10, 20), (4, 4, 9, 9)]
    assert "1  left out: sentences without a phrase that has a box" in shown


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<xmax>10<", "<xmax>ten<", "36979.xml: bndbox.xmax: expected a whole number, found str 'ten'"),
        ("<ymin>5</ymin>", "", "36979.xml: bndbox.ymin: expected a whole number, found str ''"),
    ],
)
def test_faults_of_flickr30k_entities(run: Run, save: Save, tmp_path: Path, old: str, new: str, message: str) -> None:
    run("flickr30k_entities")
    save("flickr/Annotations/36979.xml", XML.replace(old, new))
    assert message in run("flickr30k_entities", str(tmp_path / "flickr"), "--split", "val", status=1)
    save("flickr/Annotations/36979.xml", XML.replace("<xmax>9<", "<xmax>4<"))
    shown = run("flickr30k_entities", str(tmp_path / "flickr"), "--split", "val")
    assert "1  left out: boxes with edges the wrong way round" in shown


def test_coco_captions(run: Run, save: Save, items: Items) -> None:
    found = {
        "images": [{"id": 9, "file_name": "000000000009.jpg"}],
        "annotations": [{"image_id": 9, "id": n, "caption": text} for n, text in enumerate(["A dog. ", "A pet.", " "])]
        + [{"image_id": 8, "id": 7, "caption": "Lost."}],
    }
    shown = run("coco", "captions", save("captions_val2017.json", found))
    (item,) = items("CAP_coco2017_val.jsonl", "Caption", "caption")
    assert item.truth.texts == ("A dog.", "A pet.")
    assert "1  left out: images that are not in the list of images" in shown


def test_the_only_object_of_a_category(run: Run, save: Save, items: Items) -> None:
    size = {"width": 40, "height": 30}
    box = {"image_id": 9, "iscrowd": 0, "bbox": [0, 0, 40, 30]}
    runs = [10 * 30, 30, 29 * 30]  # the 11th column, counted down the columns
    annotations = [
        {**box, "id": 1, "category_id": 1, "segmentation": [[10, 5, 30, 5, 30, 25, 10, 25]]},
        {**box, "id": 2, "category_id": 2, "segmentation": {"size": [30, 40], "counts": runs}},
        {**box, "id": 3, "category_id": 3, "segmentation": []},
        {**box, "id": 4, "category_id": 3, "segmentation": []},
        {**box, "id": 5, "category_id": 4, "iscrowd": 1, "segmentation": {"size": [30, 40], "counts": runs}},
    ]
    categories = [{"id": n, "name": name} for n, name in enumerate(["dog", "pole", "cup", "person"], 1)]
    found = {"images": [{"id": 9, "file_name": "9.jpg", **size}], "annotations": annotations, "categories": categories}
    path = save("instances_val2017.json", found)
    shown = run("coco", "instances", path, "--boxes", "masks", "--min-side", "1")
    dog, pole = items("REC_coco2017_val.jsonl", "REC", "rec")
    assert "the only dog" in dog.turns[0].text
    assert dog.boxes[0].xyxy == pytest.approx((10, 5, 30, 25))
    assert pole.boxes[0].xyxy == (10, 0, 11, 30)
    assert "2  left out: categories with several objects in an image" in shown
    annotations[0]["bbox"] = [1.1, 0, 12.2, 20]
    run("coco", "instances", save("instances_val2017.json", found))
    assert items("REC_coco2017_val.jsonl", "REC", "rec")[0].boxes[0].x2 == 13.3  # 1.1 + 12.2 is 13.299999999999999
    annotations[0]["bbox"] = box["bbox"]
    run("coco", "instances", save("instances_val2017.json", found))
    assert items("REC_coco2017_val.jsonl", "REC", "rec")[0].boxes[0].xyxy == (0, 0, 40, 30)


def test_flickr30k_phrases(run: Run, items: Items, tmp_path: Path) -> None:
    run("flickr30k_entities")
    shown = run("flickr30k_entities", str(tmp_path / "flickr"), "--split", "val", "--phrases")
    group, hand = items("PG_flickr30k_eval.jsonl", "BoxList", "boxes")
    assert "A group" in group.turns[0].text
    assert [box.xyxy for box in group.truth.boxes] == [(0, 0, 10, 20), (4, 4, 9, 9)]
    assert [box.xyxy for box in hand.truth.boxes] == [(0, 0, 10, 20)]
    assert (group.group, hand.group) == ({"type": "people"}, {"type": "people/bodyparts"})
    assert "3  left out: phrases without a box" in shown


def test_xml_with_entities_is_refused(run: Run, save: Save, tmp_path: Path) -> None:
    run("flickr30k_entities")
    bomb = '<!DOCTYPE a [<!ENTITY b "x"><!ENTITY c "&b;&b;">]>' + XML.replace("36979.jpg", "&c;")
    save("flickr/Annotations/36979.xml", bomb)
    shown = run("flickr30k_entities", str(tmp_path / "flickr"), "--split", "val", status=1)
    assert "36979.xml: expected XML without a document type, found <!DOCTYPE" in shown


def test_grefcoco(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    nothing = {**GREF, "ann_id": [-1], "category_id": [-1]}
    one = {**GREF, "ann_id": 1, "sentences": [{"sent": "left"}, {"sent": " "}]}
    save("grefcoco/grefs(unc).json", [GREF, nothing, one, {**GREF, "ann_id": [9]}, {**GREF, "image_id": 5}])
    save("grefcoco/instances.json", GREF_INSTANCES)
    shown = run("grefcoco", str(tmp_path / "grefcoco"))
    both, none, left = items("GREC_grefcoco_unc_testA.jsonl", "BoxList", "boxes")
    assert [box.xyxy for box in both.truth.boxes] == [(10, 20, 40, 60), (600.5, 400, 640, 480)]
    assert none.truth.no_target
    assert [box.xyxy for box in left.truth.boxes] == [(10, 20, 40, 60)]
    for reason in ("words", "box is not", "image is not"):
        assert f"1  left out: expressions {'without a word' if reason == 'words' else f'whose {reason}'}" in shown


def test_ref_l4_from_parquet(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    pyarrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = [REF_L4, {**REF_L4, "ori_category_id": "o365_2", "split": "test"}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "ref-l4.parquet")
    categories = save("merged.json", {"refcoco_1": "o365_1"})
    run("ref_l4", str(tmp_path / "ref-l4.parquet"), "--categories", categories)
    (item,) = items("REC_ref_l4_val.jsonl", "REC", "rec")
    assert item.truth.boxes[0].xyxy == (10.5, 20, 40.5, 60)
    assert item.group == {"category": "o365_1"}
    assert items("REC_ref_l4_test.jsonl", "REC", "rec")[0].group == {"category": "o365_2"}
    (tmp_path / "ref-l4.parquet").write_bytes(b"PAR1")
    assert "ref-l4.parquet: not a parquet table" in run("ref_l4", str(tmp_path / "ref-l4.parquet"), status=1)

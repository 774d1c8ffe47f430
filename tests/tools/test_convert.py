"""Converters on files in the layout of the public originals; what they write is read by the dataset it is for."""

from __future__ import annotations

import json
import os
import pickle
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mllm.registry import DATASETS
from mllm.types import Item
from tools.convert import (
    coco,
    conversations,
    conversion,
    flickr30k_entities,
    nlvr2,
    refcoco,
    textcaps,
    vcr,
    visual_genome,
    vqav2,
)

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a converter on files under `tmp_path`; returns what it printed."""

    def convert(module: types.ModuleType, *words: str, status: int = 0) -> str:
        argv = [*words, "--out", str(tmp_path / "out")]
        assert conversion.main(module.__doc__, module.arguments, module.convert, argv) == status
        shown = capsys.readouterr()
        return shown.err if status else shown.out

    return convert


@pytest.fixture
def save(tmp_path: Path) -> Callable[[str, Any], str]:
    def write(name: str, content: Any) -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return str(path)

    return write


def items(tmp_path: Path, name: str, kind: str, questions: str | None = None, **arguments: Any) -> list[Item]:
    pool = {} if questions is None else {"questions": str(ROOT / f"config/questions/{questions}.json")}
    dataset = DATASETS.make({"type": kind, "filename": str(tmp_path / "out" / name), **pool, **arguments})
    return [dataset[index] for index in range(len(dataset))]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))


REF = {
    "sent_ids": [0, 1],
    "file_name": "COCO_train2014_000000581857_16.jpg",
    "ann_id": 16,
    "ref_id": 0,
    "image_id": 581857,
    "split": "testA",
    "sentences": [
        {"tokens": ["the", "lady"], "raw": "the lady", "sent_id": 0, "sent": "the lady"},
        {"tokens": [], "raw": " ", "sent_id": 1, "sent": " "},
    ],
    "category_id": 1,
}
INSTANCES = {
    "images": [{"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "width": 640, "height": 480}],
    "annotations": [
        {"id": 16, "image_id": 581857, "category_id": 1, "bbox": [103.9, 300, 134.2, 200], "iscrowd": 0},
        {"id": 17, "image_id": 581857, "category_id": 1, "bbox": [10, 10, 0, 5], "iscrowd": 0},
    ],
    "categories": [{"id": 1, "name": "person"}],
}


@pytest.mark.parametrize("protocol", [0, 2])  # as Python 2 wrote them
def test_refcoco(run: Callable[..., str], save: Callable[..., str], tmp_path: Path, protocol: int) -> None:
    save("refcoco+/instances.json", INSTANCES)
    refs = [REF, {**REF, "split": "train"}, {**REF, "ann_id": 17}, {**REF, "ann_id": 99}]
    (tmp_path / "refcoco+" / "refs(unc).p").write_bytes(pickle.dumps(refs, protocol))
    shown = run(refcoco, str(tmp_path / "refcoco+"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "REC_refcoco+_unc_testA.jsonl",
        "REC_refcoco+_unc_train.jsonl",
    ]
    (item,) = items(tmp_path, "REC_refcoco+_unc_testA.jsonl", "REC", "rec")
    assert item.boxes[0].xyxy == pytest.approx((103.9, 300, 238.1, 480))  # cut at the edge of the picture
    assert "the lady" in item.turns[0].text
    for line in (
        "         2  left out: boxes without area",
        "         2  left out: expressions without a word",
        "         1  left out: expressions whose box or picture is not in instances.json",
    ):
        assert line in shown


class Hostile:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (self.path,)


def test_a_hostile_pickle_runs_nothing(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    save("refcoco/instances.json", INSTANCES)
    trap = tmp_path / "trap"
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([REF, Hostile(str(trap))]))
    shown = run(refcoco, str(tmp_path / "refcoco"), status=1)
    assert "refs(unc).p: not a pickle of plain values: it names posix.mkdir" in shown
    assert not trap.exists()
    assert not list((tmp_path).glob("out/*"))
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(b"not a pickle")
    assert "not a pickle of plain values" in run(refcoco, str(tmp_path / "refcoco"), status=1)


def test_visual_genome(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    region = {"region_id": 1382, "width": 82, "height": 700, "image_id": 1, "phrase": "the clock ", "y": 57, "x": 421}
    regions = [{"id": 1, "regions": [region, {**region, "x": 900}, {**region, "image_id": 7}]}]
    picture = {
        "image_id": 1,
        "width": 800,
        "height": 600,
        "url": "https://cs.stanford.edu/people/rak248/VG_100K_2/1.jpg",
    }
    files = save("region_descriptions.json", regions), save("image_data.json", [picture])
    shown = run(visual_genome, *files)
    (item,) = items(tmp_path, "GC_genome_all.jsonl", "REG", "region_caption")
    assert item.turns[1].text == "the clock"
    assert item.boxes[0].xyxy == (421, 57, 503, 600)
    assert "1  left out: boxes without area in the picture" in shown
    assert "1  left out: regions of a picture that is not in image_data.json" in shown
    run(visual_genome, *files, "--val", save("val.txt", "1\n"))
    assert (tmp_path / "out" / "GC_genome_val.jsonl").exists()


XML = """<annotation><filename>36979.jpg</filename>
<object><name>1</name><name>2</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
<object><name>3</name><nobndbox>1</nobndbox></object></annotation>"""


def test_flickr30k_entities(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    save("flickr/Annotations/36979.xml", XML)
    save(
        "flickr/Sentences/36979.txt",
        "[/EN#1/people A group] and [/EN#2/people/bodyparts a hand] near [/EN#3/scene a park] "
        "with [/EN#0/notvisual it] .\n"
        "[/EN#3/scene A park] .\n",
    )
    save("flickr/val.txt", "36979\n")
    shown = run(flickr30k_entities, str(tmp_path / "flickr"), "--split", "val")
    (item,) = items(tmp_path, "CWB_flickr30k_eval.jsonl", "GroundedCaption", "grounded_caption")
    assert item.turns[1].text == "A group<boxes> and a hand<boxes> near a park with it ."
    assert item.turns[1].boxes_seq == ((0, 1), (0,))
    assert [box.xyxy for box in item.boxes] == [(0, 0, 10, 20), (4, 4, 9, 9)]
    assert "1  left out: sentences without a phrase that has a box" in shown


def test_coco_captions(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    found = {
        "images": [{"id": 9, "file_name": "000000000009.jpg"}],
        "annotations": [{"image_id": 9, "id": n, "caption": text} for n, text in enumerate(["A dog. ", "A pet.", " "])]
        + [{"image_id": 8, "id": 7, "caption": "Lost."}],
    }
    shown = run(coco, "captions", save("captions_val2017.json", found))
    (item,) = items(tmp_path, "CAP_coco_val2017.jsonl", "Caption", "caption")
    assert item.truth.texts == ("A dog.", "A pet.")
    assert "1  left out: pictures that are not in the list of images" in shown


def test_the_only_object_of_a_category(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
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
    shown = run(coco, "instances", path, "--boxes", "masks", "--min-side", "1")
    dog, pole = items(tmp_path, "REC_coco_val2017.jsonl", "REC", "rec")
    assert "the only dog" in dog.turns[0].text
    assert dog.boxes[0].xyxy == pytest.approx((10, 5, 30, 25))
    assert pole.boxes[0].xyxy == (10, 0, 11, 30)
    assert "2  left out: categories with several objects in a picture" in shown
    run(coco, "instances", path)
    assert items(tmp_path, "REC_coco_val2017.jsonl", "REC", "rec")[0].boxes[0].xyxy == (0, 0, 40, 30)


def test_vqav2(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    asked = [{"image_id": 458752, "question": "What is this?", "question_id": n} for n in (458752000, 458752001)]
    annotation = {"question_id": 458752000, "multiple_choice_answer": "net", "answers": [{"answer": "net"}] * 10}
    questions = save("v2_q.json", {"data_subtype": "train2014", "questions": asked})
    shown = run(vqav2, questions, "--annotations", save("v2_a.json", {"annotations": [annotation]}))
    (item,) = items(tmp_path, "v2_q.jsonl", "VQAv2", "vqa", image_folder="coco")
    assert str(item.images[0]) == "FileImage(path='coco/COCO_train2014_000000458752.jpg')"
    assert len(item.truth.texts) == 10
    assert "1  left out: questions without annotation" in shown
    save("v2_q.json", {"data_subtype": "test-dev2015", "questions": asked})
    run(vqav2, questions)
    test = items(tmp_path, "v2_q.jsonl", "VQAv2", "vqa")
    assert len(test) == 2
    assert "COCO_test2015_000000458752.jpg" in str(test[0].images[0])


def test_vcr(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    record = {
        "img_fn": "lsmdc_1/a.jpg",
        "metadata_fn": "lsmdc_1/a.json",
        "objects": ["person", "dog"],
        "question": ["Why", "is", [0], "here", "?"],
        "answer_choices": [["A", "."], [[1], "."]],
        "answer_label": 1,
        "rationale_choices": [["B", "."], ["C", "."]],
        "rationale_label": 0,
    }
    hidden = {name: value for name, value in record.items() if not name.endswith("_label")}
    save("vcr1images/lsmdc_1/a.json", {"boxes": [[0, 0, 9, 9, 0.9], [1, 1, 2, 2, 0.8]], "names": record["objects"]})
    lost = {**record, "metadata_fn": "lsmdc_1/b.json"}
    path = save("val.jsonl", "\n".join(json.dumps(one) for one in (record, hidden, lost)))
    shown = run(vcr, path, str(tmp_path / "vcr1images"))
    (item,) = items(tmp_path, "vcr_val.jsonl", "VCR", "vqa")
    assert item.turns[0].boxes_seq == ((0,), (1,))
    assert "1  left out: questions without answer (a test split)" in shown
    assert "1  left out: questions whose file of boxes is missing" in shown
    path = save("train.jsonl", json.dumps({**record, "metadata_fn": "../../etc/passwd"}))
    assert "metadata_fn: expected a file under" in run(vcr, path, str(tmp_path / "vcr1images"), status=1)


def test_textcaps(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    data = [{"image_id": "0054c", "caption_str": text} for text in ("A bus 12.", "A red bus.", "")]
    shown = run(textcaps, save("TextCaps_0.1_val.json", {"data": data}))
    (item,) = items(tmp_path, "CAP_textcaps_val.jsonl", "Caption", "caption")
    assert item.truth.texts == ("A bus 12.", "A red bus.")
    assert "1  left out: records without a caption" in shown


def test_nlvr2(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    record = {"identifier": "train-10171-0-0", "sentence": "Two dogs.", "label": "False", "directory": 39}
    run(nlvr2, save("train.json", json.dumps(record) + "\n"))
    (item,) = items(tmp_path, "nlvr2_train.jsonl", "InstructFlamingo", image_folder="nlvr2")
    assert [str(ref) for ref in item.images] == [
        f"FileImage(path='nlvr2/images/train/39/train-10171-0-img{side}.png')" for side in (0, 1)
    ]
    assert item.turns[1].text == "false"


def test_conversations(run: Callable[..., str], save: Callable[..., str], tmp_path: Path) -> None:
    lrv = [{"image_id": "2", "question": "Is it wet?", "answer": "Yes.", "task": "x"}, {"image_id": "3"}]
    pictures = save("image_data.json", [{"image_id": 2, "url": "https://x/VG_100K/2.jpg"}])
    shown = run(conversations, "lrv", save("filter_cap.json", lrv), "--images", pictures)
    (item,) = items(tmp_path, "lrv_filter_cap.jsonl", "Instruct")
    assert [turn.text for turn in item.turns] == ["<image>\nIs it wet?", "Yes."]
    assert "1  left out: records of a picture that is not in image_data.json" in shown

    turns = [{"from": "user", "value": "Who?"}, {"from": "gpt", "value": "A man."}]
    svit = [{"image_id": 2, "conversations": [{"content": turns, "name": "a"}, {"content": turns[:1], "name": "b"}]}]
    shown = run(conversations, "svit", save("conversation.json", svit))
    (item,) = items(tmp_path, "svit_conversation.jsonl", "Instruct")
    assert item.turns[1].text == "A man."
    assert "1  left out: conversations that end with a question" in shown

    talks: list[Any] = [
        [{"from": "system", "value": "Be kind."}, *turns],
        [*turns, turns[1]],
        [{"from": "bard", "value": "x"}],
        [turns[0], {"from": "gpt", "value": ""}],
        [{"from": "human", "value": "<image>?"}, turns[1]],
        [],
    ]
    shown = run(conversations, "sharegpt", save("sharegpt.json", [{"conversations": talk} for talk in talks]))
    (item,) = items(tmp_path, "sharegpt_sharegpt.jsonl", "Instruct")
    assert item.turns[0].text == "Be kind.\n\nWho?"
    assert item.images == ()
    assert shown.count("1  left out: ") == 5


def test_a_run_that_breaks_off_leaves_the_files_of_the_one_before(
    run: Callable[..., str], save: Callable[..., str], tmp_path: Path
) -> None:
    good = {"data": [{"image_id": "a", "caption_str": "A bus."}]}
    path = save("TextCaps_0.1_val.json", good)
    assert run(textcaps, path) == run(textcaps, path)  # and it may be run again
    before = (tmp_path / "out" / "CAP_textcaps_val.jsonl").read_text()
    record = {"identifier": "dev-1-0-0", "sentence": "x", "label": "True"}
    broken = save("dev.json", "\n".join(json.dumps(one) for one in (record, {**record, "label": "maybe"})))
    assert "label: expected True or False, found 'maybe'" in run(nlvr2, broken, status=1)
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["CAP_textcaps_val.jsonl"]
    assert (tmp_path / "out" / "CAP_textcaps_val.jsonl").read_text() == before
    nothing = run(textcaps, save("TextCaps_0.1_test.json", {"data": [{"image_id": "a"}]}), status=1)
    assert "nothing to write (1 records without a caption)" in nothing


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "TextCaps_0.1_val.json: not JSON: "),
        ("[]", "TextCaps_0.1_val.json: expected a dict, found list"),
        ("{}", "TextCaps_0.1_val.json: expected a field 'data', found none"),
        ('{"data": [{"caption_str": "x"}]}', "TextCaps_0.1_val.json: expected a field 'image_id', found caption_str"),
    ],
)
def test_files_of_another_layout(run: Callable[..., str], save: Callable[..., str], content: str, message: str) -> None:
    assert message in run(textcaps, save("TextCaps_0.1_val.json", content), status=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": [{"id": 581857, "file_name": "a.jpg", "width": 640}]}, "instances.json: expected a field 'height'"),
        ({"annotations": [{"id": 16, "bbox": [1, 2, 3]}]}, "a box: expected 4 numbers, found [1, 2, 3]"),
        ({"annotations": [{"id": 16, "bbox": None}]}, "instances.json: bbox: expected list, found None"),
    ],
)
def test_bad_records_are_named(
    run: Callable[..., str], save: Callable[..., str], tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    save("refcoco/instances.json", {**INSTANCES, **change})
    (tmp_path / "refcoco" / "refs(unc).p").write_bytes(pickle.dumps([REF], 2))
    assert message in run(refcoco, str(tmp_path / "refcoco"), status=1)

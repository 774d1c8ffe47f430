"""Small files in the layout of the public originals, one set for each converter."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from mllm.types import Item

Run = Callable[..., str]
Save = Callable[[str, Any], str]
Items = Callable[..., list[Item]]
"""The fixtures of conftest.py."""


class JsonLines(list[Any]):
    """Objects of a file with one a line."""


@dataclass(frozen=True)
class Layout:
    """The files of a source, and the words of the command line, where a file is called by its name."""

    files: dict[str, Any]
    words: tuple[str, ...]


def write(folder: Path, files: dict[str, Any]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, bytes):
            path.write_bytes(content)
        elif isinstance(content, str):
            path.write_text(content, encoding="utf-8")
        elif isinstance(content, JsonLines):
            path.write_text("".join(json.dumps(line) + "\n" for line in content), encoding="utf-8")
        else:
            path.write_text(json.dumps(content), encoding="utf-8")


def image(colour: str, kind: str = "jpeg") -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (8, 6), colour).save(file, kind)
    return file.getvalue()


def talk(*values: str, roles: tuple[str, str] = ("human", "gpt")) -> list[dict[str, str]]:
    return [{"from": roles[number % 2], "value": value} for number, value in enumerate(values)]


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
REFS = [REF, {**REF, "split": "train"}, {**REF, "ann_id": 17}, {**REF, "ann_id": 99}]

XML = """<annotation><filename>36979.jpg</filename>
<object><name>1</name><name>2</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>10</xmax><ymax>20</ymax></bndbox></object>
<object><name>1</name><bndbox><xmin>5</xmin><ymin>5</ymin><xmax>9</xmax><ymax>9</ymax></bndbox></object>
<object><name>3</name><nobndbox>1</nobndbox></object></annotation>"""
SENTENCES = (
    "[/EN#1/people A group] and [/EN#2/people/bodyparts a hand] near [/EN#3/scene a park] with [/EN#0/notvisual it] .\n"
    "[/EN#3/scene A park] .\n"
)

VG = "https://cs.stanford.edu/people/rak248"
IMAGE_DATA = [
    {"image_id": 1, "width": 800, "height": 600, "url": f"{VG}/VG_100K_2/1.jpg", "coco_id": None, "flickr_id": None},
    {"image_id": 2, "width": 400, "height": 300, "url": f"{VG}/VG_100K/2.jpg", "coco_id": 9, "flickr_id": 5},
]
REGION = {"region_id": 1382, "width": 82, "height": 700, "image_id": 1, "phrase": "the clock ", "y": 57, "x": 421}

QUESTION = {"image_id": 458752, "question": "What is this?", "question_id": 458752000}
ANNOTATION = {
    "question_id": 458752000,
    "image_id": 458752,
    "question_type": "what is this",
    "answer_type": "other",
    "multiple_choice_answer": "net",
    "answers": [{"answer": "net", "answer_confidence": "maybe", "answer_id": 1}] * 10,
}

OKVQA = {
    "image_id": 297147,
    "answer_type": "other",
    "question_type": "four",
    "question_id": 2971475,
    "answers": [
        {"answer_id": n, "raw_answer": raw, "answer_confidence": "yes", "answer": answer}
        for n, (raw, answer) in enumerate([("race", "race")] * 4 + [("riding", "ride")] * 6, 1)
    ],
    "confidence": 3,
}
TEXTVQA = {
    "question": "what is the brand of this camera?",
    "image_id": "003a8ae2ef43b901",
    "image_classes": ["Cassette deck", "Printer"],
    "flickr_original_url": "https://x.org/a.jpg",
    "image_width": 1024,
    "image_height": 664,
    "answers": ["nous les gosses", *["dakota"] * 8, "clos culombu"],
    "question_id": 34602,
    "set_name": "val",
}
ROSETTA = {"image_id": "003a8ae2ef43b901", "ocr_tokens": ["DAKOTA", "DIGITAL"], "ocr_info": []}
VIZWIZ = {
    "answerable": 1,
    "image": "VizWiz_val_00000000.jpg",
    "question": "Ok. There is another picture I hope it is a better one.",
    "answer_type": "unanswerable",
    "answers": [{"answer": answer, "answer_confidence": "yes"} for answer in ["unanswerable"] * 7 + ["its foggy"] * 3],
}
KARPATHY = {
    "filepath": "val2014",
    "sentids": [770337, 771687],
    "filename": "COCO_val2014_000000391895.jpg",
    "imgid": 0,
    "split": "test",
    "sentences": [
        {"tokens": ["a", "man"], "raw": "A man with a red helmet. ", "imgid": 0, "sentid": 770337},
        {"tokens": ["a", "man"], "raw": "Man riding a motor bike.", "imgid": 0, "sentid": 771687},
    ],
    "cocoid": 391895,
}
SYNSETS = "n01440764 tench, Tinca tinca\nn02012849 crane\nn03126707 crane\n"

VCR = {
    "img_fn": "lsmdc_1/a.jpg",
    "metadata_fn": "lsmdc_1/a.json",
    "objects": ["person", "dog"],
    "question": ["Why", "is", [0], "here", "?"],
    "answer_choices": [["A", "."], [[1], "."]],
    "answer_label": 1,
    "rationale_choices": [["B", "."], ["C", "."]],
    "rationale_label": 0,
}

CAPTION = {
    "caption_id": 0,
    "image_id": "0054c91397f2fe05",
    "caption_str": "A bus 12.",
    "caption_tokens": ["a", "bus", "12"],
    "reference_strs": ["A bus 12.", "A red bus."],
    "image_classes": ["Bus"],
    "image_width": 1024,
    "image_height": 768,
    "image_name": "0054c91397f2fe05",
    "image_path": "train/0054c91397f2fe05.jpg",
    "set_name": "train",
}

NLVR2 = {
    "validation": {"77": "True"},
    "sentence": "Two dogs.",
    "left_url": "https://x.org/1.jpg",
    "right_url": "https://x.org/2.jpg",
    "writer": "103",
    "label": "False",
    "synset": "beer bottle",
    "query": "some beer bottles2",
    "identifier": "train-10171-0-0",
    "directory": 39,
}

AOKVQA = {
    "split": "train",
    "image_id": 299207,
    "question_id": "22MexNkBPpdZGX6sxbxVBH",
    "question": "What is the man waiting for?",
    "choices": ["skateboard", "cab"],
    "correct_choice_idx": 1,
    "direct_answers": ["ride", "bus", "taxi"],
    "difficult_direct_answer": False,
    "rationales": ["A train would not be on the street.", "He waits for a cab."],
}
AOKVQA_TEST = {
    name: AOKVQA[name]
    for name in ("split", "image_id", "question_id", "question", "choices", "difficult_direct_answer")
}

PROBLEM = {
    "question": "Which is farthest north?",
    "choices": ["Ohio", "Utah"],
    "answer": 0,
    "hint": "",
    "image": "image.png",
    "task": "closed choice",
    "grade": "grade2",
    "subject": "social science",
    "topic": "geography",
    "category": "Geography",
    "skill": "Read a map: cardinal directions",
    "lecture": "Maps have four directions.",
    "solution": "Look at the map.",
    "split": "train",
}

GQA = {
    "semantic": [{"operation": "select", "dependencies": [], "argument": "wall (722)"}],
    "entailed": [],
    "equivalent": ["02930152"],
    "question": "Is the wall white?",
    "imageId": "2354786",
    "isBalanced": True,
    "groups": {"global": None, "local": "06-wall"},
    "answer": "yes",
    "semanticStr": "select: wall (722)->verify color: white [0]",
    "annotations": {"answer": {}, "question": {"2": "722"}, "fullAnswer": {"2": "722"}},
    "types": {"detailed": "verify", "semantic": "attr", "structural": "verify"},
    "fullAnswer": "Yes, the wall is white.",
}

VQA_E = {
    "img_id": 9,
    "question": "Is it wet?",
    "question_type": "is it",
    "answer_type": "yes/no",
    "multiple_choice_answer": "yes",
    "explanation": ["It has rained", 0.8],
}

LLAVA = {"id": "000000033471", "image": "000000033471.jpg", "conversations": talk("What is it?\n<image>", "A bus.")}
LRV = {"image_id": "2", "question": "Is it wet?", "answer": "Yes.", "task": "negative"}
SVIT_ROLES = ("user", "gpt")
SVIT = {
    "image_id": 2,
    "conversations": [
        {"content": talk("Who?", "A man.", "Why?", "He can.", roles=SVIT_ROLES), "name": "people"},
        {"content": talk("Who?", roles=SVIT_ROLES), "name": "cut"},
    ],
}

MIMIC_IT = {
    "meta": {"version": "0.0.1", "time": "2023-06", "author": "x"},
    "data": {
        "DC_INS_0": {"instruction": "Who?", "answer": "A dog.", "image_ids": ["DC_IMG_0"], "rel_ins_ids": []},
        "DC_INS_1": {
            "instruction": "Where?",
            "answer": "In town.",
            "image_ids": ["DC_IMG_1", "DC_IMG_2"],
            "rel_ins_ids": ["DC_INS_0"],
        },
    },
}
MIMIC_IT_IMAGES = {
    f"DC_IMG_{number}": base64.urlsafe_b64encode(image(colour, kind)).decode()
    for number, (colour, kind) in enumerate([("red", "jpeg"), ("green", "png"), ("blue", "jpeg")])
}


def _png(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (width, height)).save(data, "png")
    return data.getvalue()


GREF = {
    "image_id": 581857,
    "split": "testA",
    "sentences": [{"tokens": ["both"], "raw": "Both", "sent_id": 0, "sent": "both"}],
    "file_name": "COCO_train2014_000000581857_16.jpg",
    "category_id": [1, 1],
    "ann_id": [1, 2],
    "sent_ids": [0],
    "ref_id": 0,
}
GREF_INSTANCES = {
    "images": [{"id": 581857, "file_name": "COCO_train2014_000000581857.jpg", "width": 640, "height": 480}],
    "annotations": [
        {"id": 1, "image_id": 581857, "category_id": 1, "bbox": [10, 20, 30, 40]},
        {"id": 2, "image_id": 581857, "category_id": 1, "bbox": [600.5, 400, 50, 90]},
    ],
}
REF_L4 = {
    "id": "000000",
    "caption": "The man with the hat.",
    "bbox": [10.5, 20, 30, 40],
    "bbox_area": 1200,
    "bbox_id": 7,
    "ori_category_id": "refcoco_1",
    "image_id": 3,
    "height": 480,
    "width": 640,
    "file_name": "objects365_v2_1.jpg",
    "is_rewrite": False,
    "split": "val",
}

VOC = """<annotation><filename>a.jpg</filename><size><width>100</width><height>80</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>11</xmin><ymin>21</ymin><xmax>40</xmax><ymax>60</ymax></bndbox></object>
<object><name>dog</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>5</xmax><ymax>5</ymax></bndbox></object>
<object><name>cat</name><bndbox><xmin>50.5</xmin><ymin>1</ymin><xmax>200</xmax><ymax>9</ymax></bndbox></object>
</annotation>"""
LABELME = {
    "version": "5.0.1",
    "shapes": [
        {"label": "dog", "points": [[40, 60], [10, 20]], "shape_type": "rectangle"},
        {"label": "dog", "points": [[1, 2], [9, 2], [5, 8]], "shape_type": "polygon"},
        {"label": "ball", "points": [[50, 40], [53, 44]], "shape_type": "circle"},
        {"label": "nose", "points": [[5, 5]], "shape_type": "point"},
    ],
    "imagePath": "a.jpg",
    "imageData": None,
    "imageHeight": 80,
    "imageWidth": 100,
}
CVAT = """<annotations><version>1.1</version><image id="0" name="a.jpg" width="100" height="80">
<box label="dog" xtl="10" ytl="20" xbr="40" ybr="60" occluded="0"><attribute name="age">2</attribute></box>
<box label="dog" xtl="10" ytl="20" xbr="30" ybr="60" rotation="90"/>
<polygon label="cat" points="1,2;9,2;5,8"/><points label="nose" points="5,5"/></image></annotations>"""
LABEL_STUDIO = {
    "id": 1,
    "data": {"image": "/data/local-files/?d=photos/a.jpg"},
    "annotations": [
        {"was_cancelled": True, "result": []},
        {
            "was_cancelled": False,
            "result": [
                {
                    "type": "rectanglelabels",
                    "original_width": 200,
                    "original_height": 80,
                    "value": {"x": 10, "y": 25, "width": 20, "height": 50, "rotation": 0, "rectanglelabels": ["dog"]},
                },
                {"type": "choices", "value": {"choices": ["good"]}},
            ],
        },
    ],
}
PREDICTED = {
    "key": "a:1",
    "index": 0,
    "image": "images/a.jpg",
    "image_size": [100, 80],
    "text": "",
    "pred": [[10, 20, 40, 60], [0, 0, 50, 40]],
    "pred_labels": ["dog", None],
}
COCO_NAMES = {"images": [{"id": 7, "file_name": "a.jpg"}], "categories": [{"id": 18, "name": "dog"}]}

PIXMO = {
    "image_url": "https://x.org/a.png",
    "image_sha256": hashlib.sha256(_png(4, 2)).hexdigest(),
    "label": "black bomb",
    "points": [{"x": 12.5, "y": 25.0}, {"x": 99.0, "y": 75.0}],
    "masks": [[[True, True, False, False], [False] * 4], [[False] * 4, [False, False, False, True]]],
}

LAYOUTS = {
    "voc": Layout({"voc/Annotations/a.xml": VOC}, ("voc",)),
    "yolo": Layout(
        {
            "pictures/a.png": _png(100, 80),
            "labels/a.txt": "1 0.25 0.5 0.3 0.5\n0 0.1 0.1 0.9 0.1 0.5 0.2\n",
            "names.txt": "cat\ndog\n",
        },
        ("pictures", "labels", "--names", "names.txt"),
    ),
    "labelme": Layout({"labelme/a.json": LABELME}, ("labelme",)),
    "cvat": Layout({"annotations.xml": CVAT}, ("annotations.xml",)),
    "label_studio": Layout({"project.json": [LABEL_STUDIO]}, ("project.json",)),
    "predictions": Layout(
        {"eval.jsonl": JsonLines([PREDICTED]), "instances.json": COCO_NAMES},
        ("coco", "eval.jsonl", "--instances", "instances.json"),
    ),
    "grefcoco": Layout({"grefcoco/grefs(unc).json": [GREF], "grefcoco/instances.json": GREF_INSTANCES}, ("grefcoco",)),
    "pixmo": Layout(
        {"test-0.jsonl": JsonLines([PIXMO]), f"pictures/{PIXMO['image_sha256']}.png": _png(4, 2)},
        ("points", "test-0.jsonl", "--images", "pictures"),
    ),
    "ref_l4": Layout({"ref-l4-val.jsonl": JsonLines([REF_L4])}, ("ref-l4-val.jsonl",)),
    "refcoco": Layout(
        {"refcoco+/instances.json": INSTANCES, "refcoco+/refs(unc).p": pickle.dumps(REFS, 2)}, ("refcoco+",)
    ),
    "visual_genome": Layout(
        {"region_descriptions.json": [{"id": 1, "regions": [REGION]}], "image_data.json": IMAGE_DATA},
        ("region_descriptions.json", "image_data.json"),
    ),
    "flickr30k_entities": Layout(
        {
            "flickr/Annotations/36979.xml": XML,
            "flickr/Sentences/36979.txt": SENTENCES,
            "flickr/val.txt": "36979\n",
        },
        ("flickr", "--split", "val"),
    ),
    "coco": Layout(
        {"instances_val2014.json": {**INSTANCES, "annotations": INSTANCES["annotations"][:1]}},
        ("instances", "instances_val2014.json"),
    ),
    "vqav2": Layout(
        {
            "v2_q.json": {"data_subtype": "train2014", "questions": [QUESTION, {**QUESTION, "question_id": 458752001}]},
            "v2_a.json": {"data_subtype": "train2014", "annotations": [ANNOTATION]},
        },
        ("v2_q.json", "--annotations", "v2_a.json"),
    ),
    "textvqa": Layout(
        {"TextVQA_0.5.1_val.json": {"dataset_type": "val", "dataset_name": "textvqa", "data": [TEXTVQA]}},
        ("TextVQA_0.5.1_val.json",),
    ),
    "vizwiz": Layout({"val.json": [VIZWIZ]}, ("val.json",)),
    "moments": Layout(
        {
            "charades_sta_test.txt": "V1 24.3 30.4##a person opens the door.\nV1 5.0 2.0##backwards\n",
            "Charades_v1_test.csv": "id,subject,length\nV1,x,31.00\n",
        },
        ("charades", "charades_sta_test.txt", "--lengths", "Charades_v1_test.csv"),
    ),
    "karpathy": Layout({"dataset_coco.json": {"images": [KARPATHY], "dataset": "coco"}}, ("dataset_coco.json",)),
    "imagenet": Layout(
        {
            "val/n01440764/ILSVRC2012_val_00000293.JPEG": b"",
            "val/n03126707/ILSVRC2012_val_00000400.JPEG": b"",
            "LOC_synset_mapping.txt": SYNSETS,
            "names.json": {"n03126707": "construction crane"},
        },
        ("val", "LOC_synset_mapping.txt", "--names", "names.json"),
    ),
    "vcr": Layout(
        {
            "val.jsonl": JsonLines([VCR]),
            "vcr1images/lsmdc_1/a.json": {"boxes": [[0, 0, 9, 9, 0.9], [1, 1, 2, 2, 0.8]], "names": VCR["objects"]},
        },
        ("val.jsonl", "vcr1images"),
    ),
    "textcaps": Layout(
        {"TextCaps_0.1_val.json": {"dataset_type": "val", "dataset_name": "textcaps", "data": [CAPTION]}},
        ("TextCaps_0.1_val.json",),
    ),
    "nlvr2": Layout({"train.json": JsonLines([NLVR2])}, ("train.json",)),
    "aokvqa": Layout({"aokvqa_v1p0_train.json": [AOKVQA]}, ("aokvqa_v1p0_train.json",)),
    "scienceqa": Layout(
        {"problems.json": {"1": PROBLEM, "2": {**PROBLEM, "image": None}}, "pid_splits.json": {"train": ["1", "2"]}},
        ("problems.json", "pid_splits.json", "--split", "train"),
    ),
    "gqa": Layout({"val_balanced_questions.json": {"05451384": GQA}}, ("val_balanced_questions.json",)),
    "vqa_e": Layout({"VQA-E_val_set.json": [VQA_E]}, ("VQA-E_val_set.json",)),
    "llava": Layout({"llava_instruct_150k.json": [LLAVA]}, ("llava_instruct_150k.json",)),
    "sharegpt": Layout({"sg.json": [{"id": "a", "conversations": talk("Hi.", "Hello.")}]}, ("sg.json",)),
    "alpaca": Layout(
        {"alpaca_data.json": [{"instruction": "Add.", "input": "1, 2", "output": "3"}]}, ("alpaca_data.json",)
    ),
    "lrv": Layout(
        {"filter_cap1.json": [LRV], "image_data.json": IMAGE_DATA}, ("filter_cap1.json", "--images", "image_data.json")
    ),
    "svit": Layout(
        {"conversation.json": [SVIT], "image_data.json": IMAGE_DATA},
        ("conversation.json", "--images", "image_data.json"),
    ),
    "mimic_it": Layout(
        {
            "DC_instructions.json": MIMIC_IT,
            "DC.json": MIMIC_IT_IMAGES,
            "DC_train.json": {"DC_INS_1": ["DC_INS_0"]},
        },
        (
            "DC_instructions.json",
            *("--images", "DC.json", "--relations", "DC_train.json", "--pictures", "images"),
        ),
    ),
    "image_folder": Layout(
        {f"weather/{name}/1.jpg": image(colour) for name, colour in (("rain", "blue"), ("heavy_snow", "white"))},
        ("weather", "--question", "What is the weather?"),
    ),
}

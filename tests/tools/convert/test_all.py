"""What holds for every converter: it may be run again, and a bad record is named and leaves the files of before."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.marks import slow_but
from tests.tools.convert.layouts import LAYOUTS, Run, Save, write

ROOT = Path(__file__).parents[3]
SOURCES = sorted(path.stem for path in (ROOT / "tools" / "convert").glob("*.py"))

BAD = [
    (
        "refcoco",
        ("refcoco+/instances.json", "annotations", 0, "bbox"),
        [1, 2, 3],
        "instances.json: annotations[0]: bbox: expected 4 numbers, found list '[1, 2, 3]'",
    ),
    (
        "visual_genome",
        ("region_descriptions.json", 0, "regions", 0, "phrase"),
        7,
        "region_descriptions.json[0]: regions[0]: phrase: expected a text, found int '7'",
    ),
    ("flickr30k_entities", ("flickr/Annotations/36979.xml",), "<a>", "36979.xml:1: expected XML, found "),
    (
        "grefcoco",
        ("grefcoco/grefs(unc).json", 0, "ann_id"),
        [1, -1],
        "grefs(unc).json[0]: ann_id: expected numbers of annotations, or -1 alone, found [1, -1]",
    ),
    ("voc", ("voc/Annotations/a.xml",), "<a/>", "a.xml: size.width: expected a number, found nothing"),
    ("yolo", ("labels/a.txt",), "2 0 0 1 1", "a.txt:1: class: expected the number of one of 2 classes, found '2'"),
    ("labelme", ("labelme/a.json", "shapes", 1, "points", 2), [1], "a.json: shapes[1]: points[2]: expected 2 numbers"),
    (
        "cvat",
        ("annotations.xml",),
        "<annotations><image name='a' width='0' height='2'/></annotations>",
        "annotations.xml: a: image.width: expected a whole number from 1 to 1,000,000, found int '0'",
    ),
    (
        "label_studio",
        ("project.json", 0, "annotations", 1, "result", 0, "value", "width"),
        "20",
        "project.json[0]: annotations[1]: result[0]: value.width: expected a number, found str '20'",
    ),
    ("predictions", ("eval.jsonl", 0, "pred", 1), [1, 2], "eval.jsonl:1: pred[1]: expected 4 numbers, found list"),
    (
        "predictions",
        ("eval.jsonl", 0, "pred_labels"),
        7,
        "eval.jsonl:1: pred_labels: expected a list of texts or None, found int",
    ),
    ("pixmo", ("test-0.jsonl", 0, "masks"), 7, "test-0.jsonl:1: masks: expected a list, found int '7'"),
    (
        "alpaca",
        ("alpaca_data.json", 0, "output"),
        "a \ud800",
        "out/alpaca_data.jsonl: expected texts, found half a character in a record, ",
    ),
    (
        "pixmo",
        ("test-0.jsonl", 0, "points", 1, "x"),
        120,
        "test-0.jsonl:1: points[1]: expected x and y from 0 to 100, found dict",
    ),
    (
        "moments",
        ("charades_sta_test.txt",),
        "V1 24.3##a person opens the door.",
        "charades_sta_test.txt:1: expected VIDEO START END##DESCRIPTION, found str",
    ),
    ("ref_l4", ("ref-l4-val.jsonl", 0, "bbox"), [1, 2], "ref-l4-val.jsonl:1: bbox: expected 4 numbers"),
    (
        "coco",
        ("instances_val2014.json", "images", 0, "height"),
        "480",
        "instances_val2014.json: images[0]: height: expected a whole number from 1 to 1,000,000, found str '480'",
    ),
    (
        "vqav2",
        ("v2_q.json", "questions", 0),
        {"image_id": 1, "question": "?"},
        "v2_q.json: questions[0]: question_id: expected a whole number or a text, found nothing",
    ),
    ("vcr", ("val.jsonl", 0, "metadata_fn"), "a\ud800", "val.jsonl:1: metadata_fn: expected a path, found str"),
    ("vcr", ("val.jsonl", 0, "metadata_fn"), None, "val.jsonl:1: metadata_fn: expected a path, found nothing"),
    (
        "textcaps",
        ("TextCaps_0.1_val.json", "data", 0, "image_id"),
        54,
        "TextCaps_0.1_val.json: data[0]: image_id: expected a text, found int '54'",
    ),
    (
        "textvqa",
        ("TextVQA_0.5.1_val.json", "data", 0, "answers", 1),
        5,
        "TextVQA_0.5.1_val.json: data[0]: answers[1]: expected a text, found int '5'",
    ),
    (
        "vizwiz",
        ("val.json", 0, "answers", 1, "answer"),
        None,
        "val.json[0]: answers[1]: answer: expected a text, found nothing",
    ),
    (
        "karpathy",
        ("dataset_coco.json", "images", 0, "sentences", 1, "raw"),
        7,
        "dataset_coco.json: images[0]: sentences[1]: raw: expected a text, found int '7'",
    ),
    (
        "imagenet",
        ("names.json", "n03126707"),
        "crane",
        "LOC_synset_mapping.txt: expected a name of its own for n03126707, found 'crane', as of n02012849",
    ),
    ("nlvr2", ("train.json", 0, "label"), "true", "train.json:1: label: expected True or False, found str 'true'"),
    (
        "aokvqa",
        ("aokvqa_v1p0_train.json", 0, "correct_choice_idx"),
        2,
        "aokvqa_v1p0_train.json[0]: correct_choice_idx: expected an index of 2 choices, found 2",
    ),
    (
        "scienceqa",
        ("problems.json", "2", "choices"),
        ["a", 1],
        "problems.json: 2: choices[1]: expected a text, found int '1'",
    ),
    (
        "gqa",
        ("val_balanced_questions.json", "05451384", "imageId"),
        2354786,
        "val_balanced_questions.json: 05451384: imageId: expected a text, found int '2354786'",
    ),
    (
        "vqa_e",
        ("VQA-E_val_set.json", 0, "explanation"),
        [0.8],
        "VQA-E_val_set.json[0]: explanation: expected a text and how sure it is, found list '[0.8]'",
    ),
    (
        "llava",
        ("llava_instruct_150k.json", 0, "conversations", 1, "value"),
        None,
        "llava_instruct_150k.json[0]: conversations[1]: value: expected a text, found nothing",
    ),
    (
        "sharegpt",
        ("sg.json", 0, "conversations", 0),
        "Hi.",
        "sg.json[0]: conversations[0]: expected an object, found s",
    ),
    (
        "alpaca",
        ("alpaca_data.json", 0),
        {"instruction": "Add."},
        "alpaca_data.json[0]: output: expected a text, found nothing (the record has instruction)",
    ),
    ("lrv", ("filter_cap1.json", 0, "answer"), ["Yes."], "filter_cap1.json[0]: answer: expected a text, found list"),
    (
        "svit",
        ("conversation.json", 0, "conversations", 0, "content", 1, "value"),
        3,
        "conversation.json[0]: conversations[0]: content[1]: value: expected a text, found int '3'",
    ),
    (
        "mimic_it",
        ("DC_instructions.json", "data", "DC_INS_1", "image_ids", 0),
        "DC_IMG_9",
        "DC.json: expected the image 'DC_IMG_9', found none of this id",
    ),
]


# what else a converter must not write down, nor stumble over
WORSE = [
    (
        "refcoco",
        ("refcoco+/instances.json", "images", 0, "id"),
        [1],
        "images[0]: id: expected a whole number or a text, found",
    ),
    (
        "refcoco",
        ("refcoco+/instances.json", "annotations", 0, "bbox", 0),
        float("nan"),
        "bbox: expected 4 numbers, found",
    ),
    (
        "visual_genome",
        ("region_descriptions.json", 0, "regions", 0, "x"),
        True,
        "regions[0]: x: expected a number, found bool 'True'",
    ),
    (
        "visual_genome",
        ("image_data.json", 0, "image_id"),
        None,
        "image_data.json[0]: image_id: expected a whole number or a",
    ),
    (
        "coco",
        ("instances_val2014.json", "images", 0, "width"),
        0,
        "images[0]: width: expected a whole number from 1 to 1,000,000, found int '0'",
    ),
    (
        "coco",
        ("instances_val2014.json", "annotations", 0, "image_id"),
        {},
        "annotations[0]: image_id: expected a whole number",
    ),
    (
        "vqav2",
        ("v2_q.json", "questions", 0, "question_id"),
        [],
        "questions[0]: question_id: expected a whole number or a text",
    ),
    (
        "vqav2",
        ("v2_a.json", "annotations", 0, "answers", 1),
        "net",
        "v2_a.json: annotations[0]: answers[1]: expected an",
    ),
    (
        "vqav2",
        ("v2_a.json", "annotations", 0, "multiple_choice_answer"),
        None,
        "annotations[0]: multiple_choice_answer: expected a text, found nothing",
    ),
    (
        "vcr",
        ("vcr1images/lsmdc_1/a.json", "boxes", 1),
        [1, 1, 2],
        "a.json: boxes[1]: expected 4 numbers, found list '[1, 1, 2]'",
    ),
    (
        "vcr",
        ("val.jsonl", 0, "question", 2),
        [2],
        "val.jsonl:1: question: expected words and lists of indices of 2 boxes, found list '[2]'",
    ),
    (
        "vcr",
        ("val.jsonl", 0, "answer_choices", 0),
        [],
        "answer_choices[0]: expected a list of words and lists of indices",
    ),
    ("vcr", ("val.jsonl", 0, "rationale_label"), 2, "rationale_label: expected an index of 2 choices, found 2"),
    (
        "nlvr2",
        ("train.json", 0, "identifier"),
        "train-3",
        "train.json:1: identifier: expected one such as train-10171-0-0",
    ),
    ("nlvr2", ("train.json", 0, "directory"), None, "train.json:1: directory: expected a whole number, found nothing"),
    (
        "aokvqa",
        ("aokvqa_v1p0_train.json", 0, "correct_choice_idx"),
        True,
        "correct_choice_idx: expected a whole number, found bool 'True'",
    ),
]


def snapshot(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_converter_is_here() -> None:
    assert sorted(LAYOUTS) == SOURCES
    assert sorted({source for source, *_ in BAD} | {"image_folder"}) == SOURCES


@pytest.mark.parametrize("source", slow_but(["refcoco", "sharegpt"], SOURCES))
def test_a_converter_is_a_script_of_its_own(tmp_path: Path, source: str) -> None:
    """From any folder, with nothing on the path but the package."""
    (tmp_path / "mllm").symlink_to(ROOT / "mllm")
    words = [*LAYOUTS[source].words, "--out", "out"]
    write(tmp_path, LAYOUTS[source].files)
    script = ROOT / "tools" / "convert" / f"{source}.py"
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "MLLM_CACHE": str(tmp_path / "cache")}
    shown = subprocess.run(
        [sys.executable, str(script), *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shown.returncode, shown.stderr) == (0, "")
    assert "1  out/" in shown.stdout or "2  out/" in shown.stdout
    assert f"python tools/convert/{source}.py" in script.read_text(encoding="utf-8")


@pytest.mark.parametrize(("source", "place", "value", "message"), [*BAD, *WORSE])
def test_a_converter_runs_again_and_names_a_bad_record(
    run: Run, tmp_path: Path, source: str, place: tuple[Any, ...], value: Any, message: str
) -> None:
    first = run(source)
    before = snapshot(tmp_path / "out")
    assert before
    assert run(source) == first
    assert snapshot(tmp_path / "out") == before
    broken = copy.deepcopy(LAYOUTS[source].files)
    at: Any = broken
    for step in place[:-1]:
        at = at[step]
    at[place[-1]] = value
    write(tmp_path, broken)
    shown = run(source, *LAYOUTS[source].words, status=1)
    assert shown.startswith(f"error: {tmp_path}")
    assert message in shown
    assert snapshot(tmp_path / "out") == before  # and no part of a file


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "TextCaps_0.1_val.json: expected a JSON object, found "),
        ("[]", "TextCaps_0.1_val.json: expected a JSON object, found list"),
        ("{}", "TextCaps_0.1_val.json: data: expected a list, found nothing"),
        ('{"data": [5]}', "TextCaps_0.1_val.json: data[0]: expected an object, found int"),
        ('{"data": []}', "expected records to write, found none (the input holds no record)"),
        ('{"data": [{"image_id": "a"}]}', "expected records to write, found none (1 records without a caption)"),
    ],
)
def test_files_of_another_layout(run: Run, save: Save, content: str, message: str) -> None:
    assert message in run("textcaps", save("TextCaps_0.1_val.json", content), status=1)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"a": 1}\n\n{"a": \n', "alpaca.jsonl:3: expected a JSON object, found "),
        ('{"instruction": "a", "output": "b"}\n7\n', "alpaca.jsonl:2: expected a JSON object, found int"),
        ('[{"instruction": "a", "output": "b"}, 7]', "alpaca.jsonl[1]: expected an object, found int"),
    ],
)
def test_files_of_lines(run: Run, save: Save, content: str, message: str) -> None:
    assert message in run("alpaca", save("alpaca.jsonl", content), status=1)


def test_files_that_cannot_be_read(run: Run, save: Save, tmp_path: Path) -> None:
    missing = str(tmp_path / "none.jsonl")
    assert run("alpaca", missing, status=1) == f"error: {missing}: cannot be read: No such file or directory\n"
    (tmp_path / "latin.jsonl").write_bytes(b'{"instruction": "\xe9"}\n')
    assert "latin.jsonl: expected UTF-8, found byte 0xe9" in run("alpaca", str(tmp_path / "latin.jsonl"), status=1)


def test_an_input_is_not_written_over(run: Run, save: Save, tmp_path: Path) -> None:
    content = '{"instruction": "a", "output": "b"}\n'
    path = save("out/alpaca.jsonl", content)
    assert "out/alpaca.jsonl: expected a new file, found an input; name another folder with --out" in run(
        "alpaca", path, status=1
    )
    assert snapshot(tmp_path / "out") == {"alpaca.jsonl": content.encode()}

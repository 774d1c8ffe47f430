from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main

TRUTH = [20.0, 10.0, 120.0, 60.0]
"""[100, 100, 600, 600] of 1000 on an image of 200 x 100."""
RIGHT, WRONG, UNREAD = "[100, 100, 600, 600]", "[0, 0, 100, 100]", "a dog"
GROUNDING = [{"answer": text, "gt_bbox": TRUTH, "hw": [100, 200]} for text in (RIGHT, WRONG, UNREAD, RIGHT)]
TABLE = "index\tprediction\tbbox_x1\tbbox_y1\tbbox_x2\tbbox_y2\twidth\theight\tsplit\n" + "".join(
    f"RefCOCO_val_{number}\t{text}\t20\t10\t120\t60\t200\t100\tRefCOCO_val\n"
    for number, text in enumerate((RIGHT, WRONG, UNREAD, RIGHT))
)
FRACTIONS = [
    {
        "doc_id": number,
        "target": "a dog",
        "filtered_resps": [text],
        "refcoco_ACC@0.5": {"answer": "a dog", "pred": [0, 0, 0, 0], "ann_id": number, "bbox": [0.1, 0.1, 0.6, 0.6]},
    }
    for number, text in enumerate(("[0.1, 0.1, 0.6, 0.6]", RIGHT, UNREAD, "[0.1, 0.1, 0.6, 0.6]"))
]
SHIKRA = [
    {"pred": f"Answer: {text} .", "target": "Answer: [0.100,0.300,0.600,0.550] ."}
    for text in ("[0.100,0.300,0.600,0.550]", "[0.000,0.000,0.100,0.100]", "no", "[0.100,0.300,0.600,0.560]")
]


def write(path: Path, content: object) -> str:
    if path.suffix == ".jsonl":
        assert isinstance(content, list)
        path.write_text("".join(json.dumps(record) + "\n" for record in content), encoding="utf-8")
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def scores(folder: Path, *arguments: str) -> dict[str, Any]:
    assert main(["score", *arguments, "--output_dir", str(folder / "out")]) == 0
    return json.loads((folder / "out" / "score_results.json").read_text())


@pytest.mark.parametrize(
    ("name", "content", "reading", "layout"),
    [
        ("a.json", GROUNDING, "internvl", "internvl"),
        ("a.tsv", TABLE, "vlmevalkit", "vlmevalkit"),
        ("a.jsonl", FRACTIONS, "lmms_eval", "lmms_eval"),
        ("a.jsonl", SHIKRA, "shikra", "shikra"),
    ],
)
def test_score_reads_foreign_layouts_by_their_own_rules(
    name: str, content: object, reading: str, layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = scores(tmp_path, write(tmp_path / name, content), "--reading", reading)
    assert (found["score_acc@0.5"], found["score_count"], found["score_failure_none"]) == (0.5, 4, 1)
    assert f"4 answers, layout {layout}" in capsys.readouterr().out


def test_score_reads_a_workbook_as_vlmevalkit_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    header, *rows = [line.split("\t") for line in TABLE.splitlines()]
    book.active.append(header)
    for row in rows:
        book.active.append([int(cell) if cell.isdecimal() else cell for cell in row])
    book.active.append([None] * len(header))  # a row that was emptied
    book.save(tmp_path / "a.xlsx")
    found = scores(tmp_path, str(tmp_path / "a.xlsx"), "--reading", "vlmevalkit")
    assert (found["score_acc@0.5"], found["score_count"], found["score_failure_none"]) == (0.5, 4, 1)
    assert "4 answers, layout vlmevalkit" in capsys.readouterr().out


def test_score_says_how_to_read_a_workbook_without_its_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "openpyxl", None)
    (tmp_path / "a.xlsx").write_bytes(b"PK")
    assert main(["score", str(tmp_path / "a.xlsx")]) == 1
    assert "pip install 'mllm[xlsx]'" in capsys.readouterr().err


@pytest.mark.parametrize("metric", ["dict(type='REC', reading='internvl')", '{"type": "REC", "reading": "internvl"}'])
def test_score_takes_a_metric_as_a_config_or_json_has_it(metric: str, tmp_path: Path) -> None:
    assert scores(tmp_path, write(tmp_path / "a.json", GROUNDING), "--metric", metric)["score_acc@0.5"] == 0.5


def test_score_writes_the_report_of_an_evaluation(config: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"question_id": 30, "answer": "no"}, {"question_id": 10, "answer": "yes"}])
    scores(tmp_path, file, "--data", config(10, 30), "--metric", "VQAAccuracy")
    page = (tmp_path / "out" / "score_report.html").read_text()
    assert "vqa_accuracy" in page
    assert "data:image/" in page
    data = (tmp_path / "out" / "score_report_files" / "000.js").read_text()
    assert "Is it red?" in data
    assert "COCO_val2014_000000000042.jpg" in data


def test_score_draws_on_images_that_the_predictions_name(tmp_path: Path) -> None:
    image = tmp_path / "seen.png"
    Image.new("RGB", (200, 100)).save(image)
    scores(tmp_path, write(tmp_path / "a.jsonl", [ours(0, image=str(image)), ours(1, image="gone.png")]))
    page = (tmp_path / "out" / "score_report.html").read_text()
    assert page.count("data:image/") == 1


def test_score_reads_a_foreign_file_by_a_codec(tmp_path: Path) -> None:
    found = scores(tmp_path, write(tmp_path / "a.json", GROUNDING), "--codec", "internvl")
    assert (found["score_acc@0.5"], found["score_failure_none"]) == (0.5, 1)


def test_score_reads_the_scores_of_candidates(tmp_path: Path) -> None:
    likely = [(-0.1, "yes"), (-2.0, "no"), (-3.0, "yes"), (-1.0, "no")]
    records = [
        {"key": f"a:{n}", "index": n, "text": "yes", "pred": [], "target": [truth]}
        | {"candidate_scores": {"yes": score, "no": -1.5}}
        for n, (score, truth) in enumerate(likely)
    ]
    found = scores(tmp_path, write(tmp_path / "a.jsonl", records), "--metric", "RocAuc")
    assert found["score_roc_auc"] == 0.5


def test_score_compares_all_readings_in_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["score", write(tmp_path / "a.json", GROUNDING), "--reading", "all"]) == 0
    rows = {line.split()[0]: line.split()[1:] for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert rows["internvl"] == ["0.5000", "0.5000", "1"]
    assert rows["lmms_eval"] == ["0.0000", "0.0000", "1"]
    assert rows["cogvlm"] == ["0.0000", "0.0000", "4"]


def ours(index: int, **fields: Any) -> dict[str, Any]:
    return {
        **{"key": f"a.jsonl:{index + 1}", "index": index, "image": "a.jpg", "image_size": [200, 100]},
        **{"text": RIGHT, "pred": [TRUTH], "target": [TRUTH], "failure": None, "iou": 1.0, **fields},
    }


def test_score_of_an_evaluation_is_what_it_was(tmp_path: Path) -> None:
    records = [
        ours(0),
        ours(1, pred=[], failure="malformed", iou=0.0),
        ours(2, pred=[[0, 0, 20, 10]], iou=0.0, group={"kind": "dog"}),
        ours(3, pred=[], target=[]),  # there is no such object
    ]
    found = scores(tmp_path, write(tmp_path / "a.jsonl", records))
    assert (found["score_acc@0.5"], found["score_failure_malformed"], found["score_no_target_acc"]) == (0.5, 1, 1.0)
    assert [part["value"] for part in found["parts"]["kind"]] == ["(none)", "dog"]
    again = json.loads((tmp_path / "out" / "score_extra_prediction.jsonl").read_text().splitlines()[0])
    assert (again["score"], again["image"], again["image_size"]) == (1.0, "a.jpg", [200, 100])


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., str]:
    """A config whose validation set asks VQA questions with these ids about one image."""

    def write_config(*ids: int) -> str:
        Image.new("RGB", (8, 8)).save(tmp_path / "COCO_val2014_000000000042.jpg")
        lines = [
            {
                "question_id": number,
                "image_path": "COCO_val2014_000000000042.jpg",
                "question": "Is it red?",
                "annotation": {"multiple_choice_answer": "yes", "answers": [{"answer": "yes"}] * 10},
            }
            for number in ids
        ]
        write(tmp_path / "vqa.jsonl", lines)
        write(tmp_path / "questions.json", ["<image> <question>"])
        dataset = {
            "type": "VQAv2",
            "filename": str(tmp_path / "vqa.jsonl"),
            "image_folder": str(tmp_path),
            "questions": str(tmp_path / "questions.json"),
        }
        path = tmp_path / "config.py"
        path.write_text(f"data_args = dict(validation={dataset!r}, compute_metric='VQAAccuracy')\n")
        return str(path)

    return write_config


def test_score_joins_a_submission_to_its_questions(config: Callable[..., str], tmp_path: Path) -> None:
    answers = [{"question_id": 30, "answer": "no"}, {"question_id": 10, "answer": "yes"}]
    file = write(tmp_path / "a.json", answers)
    found = scores(tmp_path, file, "--data", config(10, 30), "--metric", "VQAAccuracy")
    assert (found["score_vqa_accuracy"], found["score_count"]) == (0.5, 2)


def test_score_takes_plain_texts_in_order(config: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "a.txt", "yes\nno\nyes\n")
    found = scores(tmp_path, file, "--data", config(1, 2, 3), "--metric", '{"type": "VQAAccuracy", "reading": "text"}')
    assert found["score_vqa_accuracy"] == pytest.approx(2 / 3)


def test_score_finds_the_number_of_an_image_in_its_name(config: Callable[..., str], tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", [{"image_id": 42, "caption": "yes"}])
    assert scores(tmp_path, file, "--data", config(1), "--metric", "VQAAccuracy")["score_vqa_accuracy"] == 1


def test_score_joins_answers_to_a_line_that_is_asked_about_twice(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.jpg")
    words = [[["yes"], ["no"]]] * 2
    line = {"img_fn": "a.jpg", "boxes": [], "question": ["why", "?"], "answer_label": 1, "rationale_label": 0}
    line |= dict(zip(("answer_choices", "rationale_choices"), words, strict=True))
    file, questions = (
        write(tmp_path / name, [content]) for name, content in (("v.jsonl", line), ("q.json", "<image> <question>"))
    )
    parts = [
        {"type": "VCR", "version": version, "filename": file, "image_folder": str(tmp_path), "questions": questions}
        for version in ("qc-a", "qac-r")
    ]
    config = tmp_path / "config.py"
    config.write_text(f"data_args = dict(validation=dict(type='ConcatDataset', datasets={parts!r}))")
    records = [{"key": f"{file}:1", "index": index, "text": text} for index, text in enumerate("BA")]
    answers = write(tmp_path / "a.jsonl", records)
    found = scores(tmp_path, answers, "--data", str(config), "--metric", "VCRAccuracy")
    assert (found["score_q_ar"], found["score_count"]) == (1.0, 2)
    full = [{**ours(index), "key": f"{file}:1", "text": text} for index, text in enumerate("BA")]
    assert (
        scores(tmp_path, write(tmp_path / "a.jsonl", full), "--data", str(config), "--metric", "VCRAccuracy")[
            "score_q_ar"
        ]
        == 1.0
    )
    assert main(["score", write(tmp_path / "a.jsonl", [*full, full[1]]), "--data", str(config)]) == 1


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        ([{"question_id": 1, "answer": "yes"}], "1 items without an answer: str '2'"),
        ([{"question_id": number, "answer": "yes"} for number in (1, 2, 3)], "1 answers to no item of the dataset"),
        (
            [{"question_id": number, "answer": "yes"} for number in (1, 2, 2)],
            "two answers to one item have the same key",
        ),
        ([{"question_id": 1, "answer": 3}, {"question_id": 2, "answer": "yes"}], "answer: expected a text"),
        ([{"question": 1}], "expected the fields of a known layout"),
        ([{"question_id": 1, "answer": "yes"}, {"question_id": 2}], "answer: expected a value (layout 'vqa')"),
        ([], "expected answers, found an empty file"),
    ],
)
def test_score_names_what_is_missing_doubled_or_unknown(
    answers: object, message: str, config: Callable[..., str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(tmp_path / "a.json", answers)
    assert main(["score", file, "--data", config(1, 2), "--metric", "VQAAccuracy"]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--layout", "intern"], "--layout: expected a layout of answers, found str 'intern'; did you mean 'internvl'"),
        (["--reading", "intern"], "'REC': reading: expected one of 'codec', "),
        (["--metric", "RECC"], "RECC"),
        (["--metric", "dict(type=REC)"], "--metric: expected dict(key=value, ...) of numbers, texts in quotes"),
        (["--metric", "{'REC'}"], "--metric: expected dict(type=..., key=value, ...)"),
        (["--placement", "pad"], "--codec: expected a codec for --placement, found nothing"),
        (["--key", "id"], "--data: expected a config for --key, found nothing"),
        (["--codec", "nothing"], "nothing"),
        (
            ["--reading", "all", "--metric", "REC"],
            "--reading all: expected no --metric, as it compares readings of REC",
        ),
    ],
)
def test_score_refuses_options_that_mean_nothing(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", write(tmp_path / "a.json", GROUNDING), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("name", ["a.xlsx", "a", "missing.json"])
def test_score_names_a_file_that_it_cannot_read(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not name.startswith("missing"):
        (tmp_path / name).write_bytes(b"PK")
    assert main(["score", str(tmp_path / name)]) == 1
    error = capsys.readouterr().err
    assert name in error
    assert error.count("\n") == 1


def refused(path: Path, content: object, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(["score", write(path, content), *arguments]) != 0
    return capsys.readouterr().err.replace(str(path.parent) + "/", "")


def test_score_without_a_codec_or_a_reading_refuses_texts_with_boxes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "a.json: expected --codec NAME" in refused(tmp_path / "a.json", GROUNDING, capsys)
    assert "found neither" in refused(tmp_path / "a.json", GROUNDING, capsys, "--metric", "BoxesF1")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.jsonl", [FRACTIONS[0]] * 2),
        ("a.tsv", TABLE + TABLE.splitlines(keepends=True)[1]),
        ("a.jsonl", [ours(0), ours(0)]),
    ],
)
def test_score_refuses_doubled_answers_of_a_file_with_its_own_truths(
    name: str, content: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "two answers have the same key" in refused(tmp_path / name, content, capsys, "--reading", "lmms_eval")


def test_score_counts_an_empty_answer_of_lmms_eval_as_wrong(tmp_path: Path) -> None:
    records = [FRACTIONS[0], {**FRACTIONS[1], "filtered_resps": ""}]
    found = scores(tmp_path, write(tmp_path / "a.jsonl", records), "--reading", "lmms_eval")
    assert (found["score_acc@0.5"], found["score_failure_none"]) == (0.5, 1)


def test_score_takes_no_pixels_of_lmms_eval_for_fractions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = {**FRACTIONS[0], "grounding": {"pred": [0, 0, 1, 1], "bbox": [20, 10, 120, 60]}}
    del record["refcoco_ACC@0.5"], record["target"]
    message = refused(tmp_path / "a.jsonl", [record], capsys, "--reading", "lmms_eval")
    assert "a.jsonl:1: expected the ground truth: texts, or a box and the size of its image" in message


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\t200\t100\t", "\tnan\t100\t", "a.tsv:2: width, height: expected two sides in pixels"),
        ("\t200\t100\tRefCOCO_val\n", "\t200\t100\n", "a.tsv:2: expected 9 fields, as the first line has, found 8"),
        ("\tRefCOCO_val\n", "\tRefCOCO_val\tmore\n", "a.tsv:2: expected 9 fields, as the first line has, found 10"),
        (f"\t{UNREAD}\t", f'\t"{UNREAD}\t', "a.tsv:4: expected a row of the table"),
    ],
)
def test_score_names_a_broken_row_of_a_table(
    old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(tmp_path / "a.tsv", TABLE.replace(old, new, 1), capsys, "--reading", "vlmevalkit")


def test_score_reads_an_empty_cell_as_an_empty_answer(tmp_path: Path) -> None:
    rows = '[{"index": 1, "prediction": NaN, "answer": "nan"}, {"index": 2, "prediction": null, "answer": "None"}]'
    assert scores(tmp_path, write(tmp_path / "a.json", rows), "--metric", "ExactMatch")["score_exact_match"] == 0


@pytest.mark.parametrize("metric", ["AnswerAccuracy", "ExactMatch", "POPE"])
def test_score_reads_what_shikra_asks_for_from_its_whole_target(metric: str, tmp_path: Path) -> None:
    records = [{"pred": text, "target": "The answer is yes ."} for text in ("The answer is yes .", "no")]
    found = scores(tmp_path, write(tmp_path / "a.jsonl", records), "--metric", metric)
    assert (
        found[{"AnswerAccuracy": "score_accuracy", "ExactMatch": "score_exact_match"}.get(metric, "score_accuracy")]
        == 0.5
    )


def test_score_splits_texts_at_line_breaks_alone(config: Callable[..., str], tmp_path: Path) -> None:
    path = write(tmp_path / "a.txt", "yes\r\nno\u2028yes\n")
    found = scores(tmp_path, path, "--data", config(1, 2), "--metric", "VQAAccuracy")
    assert (found["score_count"], found["score_vqa_accuracy"]) == (2, 0.5)


@pytest.mark.parametrize(
    ("metric", "headline", "fields"),
    [
        ("BoxesF1", "micro_f1@0.5", {"pred_labels": ["cat"], "target_labels": ["dog"]}),
        ("PointingAccuracy", "accuracy", {"candidates": [TRUTH, [0, 0, 9, 9]], "pred": [[0, 0, 9, 9]], "iou": 0.0}),
        ("PointIn", "accuracy", {"candidates": [[0, 0, 9, 9]]}),
        (
            "TemporalIoU",
            "R1@0.5",
            {"pred_spans": [[0, 1]], "target_spans": [[5, 9]], "target": ["<spans>"]},
        ),
        ("BoxesF1", "micro_f1@0.5", {"pred_images": [1], "target_images": [0]}),
        ("ChoiceAccuracy", "accuracy", {"options": ["a", "b"], "target": ["A"], "text": "B", "pred": []}),
    ],
)
def test_score_of_an_evaluation_compares_with_all_of_its_truth(
    metric: str, headline: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    assert (
        scores(tmp_path, write(tmp_path / "a.jsonl", [ours(0, **fields)]), "--metric", metric)[f"score_{headline}"] == 0
    )
    again = json.loads((tmp_path / "out" / "score_extra_prediction.jsonl").read_text())
    assert {name: again[name] for name in fields} == fields

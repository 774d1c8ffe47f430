from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.dataset.sets.instruct import Instruct

BOX = "[0.100,0.300,0.500,0.700]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A 1000 x 500 image: the middle half of its padded square."""
    Image.new("RGB", (1000, 500)).save(tmp_path / "a.png")
    return tmp_path


def line(answer: str, **fields: Any) -> dict[str, Any]:
    turns = [{"from": "human", "value": "<image>\nWhere are 2 dogs?"}, {"from": "gpt", "value": answer}]
    return {"image": "a.png", "conversations": turns, "id": "ü", **fields}


def write(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return str(path)


def convert(folder: Path, source: str, *options: str, out: str = "out.jsonl", to: str = "ferret") -> int:
    fixed = ["--from", "shikra", "--to", to, "--image-folder", str(folder)]
    return main(["regions", "convert", *fixed, *options, source, str(folder / out)])


def read(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_texts_of_a_dataset_are_rewritten_and_the_rest_stays(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text_only = {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "2"}]}
    source = write(folder / "in.jsonl", line(f"Here {BOX}."), text_only, line("none"))
    assert convert(folder, source) == 0
    assert read(folder) == [line("Here [100, 100, 500, 900]."), text_only, line("none")]
    assert "1 groups of regions in 1 texts now read as ferret" in capsys.readouterr().out


def test_regions_that_do_not_read_as_the_source_are_pointed_out(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = "<quad>(1,2),(3,4),(5,6),(7,8)</quad>"
    source = write(folder / "in.jsonl", line(f"Here {BOX}."), line(f"{BOX} and {left}"), line("<box>1 2 3 4</box>"))
    for to in ("ferret", "typed"):
        assert convert(folder, source, to=to) == 0
        out = capsys.readouterr().out
        assert "2 groups of regions in 2 texts now" in out
        assert "2 texts hold regions that cannot be read as shikra, the first: " in out
        assert f"in.jsonl:2: conversations[1].value: str {left!r}" in out


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], [101, 50, 504, 454]),  # the family's own: 1000 x 500 -> 1008 x 504
        (["--max-pixels", "200000"], [62, 31, 308, 277]),  # 616 x 308
        (["--to-placement", "squash", "--image-size", "500"], [50, 50, 250, 450]),
        (["--placement", "pad", "--image-size", "500"], [50, 150, 250, 350]),
    ],
)
def test_pixels_are_those_of_the_chosen_canvas(folder: Path, options: list[str], expected: list[int]) -> None:
    source = write(folder / "in.jsonl", line(BOX))
    assert convert(folder, source, *options, to="qwen25_vl") == 0
    answer = json.loads(read(folder)[0]["conversations"][1]["value"])
    assert answer == {"bbox_2d": expected}


def test_json_with_objects_inside_is_read(folder: Path) -> None:
    words = '{"bbox_2d": [100, 200, 300, 400], "looks": {"colour": "red"}}'
    assert convert(folder, write(folder / "in.jsonl", line(words)), "--from", "qwen3_vl") == 0
    assert read(folder) == [line("[100, 200, 300, 400]")]


def test_the_size_may_stand_in_the_line(folder: Path) -> None:
    source = write(folder / "in.jsonl", line(BOX, image="gone.png", width=1000, height=500))
    assert convert(folder, source) == 0
    assert read(folder)[0]["conversations"][1]["value"] == "[100, 100, 500, 900]"


def test_a_predictions_file_finds_its_images_by_key(folder: Path) -> None:
    data = write(folder / "data.jsonl", {"img_path": "b.png"}, {"img_path": "a.png", "expression": "x"})
    prediction = {"key": f"{data}:2", "index": 1, "text": f"Answer: {BOX} .", "pred": [[100, 50, 500, 450]]}
    source = write(folder / "eval_extra_prediction.jsonl", prediction)
    assert convert(folder, source) == 0
    assert read(folder) == [{**prediction, "text": "Answer: [100, 100, 500, 900] ."}]


def test_an_array_stays_an_array(folder: Path) -> None:
    (folder / "in.json").write_text(json.dumps([line(BOX), line("no")]))
    assert convert(folder, str(folder / "in.json"), out="out.json") == 0
    assert json.loads((folder / "out.json").read_text()) == [line("[100, 100, 500, 900]"), line("no")]


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (line("[0.1,0.2,0.3]"), "in.jsonl:2: conversations[1].value: '[0.1,0.2,0.3]': shikra cannot read it: wrong"),
        (line("[0.1,0.0,0.3,0.1]"), "[1].value: '[0.1,0.0,0.3,0.1]': shikra cannot read it: out_of_range"),
        (line(BOX, image="gone.png"), "gone.png: no such image"),
        (line(BOX, image=None), "in.jsonl:2: expected 'width' and 'height', or one image in image"),
        (line(BOX, image=None, images=["a.png", "b.png"]), "found 2"),
        (line(BOX, width=0, height=5), "in.jsonl:2: width: expected a whole number of at least 1, found int '0'"),
        (line(BOX, width=5, height=10**400), "in.jsonl:2: height: expected a whole number of at least 1, found int of"),
        ({"conversations": ["hi"]}, "in.jsonl:2: conversations[0]: expected an object with 'value', found str 'hi'"),
        ({"conversations": [{"value": 3}]}, "in.jsonl:2: conversations[0].value: expected a text, found int '3'"),
        ({"question": "?"}, "in.jsonl:2: expected a list 'conversations', or 'key' and 'text' of a"),
        ({"key": "gone.jsonl:1", "text": BOX}, "in.jsonl:2: key: the line that it names"),
        ({"key": "demo", "text": BOX}, "in.jsonl:2: expected 'width' and 'height'"),
    ],
)  # fmt: skip
def test_a_fault_names_its_line_and_leaves_no_output(
    folder: Path, capsys: pytest.CaptureFixture[str], record: dict[str, Any], message: str
) -> None:
    source = write(folder / "in.jsonl", line(BOX), record)
    assert convert(folder, source) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "in.jsonl"]


def test_points_that_the_target_has_no_form_for_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(folder / "in.jsonl", line("[0.5,0.5]"))
    assert convert(folder, source, to="llava15") == 1
    error = capsys.readouterr().err
    assert "ConfigError: " in error
    assert "in.jsonl:1: conversations[1].value: codec 'llava15' cannot write points" in error


def test_unreadable_answers_may_be_kept(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(folder / "in.jsonl", line("[0.1,0.2,0.3]"), line(BOX))
    assert convert(folder, source, "--unreadable", "keep") == 0
    assert [record["conversations"][1]["value"] for record in read(folder)] == ["[0.1,0.2,0.3]", "[100, 100, 500, 900]"]
    assert "1 texts were left unchanged, the first: " in capsys.readouterr().out


def test_a_file_without_regions_is_pointed_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(folder, write(folder / "in.jsonl", line("hm"))) == 0
    assert "read as shikra" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "qwen"], "unknown region codec type 'qwen'; did you mean"),
        (["--image-size", "0"], "image_size: expected a whole number of at least 1, found int '0'"),
    ],
)
def test_a_wrong_option_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], message: str
) -> None:
    assert convert(folder, write(folder / "in.jsonl", line(BOX)), *options) == 1
    assert message in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert(folder, write(folder / "in.jsonl", line(BOX)), out="no/such/out.jsonl") == 1
    assert "out.jsonl: cannot be written: No such file or directory" in capsys.readouterr().err


TALK = [
    {"from": "human", "value": "<image>\nWhere is <ref>the dog</ref>?"},
    {"from": "gpt", "value": "<ref>the dog</ref><box>[[100, 200, 500, 1000]]</box> and <box>[[0, 0, 333, 7]]</box>"},
]


def typed(folder: Path, source: str, *options: str) -> int:
    fixed = ["--from", "internvl", "--to", "typed", "--image-folder", str(folder)]
    return main(["regions", "convert", *fixed, *options, source, str(folder / "out.jsonl")])


def test_typed_lines_are_read_by_the_dataset(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text_only = {"conversations": [{"from": "human", "value": "1 + 1?"}, {"from": "gpt", "value": "[2]"}]}
    source = write(folder / "in.jsonl", {"image": "a.png", "conversations": TALK, "id": "ü"}, text_only)
    assert typed(folder, source) == 0
    assert read(folder) == [
        {
            "image": "a.png",
            "conversations": [
                {"from": "human", "value": "<image>\nWhere is the dog?"},
                {"from": "gpt", "value": "the dog <boxes> and <boxes>", "boxes_seq": [[0], [1]]},
            ],
            "id": "ü",
            "target": {"boxes": [[100, 100, 500, 500], [0, 0, 333, 3.5]]},
        },
        text_only,
    ]
    assert "2 groups of regions in 1 texts now are typed" in capsys.readouterr().out
    lifted = Instruct(filename=source, image_folder=str(folder), regions="internvl")
    written = Instruct(filename=str(folder / "out.jsonl"), image_folder=str(folder))
    for before, after in zip((lifted[0], lifted[1]), (written[0], written[1]), strict=True):
        assert (before.turns, before.boxes, before.truth) == (after.turns, after.boxes, after.truth)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            line("<box>[[1, 2, 3, 1200]]</box>"),
            "in.jsonl:1: conversations[1].value: '<box>[[1, 2, 3, 1200]]</box>': internvl cannot read it: out_of_range",
        ),
        (line("x", target={"boxes": [[0, 0, 1, 1]]}), "in.jsonl:1: expected regions in words, found typed ones"),
        (line("<boxes>"), "in.jsonl:1: expected regions in words, found typed ones"),
        (
            {"key": "a:1", "text": "[1, 2, 3, 4]"},
            "in.jsonl:1: expected records of a dataset for --to typed, found a prediction, whose boxes "
            "in pixels are in 'pred' already",
        ),
    ],
)
def test_what_cannot_be_typed_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str], record: dict[str, Any], message: str
) -> None:
    assert typed(folder, write(folder / "in.jsonl", record)) == 1
    assert message in capsys.readouterr().err
    assert not (folder / "out.jsonl").exists()


def test_unreadable_words_may_be_kept_as_they_are_among_typed_ones(folder: Path) -> None:
    broken = {"from": "gpt", "value": "<box>[[1, 2, 3]]</box>"}
    source = write(folder / "in.jsonl", {"image": "a.png", "conversations": [*TALK, TALK[0], broken]})
    assert typed(folder, source, "--unreadable", "keep") == 0
    assert read(folder)[0]["conversations"][3] == broken


def test_a_prediction_is_rewritten_from_its_bare_form(folder: Path) -> None:
    prediction = {"key": "demo", "text": "[[100, 200, 500, 1003]]", "image": "a.png"}
    source = write(folder / "in.jsonl", prediction)
    fixed = ["--from", "internvl", "--to", "qwen2_vl", "--image-folder", str(folder)]
    assert main(["regions", "convert", *fixed, source, str(folder / "out.jsonl")]) == 0
    assert read(folder)[0]["text"] == "[<|box_start|>(100,200),(500,1000)<|box_end|>]"


def test_a_file_is_not_converted_in_its_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(line(BOX, width=40, height=20)) + "\n")
    before = path.read_text()
    assert main(["regions", "convert", "--from", "shikra", "--to", "qwen_vl", str(path), str(path)]) == 1
    assert f"{path}: expected another file than IN, found the same; write" in capsys.readouterr().err
    assert path.read_text() == before

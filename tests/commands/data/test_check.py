from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.commands.data.tally import histogram
from mllm.errors import ImageError
from mllm.images import decode as decoding
from mllm.pipeline.splits import component_datasets, splits
from tests.commands.data.broken import PHOTOS, break_photos, rec, write


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", str(tmp_path / "cache"))


def test_every_fault_of_the_broken_copy_is_named_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, expected = break_photos(tmp_path)
    assert main(["data", "check", str(config), "--decode"]) == 1
    out = capsys.readouterr().out
    said = [line.removeprefix("warning: ") for line in out.split("\n\n")[0].splitlines()]
    missing = {
        place: text for place, text in expected.items() if not any(line.startswith(f"{place}: {text}") for line in said)
    }
    assert not missing, "\n".join(said)
    assert len(said) == len(expected)
    kinds = {match[1] for line in said if (match := re.search(r"\[([a-z-]+)\]$", line))}
    assert len(kinds) >= 30, kinds


def test_a_sound_set_has_no_faults_and_its_rows_are_summed_up(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train, held = rec(PHOTOS / "train.jsonl"), rec(PHOTOS / "heldout.jsonl")
    both = dict(type="ConcatDataset", datasets=[train, held])
    config = write(
        tmp_path, dict(train=both, multitest=dict(same=dict(cfg=both), held=dict(cfg=held)), max_length=4096)
    )
    assert main(["data", "check", str(config)]) == 0
    out = capsys.readouterr().out
    assert "train, multitest.same: 57 items, 28 images, 57 boxes, 0 points\n" in out
    assert "multitest.held: 15 items, 7 images, 15 boxes, 0 points\n" in out
    assert "max_length 4096: no answer is cut" in out
    (share,) = [line for line in out.splitlines() if "train.jsonl" in line]
    assert "42 ( 73.7%)" in share
    assert out.endswith("no faults\n")


def test_rows_are_those_of_training(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The rounds of an image in one conversation: faults by line, lengths by row."""
    inner = dict(rec(PHOTOS / "train.jsonl"))
    config = write(tmp_path, dict(train=dict(type="SamePicture", dataset=inner)))
    assert main(["data", "check", str(config)]) == 0
    assert "train: 21 items, 21 images, 42 boxes, 0 points" in capsys.readouterr().out


def test_rows_are_filled_as_far_as_there_is_room(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled = dict(type="MultiTurn", dataset=rec(PHOTOS / "train.jsonl"), draws=3)
    config = write(tmp_path, dict(train=filled, max_length=120))
    assert main(["data", "check", str(config)]) == 0
    out = capsys.readouterr().out
    assert "max_length 120: no answer is cut" in out
    assert int(re.findall(r"half at most (\d+)", out)[0]) > 90  # one alone has about 60


def test_all_lines_are_read_of_a_mixture_that_a_file_describes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [{"input": "Who?", "output": f"Nobody but {number}."} for number in range(9)]
    lines[8] = {"input": "Who?", "output": " "}
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    entry = {"dataset_name": "a", "json_path": str(tmp_path / "a.jsonl"), "img_dir": "", "ratio": 1}
    (tmp_path / "mix.json").write_text(json.dumps([entry]))
    drawn = dict(type="InstructFlamingoMixture", filename=str(tmp_path / "mix.json"), train_num_samples=3)
    config = write(tmp_path, dict(train=drawn))
    assert main(["data", "check", str(config), "--stand-in"]) == 1
    out = capsys.readouterr().out
    assert f"{tmp_path}/a.jsonl:9: output: expected words, found ' ' [blank-text]" in out
    assert "train: 3 items" in out
    assert "1 fault: 1 blank-text" in out


def test_what_a_dataset_of_ones_own_raises_is_a_fault_of_its_line(tmp_path: Path) -> None:
    from mllm.commands.data.faults import find_faults
    from mllm.dataset.base import LineDataset

    class Own(LineDataset):
        def record(self, line: dict[str, Any], rng: Any) -> dict[str, Any]:
            return {"conversations": line["turns"][0] + 1}

    (tmp_path / "own.jsonl").write_text('{"turns": []}\n')
    (fault,) = find_faults(Own(filename=str(tmp_path / "own.jsonl")), 0).faults
    assert str(fault) == f"{tmp_path}/own.jsonl:1: reading it raises IndexError: list index out of range [crash]"


@pytest.mark.parametrize(
    ("mask", "reason"),
    [
        ({"size": [4, 6], "counts": [20, 4]}, ""),
        ({"size": [6, 4], "counts": [20, 4]}, "expected the mask of a 6 x 4 image, found one of 4 x 6 [image-size]"),
        (
            {"size": [4, 6], "counts": [20]},
            "expected runs of 4 x 6 pixels, found list '[20]': its runs cover 20 pixels",
        ),
        ({"size": [4, 6], "counts": "#"}, "expected runs of 4 x 6 pixels, found str '#'"),
    ],
)
def test_a_mask_that_no_metric_could_use_is_a_fault(mask: Any, reason: str, tmp_path: Path) -> None:
    from mllm.commands.data.faults import find_faults
    from mllm.dataset.sets.points import PointList

    Image.new("RGB", (6, 4)).save(tmp_path / "a.png")
    (tmp_path / "pool.json").write_text('["<image> <expr>"]')
    line = {"img_path": "a.png", "expression": "it", "points": [[1, 2]], "masks": [mask]}
    (tmp_path / "a.jsonl").write_text(json.dumps(line))
    files: dict[str, Any] = {"filename": str(tmp_path / "a.jsonl"), "questions": str(tmp_path / "pool.json")}
    faults = find_faults(PointList(**files, image_folder=str(tmp_path)), 0).faults
    assert len(faults) == bool(reason)
    assert all(str(fault).startswith(f"{tmp_path}/a.jsonl:1: truth.masks[0]: {reason}") for fault in faults)


def test_an_image_that_fails_is_asked_for_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that stalls takes minutes each time."""
    asked: list[str] = []

    def size_of(source: str, *_: object) -> tuple[int, int]:
        asked.append(source)
        raise ImageError(f"{source}: not fetched in 4 tries")

    monkeypatch.setattr(decoding, "size_of", size_of)
    (tmp_path / "a.jsonl").write_text('{"img_path": "a.jpg", "expression": "it", "bbox": [1, 1, 50, 60]}\n')
    config = write(tmp_path, dict(train=rec(tmp_path / "a.jsonl")))
    assert main(["data", "check", str(config), "--stand-in", "--decode"]) == 1
    assert "a.jpg: not fetched in 4 tries [unreadable-image]" in capsys.readouterr().out
    assert len(asked) == 1


def test_a_box_that_the_model_does_not_see_is_a_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text(
        '{"img_path": "000000000790.jpg", "expression": "it", "bbox": [1, 1, 50, 400], "width": 640, "height": 422}\n'
    )
    config = write(tmp_path, dict(train=rec(tmp_path / "a.jsonl")), placement="crop")
    assert main(["data", "check", str(config), "--stand-in"]) == 1
    assert (
        "a.jsonl:1: target.boxes[0]: expected a box in what the model sees of its image, found [1, 1, 50, 400]"
        in capsys.readouterr().out
    )


def test_a_set_without_a_readable_item_trains_no_tokenizer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.jsonl").write_text("{}\n")
    config = write(tmp_path, dict(train=rec(tmp_path / "a.jsonl")))
    assert main(["data", "check", str(config)]) == 1
    said = capsys.readouterr().err
    assert (
        "data_args.train: expected items to train the config's tokenizer on, found 1, none of which can be "
        "read; the first: " in said
    )
    assert "a.jsonl:1: expression: expected a text" in said
    assert main(["data", "check", str(config), "--stand-in"]) == 1
    assert "a.jsonl:1: expression: expected a text, found nothing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--split", "tests"],
            "ConfigError: --split: expected a dataset of the config, found str 'tests'; did you mean 'test'?",
        ),
        (
            ["--cfg-options", "model_args.model_name_or_path=/no/folder"],
            "expected the folder of a model, found /no/folder, which does not exist; use --stand-in to read",
        ),
        (
            ["--stand-in", "--cfg-options", "data_args.multitest.a.cgf.type=REC"],
            "data_args.multitest.a.cgf: unknown name; did you mean 'cfg'?",
        ),
        (
            ["--stand-in", "--cfg-options", "data_args.test=None"],
            "expected train, validation, test or multitest, found none",
        ),
    ],
)
def test_what_a_user_can_mend_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    config = write(tmp_path, dict(test=rec(PHOTOS / "heldout.jsonl")))
    assert main(["data", "check", str(config), *arguments]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert len(error.splitlines()) == 1


@pytest.mark.parametrize("given", ["-1", "x"])
def test_a_number_of_processes_that_is_none(given: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "config.py", "--workers", given]) == 2
    said = capsys.readouterr().err
    assert said.startswith("mllm data check: ")
    assert "'--workers'" in said
    assert len(said.splitlines()) == 1


def test_equal_datasets_are_one_split_and_mixtures_have_parts() -> None:
    a, b = dict(type="REC", filename="a"), dict(type="REC", filename="b")
    part = dict(type="Subset", dataset=a, first=1)
    mix = dict(type="ConcatDataset", datasets=[dict(type="SamePicture", dataset=a), b, part])
    found = splits(dict(train=mix, test=b, multitest=dict(x=dict(cfg=b), left_out=None)))
    assert [split.names for split in found] == [("train",), ("test", "multitest.x")]
    assert [split.epoch for split in found] == [0, None]
    assert component_datasets(mix) == [a, b, part]


def test_bars_hold_every_length_once() -> None:
    assert histogram([3, 3, 4], max_length=4) == [f"   3  {'█' * 40} 2", f"   4  {'█' * 20} 1  <- max_length"]
    lines = histogram([7, 1900, *[950] * 50])
    assert lines[0].startswith("       0 to    199  █ 1")
    assert lines[1].startswith("     200 to    399   0")
    assert sum(int(line.split()[-1]) for line in lines) == 52


def test_a_test_item_whose_truth_lies_on_another_image_is_a_fault(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [
        {"from": "human", "value": "<image><image>\nWhere?"},
        {"from": "gpt", "value": "<boxes>", "boxes_seq": [[0]]},
    ]
    line = {
        "images": ["000000000790.jpg"] * 2,
        "conversations": said,
        "target": {"boxes": [[1, 2, 30, 40]], "boxes_image": [1]},
    }
    about = {**line, "conversations": [{**said[0], "image": 1}, said[1]]}
    (tmp_path / "a.jsonl").write_text(f"{json.dumps(line)}\n{json.dumps(about)}\n")
    dataset = dict(type="Instruct", filename=str(tmp_path / "a.jsonl"), image_folder=str(PHOTOS / "images"))
    assert main(["data", "check", str(write(tmp_path, dict(test=dataset))), "--stand-in"]) == 1
    out = capsys.readouterr().out
    assert "a.jsonl:1: truth.boxes[0]: expected a region on image 0, which the question is about, found one on" in out
    assert "1 fault: 1 image-number" in out
    assert main(["data", "check", str(write(tmp_path, dict(train=dataset))), "--stand-in"]) == 0

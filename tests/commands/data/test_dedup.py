from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from tests.commands.data.broken import PHOTOS, rec, write

STORY = (
    "The tall man in the red coat walks his small brown dog along the quiet river while two children feed the ducks."
)


def talks(path: Path, *answers: str, image: str | None = None) -> dict[str, Any]:
    said = [
        {"image": image, "conversations": [{"from": "human", "value": "Tell me."}, {"from": "gpt", "value": answer}]}
        for answer in answers
    ]
    path.write_text("".join(json.dumps(each) + "\n" for each in said))
    return dict(type="Instruct", filename=str(path), image_folder=str(path.parent))


def found(folder: Path, data: dict[str, Any], *arguments: str, status: int) -> dict[str, Any]:
    config = write(folder, data)
    assert main(["data", "dedup", str(config), "--out", str(folder / "out.json"), *arguments]) == status
    return json.loads((folder / "out.json").read_text())


def test_the_example_set_is_clean(tmp_path: Path) -> None:
    data = dict(train=rec(PHOTOS / "train.jsonl"), test=rec(PHOTOS / "heldout.jsonl"))
    report = found(tmp_path, data, status=0)
    assert report["pictures"] == report["texts"] == report["unread"] == []
    assert report["counts"] == {"pictures": 28, "texts": 0, "short texts": 57}


def test_test_images_in_training_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The file itself, the same pixels in another file, and the image half as large at another quality."""
    folder = tmp_path / "images"
    folder.mkdir()
    names = [f"{number:012}.jpg" for number in (790, 885, 7574, 107438)]
    for name in names:
        (folder / name).write_bytes((PHOTOS / "images" / name).read_bytes())
    (folder / "copy.jpg").write_bytes((folder / names[1]).read_bytes())
    with Image.open(folder / names[2]) as image:
        image.resize((image.width // 2, image.height // 2)).save(folder / "small.jpg", quality=40)
    for path, images in (("train.jsonl", names), ("test.jsonl", [names[0], "copy.jpg", "small.jpg"])):
        lines = [json.dumps({"img_path": name, "expression": "it", "bbox": [1, 2, 30, 40]}) for name in images]
        (tmp_path / path).write_text("\n".join(lines) + "\n")
    data = dict(train=rec(tmp_path / "train.jsonl", folder), test=rec(tmp_path / "test.jsonl", folder))
    report = found(tmp_path, data, status=1)
    assert [(each["second"], each["leak"]) for each in report["pictures"]] == [
        (f"{tmp_path}/test.jsonl:{line}: {folder}/{name}", True)
        for line, name in ((1, names[0]), (2, "copy.jpg"), (3, "small.jpg"))
    ]
    assert [each["first"] for each in report["pictures"]] == [
        f"{tmp_path}/train.jsonl:{line}: {folder}/{names[line - 1]}" for line in (1, 2, 3)
    ]
    hows = [each["how"] for each in report["pictures"]]
    assert hows[:2] == ["the same image as", "pixel for pixel"]
    out = capsys.readouterr().out
    assert "5 images compared" not in out
    assert "  of test sets in training: 3\n" in out


def test_texts_alike_are_found_and_wordings_are_not_texts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wording = "Please look at this image with care and then say in a few words what it is that you can see in it"
    nearly = STORY.replace("two children", "some children")
    others = [f"{wording}: number {number}" for number in range(30)]
    data = dict(
        train=talks(tmp_path / "train.jsonl", *others, STORY, STORY),
        test=talks(
            tmp_path / "test.jsonl", nearly, "One man in a red coat walks along a river, and that is about all of it."
        ),
    )
    report = found(tmp_path, data, "--similarity", "0.6", status=0)  # no image leaks
    place = f"{tmp_path}/train.jsonl:31: "
    assert [(each["second"][: len(place)], each["how"], each["leak"]) for each in report["texts"]] == [
        (f"{tmp_path}/train.jsonl:32: "[: len(place)], "word for word", False),
        (f"{tmp_path}/test.jsonl:1: 'Tell me. The"[: len(place)], report["texts"][1]["how"], True),
    ]
    assert all(each["first"].startswith(place) for each in report["texts"])
    assert report["counts"]["texts"] == 4
    assert "4 texts compared, 30 are too short for it\n  of test sets in training: 1\n" in capsys.readouterr().out


def test_a_test_set_that_is_training_data_is_said_to_be(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    train = rec(PHOTOS / "train.jsonl")
    mix = dict(type="ConcatDataset", datasets=[train, rec(PHOTOS / "heldout.jsonl")])
    found(tmp_path, dict(train=mix, test=train), status=0)
    assert "test is also training data in this config: not compared with itself" in capsys.readouterr().out


def test_what_cannot_be_read_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = [{"img_path": name, "expression": "it", "bbox": [1, 2, 3, 4]} for name in ("gone.jpg", "petrel://a/b.jpg")]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, [*lines, {}])))
    report = found(tmp_path, dict(train=rec(tmp_path / "a.jsonl", tmp_path)), status=0)
    assert [reason.split(": ")[:2] for reason in report["unread"]] == [
        [f"{tmp_path}/a.jsonl:3", "expression"],
        [f"{tmp_path}/a.jsonl:1", f"{tmp_path}/gone.jpg"],
        [
            f"{tmp_path}/a.jsonl:2",
            "images in ceph need the package petrel_client, which comes with the ceph cluster, not from PyPI",
        ],
    ]
    assert "could not be read (see mllm data check): 3" in capsys.readouterr().out

"""One question about each image of a folder."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm import cli
from mllm.images import FileImage
from mllm.serve.chat_model import ChatModel, load

MODEL = str(Path(__file__).parents[1] / "assets" / "saved_before_rooms")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "more").mkdir(parents=True)
    for number, name in enumerate(("b.png", "a.jpg", "more/c.png")):
        Image.new("RGB", (40, 30), (60 * number, 9, 99)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


def ask(photos: Path, out: Path, *more: str, prompt: str = "Where is it?") -> int:
    words = ["--images", str(photos), "--prompt", prompt, "--out", str(out), "--max_new_tokens", "4", "--device", "cpu"]
    return cli.main(["predict", "--model", MODEL, *words, *more])


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_answer_folder_writes_a_line_for_each_image_and_goes_on_where_it_was_cut(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out.jsonl"
    assert ask(photos, out) == 0
    whole = out.read_bytes()
    found = lines(out)
    assert [line["image"] for line in found] == ["a.jpg", "b.png", "more/c.png"]
    alone = load(MODEL, device="cpu").chat(photos / "a.jpg", "Where is it?", max_new_tokens=4)
    assert found[0]["image_size"] == [40, 30]
    assert (found[0]["text"], found[0]["boxes"]) == (alone.text, [list(box.xyxy) for box in alone.boxes])
    out.write_bytes(whole[: len(whole) - 9])  # cut inside the last line
    asked: list[Any] = []
    really = ChatModel.chat

    def ask_once(self: ChatModel, image: Any, prompt: str, **given: Any) -> Any:
        asked.append(image)
        return really(self, image, prompt, **given)

    monkeypatch.setattr(ChatModel, "chat", ask_once)
    assert ask(photos, out) == 0
    assert (out.read_bytes(), asked) == (whole, [FileImage(str(photos / "more/c.png"))])


def test_answer_folder_draws_each_answer_on_the_upright_image(photos: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6  # stored turned by a quarter
    Image.new("RGB", (30, 40)).save(photos / "a.jpg", exif=exif)
    assert ask(photos, tmp_path / "out.jsonl", "--draw", str(tmp_path / "drawn")) == 0
    drawn = sorted(str(path.relative_to(tmp_path / "drawn")) for path in (tmp_path / "drawn").rglob("*.png"))
    assert drawn == ["a.jpg.png", "b.png.png", "more/c.png.png"]
    assert Image.open(tmp_path / "drawn" / "a.jpg.png").size == (40, 30)


def test_answer_folder_names_an_image_that_cannot_be_read(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "b.png").write_bytes(b"no png")
    out = tmp_path / "out.jsonl"
    assert ask(photos, out) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert str(photos / "b.png") in error
    assert "--on_error skip" in error
    assert [line["image"] for line in lines(out)] == ["a.jpg"]
    assert ask(photos, out, "--on_error", "skip") == 0
    assert "1 could not be read: b.png" in capsys.readouterr().out
    found = lines(out)
    assert [line["image"] for line in found] == ["a.jpg", "b.png", "more/c.png"]
    assert str(photos / "b.png") in found[1]["error"]
    Image.new("RGB", (40, 30)).save(photos / "b.png")
    assert ask(photos, out, "--on_error", "skip") == 0
    assert [(line["image"], "error" in line) for line in lines(out)] == [
        ("a.jpg", False),
        ("more/c.png", False),
        ("b.png", False),
    ]


def test_answer_folder_follows_no_link_out_of_the_folder(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "secret.png")
    (photos / "b.png").unlink()
    (photos / "b.png").symlink_to(tmp_path / "secret.png")
    out = tmp_path / "out.jsonl"
    assert ask(photos, out) == 1
    assert f"{photos / 'b.png'}: a link leads out of its image_folder" in capsys.readouterr().err
    assert ask(photos, out, "--on_error", "skip") == 0
    assert [line["image"] for line in lines(out) if "error" in line] == ["b.png"]


def test_answer_folder_refuses_a_file_of_another_question(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.jsonl"
    assert ask(photos, out) == 0
    assert ask(photos, out, prompt="What?") == 1
    assert "out.jsonl:1: prompt: expected str 'What?', found str 'Where is it?'" in capsys.readouterr().err
    assert ask(photos, out, "--num_beams", "2") == 1
    assert "out.jsonl:1: num_beams: expected int '2', found int '1'" in capsys.readouterr().err
    out.write_bytes(b"\xff\n")
    assert ask(photos, out) == 1
    assert "ConfigError: " in (error := capsys.readouterr().err)
    assert "out.jsonl:1: expected UTF-8, found byte 0xff" in error


@pytest.mark.parametrize("more", [["--image", "a.png"], ["--box", "1,2,3,4"]])
def test_answer_folder_takes_one_image_at_a_time(more: list[str], photos: Path, tmp_path: Path) -> None:
    assert ask(photos, tmp_path / "out.jsonl", *more) == 2


def test_predict_refuses_options_of_a_folder_without_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "--model", MODEL, "--prompt", "?", "--on_error", "skip"]) == 2
    assert "--out and --on_error need --images FOLDER" in capsys.readouterr().err


def test_answer_folder_waits_for_no_pipe(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(tmp_path / "out.jsonl")
    assert ask(photos, tmp_path / "out.jsonl") == 1
    assert f"ConfigError: {tmp_path}/out.jsonl: expected a file, found a pipe" in capsys.readouterr().err


def test_answer_folder_needs_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(tmp_path, tmp_path / "out.jsonl") == 1
    assert ask(tmp_path / "gone", tmp_path / "out.jsonl") == 1
    said = capsys.readouterr().err
    assert "expected images (" in said
    assert "no such folder" in said

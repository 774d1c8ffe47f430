"""One question on the command line."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from safetensors.torch import load_file, save_file

from mllm import cli
from mllm.errors import ModelError
from mllm.serve.ask import draw_answer
from mllm.serve.chat_model import ChatModel, load
from mllm.serve.question import Message, to_item
from mllm.serve.reading import Answer, Region
from mllm.types import Box
from tests.pipeline.tiny import write_config

RED = (230, 25, 75)


def said(text: str, images: list[Any], *boxes: Box) -> Answer:
    """An answer with a region for each box."""
    regions = tuple(Region(index=0, boxes=(box,), image=box.image) for box in boxes)
    item = to_item([Message(role="user", text="Where?", images=images)])
    return Answer(text=text, regions=regions, boxes=boxes, item=item, message=Message(role="assistant", text=text))


def test_the_command_prints_and_draws(
    trained: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_box(self: ChatModel, images: Any, *given: Any, **more: Any) -> Answer:
        return said("there", images, Box(x1=4, y1=5, x2=20, y2=21))

    monkeypatch.setattr(ChatModel, "chat", with_a_box)
    drawn = tmp_path / "drawn.png"
    command = ["predict", "--model", str(trained), "--image", str(photo), "--prompt", "<image>the color is"]
    assert cli.main([*command, "--draw", str(drawn), "--template", "completion"]) == 0
    assert capsys.readouterr().out.splitlines() == ["there", "box   4.0 5.0 20.0 21.0", f"drawn: {drawn}"]
    image = Image.open(drawn)
    assert image.getpixel((10, 5)) == image.getpixel((4, 12)) == RED
    assert image.getpixel((10, 10)) == Image.open(photo).convert("RGB").getpixel((10, 10))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_draw_answer_draws_on_what_the_model_saw(orientation: int, tmp_path: Path) -> None:
    """A photo that its camera stored turned or mirrored, 30 x 20 upright, its top left corner white."""
    upright = Image.new("RGB", (30, 20), "black")
    upright.paste("white", (0, 0, 10, 10))
    undo = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}  # of Pillow's transpositions, those that turn back
    stored = upright.transpose(Image.Transpose(undo[orientation])) if orientation > 1 else upright
    exif = Image.Exif()
    exif[274] = orientation
    stored.save(tmp_path / "a.png", exif=exif)
    answer = said("", [str(tmp_path / "a.png")], Box(x1=12, y1=4, x2=26, y2=16))
    (path,) = draw_answer(answer, tmp_path / "b.png")
    drawn = Image.open(path)
    assert drawn.size == (30, 20)
    assert drawn.getpixel((2, 2)) == (255, 255, 255)
    assert drawn.getpixel((12, 10)) == drawn.getpixel((20, 4)) == RED


def test_draw_answer_draws_each_box_on_its_own_image(tmp_path: Path) -> None:
    images = [Image.new("RGB", (20, 20)), Image.new("I;16", (30, 30), 65535)]
    boxes = Box(x1=1, y1=1, x2=9, y2=9), Box(x1=5, y1=5, x2=25, y2=25, image=1)
    paths = draw_answer(said("", images, *boxes), tmp_path / "a.png")
    assert [path.name for path in paths] == ["a.png", "a_2.png"]
    first, second = map(Image.open, paths)
    assert (first.getpixel((1, 5)), first.getpixel((5, 15))) == (RED, (0, 0, 0))
    assert (second.getpixel((5, 15)), second.getpixel((1, 5))) == (RED, (255, 255, 255))


def test_draw_answer_without_regions_shows_the_image_of_the_question(tmp_path: Path) -> None:
    images = [Image.new("RGB", (20, 20)), Image.new("RGB", (8, 8))]
    item = to_item([Message(role="user", text="Where?", images=images)], answer_image=1)
    answer = Answer(text="", item=item, message=Message(role="assistant", text=""))
    (path,) = draw_answer(answer, tmp_path / "a.png")
    assert Image.open(path).size == (8, 8)


@pytest.mark.parametrize(
    ("drawn", "status", "message"),
    [
        ("answer.txt", 1, "--draw: expected the name of an image file, such as answer.png, found "),
        ("answer", 1, "--draw: expected the name of an image file"),
        ("no/such/folder/a.png", 1, "--draw: expected a file in an existing folder, found "),
    ],
)
def test_a_drawing_that_cannot_be_written_is_one_line(
    drawn: str,
    status: int,
    message: str,
    trained: Path,
    photo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    words = ["--model", str(trained), "--image", str(photo), "--prompt", "Where?", "--draw", str(tmp_path / drawn)]
    assert cli.main(["predict", *words]) == status
    assert message in capsys.readouterr().err.strip().splitlines()[-1]


def test_a_folder_that_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["predict", "--model", str(tmp_path), "--prompt", "hello"]) == 1
    assert "set model_args.type" in capsys.readouterr().err
    assert cli.main(["predict", "--model", str(tmp_path / "gone"), "--prompt", "hello"]) == 1
    assert f"{tmp_path / 'gone'}: expected the folder of a trained model" in capsys.readouterr().err


def test_a_model_whose_scores_are_not_finite_gives_no_answer(
    trained: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its weights may be finite, and so large that no product of theirs is."""
    folder = shutil.copytree(trained, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    weights["language_model.lm_head.weight"].fill_(3e38)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match="scores of the next token are nan or infinite"):
        load(folder).chat(photo, "Where?")
    with pytest.raises(ModelError, match="scores of the next token are nan or infinite"):
        list(load(folder).chat(photo, "Where?", stream=True))
    config = write_config(tmp_path, model_args={"model_name_or_path": str(folder)})
    parts = ("vision_tower", "language_model", "connector", "feature_layer", "tokenizer")
    gone = [f"model_args.{name}=None" for name in parts]
    assert cli.main(["predict", str(config), "--output_dir", str(tmp_path / "out"), "--cfg-options", *gone]) == 1
    assert "ModelError: the scores of the next token are nan or infinite" in capsys.readouterr().err


def test_what_a_model_says_does_not_steer_the_terminal(
    trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(ChatModel, "chat", lambda *given, **more: said("red\x1b[31m\x18\nblue", []))
    assert cli.main(["predict", "--model", str(trained), "--prompt", "What colour?"]) == 0
    assert capsys.readouterr().out == "red\\x1b[31m\\x18\nblue\n"

"""Converters that deal in image files: MIMIC-IT, and a folder for each class."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from PIL import Image

from mllm import cli
from mllm.images import Video
from tests.tools.convert.layouts import LAYOUTS, MIMIC_IT, MIMIC_IT_IMAGES, Items, Run, Save, image

GIF = base64.b64encode(image("red", "gif")).decode()
FILES = ("DC_IMG_0.jpg", "DC_IMG_1.png", "DC_IMG_2.jpg")


def colour(path: Path) -> tuple[int, ...]:
    with Image.open(path) as image:
        return image.convert("RGB").getpixel((0, 0))  # pyright: ignore


def test_mimic_it(run: Run, items: Items, tmp_path: Path) -> None:
    run("mimic_it")
    (item,) = items("mimic_it_DC.jsonl", "Instruct", image_folder=str(tmp_path / "images"))
    assert [turn.text for turn in item.turns] == [
        *("<image>\nWho?", "A dog."),
        *("<image><image>\nWhere?", "In town."),
    ]
    assert sorted(path.name for path in (tmp_path / "images").iterdir()) == list(FILES)
    assert [ref.size for ref in item.images] == [(8, 6)] * 3
    assert colour(tmp_path / "images" / FILES[1]) == (0, 128, 0)


def test_images_that_are_there_stay(run: Run, tmp_path: Path) -> None:
    run("mimic_it")
    before = (tmp_path / "images" / FILES[0]).stat().st_mtime_ns
    (tmp_path / "images" / FILES[2]).unlink()
    run("mimic_it")
    assert (tmp_path / "images" / FILES[0]).stat().st_mtime_ns == before
    assert (tmp_path / "images" / FILES[2]).exists()


def test_mimic_it_as_video(run: Run, items: Items, tmp_path: Path) -> None:
    run("mimic_it")
    words = LAYOUTS["mimic_it"].words
    run("mimic_it", *words, "--video", "--frames", "1", "--shared-pictures")
    (item,) = items("mimic_it_DC.jsonl", "Instruct", image_folder=str(tmp_path / "images"))
    assert [turn.text for turn in item.turns[::2]] == ["<image>\nWho?", "Where?"]
    (video,) = item.images
    assert isinstance(video, Video)
    assert [str(frame) for frame in video.frames] == [f"FileImage(path='{tmp_path}/images/{FILES[1]}')"]


def test_mimic_it_without_images(run: Run, save: Save, items: Items) -> None:
    line = {"instruction": "Hello", "answer": "Hi.", "image_ids": [], "rel_ins_ids": []}
    run("mimic_it", save("T_instructions.json", {"meta": {}, "data": {"T_0": line}}))
    (item,) = items("mimic_it_T.jsonl", "Instruct")
    assert item.images == ()
    alone = run("mimic_it", save("T_instructions.json", MIMIC_IT), "--pictures", "images", status=1)
    assert "expected --images and --pictures, or neither" in alone


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        ("../DC_IMG_0", MIMIC_IT_IMAGES["DC_IMG_0"], "expected ids that are names of files, found str '../DC_IMG_0'"),
        ("DC_IMG_0", GIF, "DC_IMG_0: expected a JPEG or a PNG, found b'GIF87a"),
        ("DC_IMG_0", "a.png", "DC_IMG_0: expected base64, found b'a.png'"),
    ],
)
def test_bad_images(run: Run, save: Save, tmp_path: Path, name: str, code: str, message: str) -> None:
    data = {"A": {"instruction": "Who?", "answer": "A dog.", "image_ids": [name], "rel_ins_ids": []}}
    files = save("DC_instructions.json", {"data": data}), "--images", save("DC.json", {name: code})
    assert message in run("mimic_it", *files, "--pictures", "images", status=1)
    assert not list(tmp_path.rglob("DC_IMG_0*"))


def test_image_folder(run: Run, save: Save, items: Items, tmp_path: Path) -> None:
    run("image_folder")
    save("weather/rain/2.jpg", image("blue")[:100])
    shown = run("image_folder", *LAYOUTS["image_folder"].words, "--name", "sky")
    snow, rain = items("sky.jsonl", "Instruct", image_folder=str(tmp_path / "weather"))
    assert snow.turns[0].text == "<image>\nWhat is the weather? Options: heavy snow, rain."
    assert [item.turns[1].text for item in (snow, rain)] == ["heavy snow", "rain"]
    assert snow.images[0].size == (8, 6)
    assert "1  left out: images that cannot be opened" in shown
    before = (tmp_path / "out" / "weather.jsonl").read_bytes()
    (tmp_path / "weather" / "heavy_snow" / "1.jpg").unlink()
    assert "weather/heavy_snow: expected images (" in run("image_folder", *LAYOUTS["image_folder"].words, status=1)
    assert (tmp_path / "out" / "weather.jsonl").read_bytes() == before


def test_data_check_reads_what_was_written(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for source in ("mimic_it", "image_folder", "alpaca"):
        run(source)
    folders = {"mimic_it_DC": "images", "weather": "weather"}
    parts = [
        dict(type="Instruct", filename=str(tmp_path / "out" / f"{name}.jsonl"), image_folder=str(tmp_path / folder))
        for name, folder in folders.items()
    ]
    parts.append(dict(type="TextOnly", filename=str(tmp_path / "out" / "alpaca_data.jsonl")))
    config = tmp_path / "config.py"
    config.write_text(f"data_args = dict(train=dict(type='ConcatDataset', datasets={parts!r}))\n")
    assert cli.main(["data", "check", str(config), "--stand-in", "--workers", "0"]) == 0
    assert "train: 4 items" in capsys.readouterr().out

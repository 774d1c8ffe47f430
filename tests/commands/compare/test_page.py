from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.images import MemoryImage
from mllm.metrics.outcome import PREDICTIONS, as_record
from mllm.metrics.rec import REC
from mllm.report.gallery import CardAnswer, Entry, write_data
from mllm.types import Box, GroundTruth, Prediction


def answers(folder: Path, name: str, right: list[bool], *, image: str = "{}.png", text: str = "here") -> str:
    """Predictions of `right` or wrong boxes, two for each image."""
    (folder / name).mkdir()
    with (folder / name / f"eval_{PREDICTIONS}").open("w") as file:
        for index, hit in enumerate(right):
            prediction = Prediction(
                key=f"a:{index}",
                index=index,
                text=text,
                boxes=(Box(x1=2 if hit else 20, y1=3, x2=12 if hit else 30, y2=13),),
                truth=GroundTruth(boxes=(Box(x1=2, y1=3, x2=12, y2=13),)),
                group={"split": "testA" if index % 2 else "testB"},
                image_size=(200, 150),
            )
            record = as_record(prediction, image=image.format(index // 2), question="<image> Where?", metric=REC())
            file.write(json.dumps(record) + "\n")
    return str(folder / name)


def compared(folder: Path, *paths: str) -> tuple[str, dict[str, Any]]:
    """The page, and its first file of data."""
    assert main(["compare", *paths, "--output_dir", str(folder / "out")]) == 0
    data = (folder / "out" / "compare_files" / "000.js").read_text()
    html = (folder / "out" / "compare.html").read_text()
    return html, json.loads(data.removeprefix("loaded(").removesuffix(")\n"))


def test_compare_writes_a_page_of_what_only_one_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        Image.new("RGB", (200, 150)).save(tmp_path / f"{number}.png")
    image = str(tmp_path / "{}.png")
    a = answers(tmp_path, "a", [True, True, False, False], image=image)
    b = answers(tmp_path, "b", [True, False, True, False], image=image)
    html, data = compared(tmp_path, a, b)
    assert f"page: {tmp_path / 'out' / 'compare.html'}" in capsys.readouterr().out
    assert "b/eval is right, a/eval is wrong <small>1 of 1" in html
    assert "b/eval by split" in html
    assert "neither is better by these answers" in html or "no difference was found" in html
    items = data["items"]
    assert [item["kinds"]["right"] for item in items] == ["all", "only a/eval", "only b/eval", "none"]
    assert [answer["verdict"] for answer in items[1]["answers"]] == ["right, IoU 1.00", "wrong, IoU 0.00"]
    assert [answer["regions"] for answer in items[1]["answers"]] == [[[2, 3, 12, 13]], [[20, 3, 30, 13]]]
    assert items[1]["measures"]["b/eval - a/eval"] == -1
    assert items[1]["question"] == ["Where?"]
    assert data["images"][0]["source"] == "../0.png"
    assert html.count("data:image/jpeg") == 2


def test_compare_page_of_three_models(tmp_path: Path) -> None:
    models = [[True, True, False, False], [True, False, True, False], [False, False, True, False]]
    paths = [answers(tmp_path, name, right) for name, right in zip("abc", models, strict=True)]
    html, data = compared(tmp_path, *paths)
    assert [item["kinds"]["right"] for item in data["items"]] == [
        *("only a/eval, b/eval", "only a/eval", "only b/eval, c/eval", "none"),
    ]
    assert "image" not in data["items"][0]
    assert html.count("A is a/eval, B is") == 2


def test_compare_page_takes_copies_of_images_beside_a_report(tmp_path: Path) -> None:
    paths = [answers(tmp_path, name, [name == "a", True, False], image="in memory {}") for name in "ab"]
    scene = MemoryImage(Image.new("RGB", (200, 150)))
    entry = Entry(index=0, key="a:0", answers=(CardAnswer(text="", verdict=""),), name="in memory 0", image=scene)
    write_data(tmp_path / "b" / "eval_report.html", [entry], ["b"])
    _, data = compared(tmp_path, *paths)
    (image,) = data["images"]
    assert (tmp_path / "out" / image["source"]).is_file()
    assert (image["name"], image["width"], image["height"]) == ("in memory 0", 200, 150)
    assert [item.get("image") for item in data["items"]] == [0, 0, None]


def test_compare_page_escapes_names_and_texts(tmp_path: Path) -> None:
    attack = "<img src=x onerror=alert(1)>"
    paths = [answers(tmp_path, f"{attack}{n}", [n == 0, True, False], text=f"</script>{attack}") for n in range(2)]
    html, data = compared(tmp_path, *paths)
    assert "<img src=x" not in html
    assert "</script>&lt;img" not in html
    assert data["items"][0]["answers"][0]["text"] == f"</script>{attack}"

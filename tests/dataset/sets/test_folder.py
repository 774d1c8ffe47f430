from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.sets.folder import ImageFolder
from mllm.errors import ConfigError, DataError


@pytest.fixture
def weather(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., ImageFolder]:
    for name in ("rain/b.jpg", "rain/a.PNG", "heavy_snow/deep/c.jpg", ".git/d.jpg", "heavy_snow/.hidden.jpg"):
        path = tmp_path / "weather" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    (tmp_path / "weather" / "rain" / "notes.txt").write_text("not an image")

    def make(**arguments: Any) -> ImageFolder:
        folder = str(tmp_path / "weather")
        return ImageFolder(folder=folder, question="How is it?", questions=pool(["<image>\n<question>"]), **arguments)

    return make


def test_a_folder_for_each_class(weather: Callable[..., ImageFolder]) -> None:
    dataset = weather()
    assert [Path(path).name for path, _ in dataset.files] == ["c.jpg", "a.PNG", "b.jpg"]
    assert [dataset[index].turns[1].text for index in range(len(dataset))] == ["heavy snow", "rain", "rain"]
    assert dataset[0].turns[0].text == "<image>\nHow is it? Options: heavy snow, rain."
    assert dataset[0].truth.texts == ("heavy snow",)
    assert dataset[0].truth.options == ("heavy snow", "rain")
    assert dataset[0].images[0].size == (4, 4)
    assert [dataset[index].key.rpartition("weather/")[2] for index in range(3)] == [
        "heavy_snow[0]",
        "rain[0]",
        "rain[1]",
    ]


def test_options_are_drawn_in_training(weather: Callable[..., ImageFolder]) -> None:
    dataset = weather()
    asked: set[str] = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        asked.add(dataset[0].turns[0].text)
    assert len(asked) == 2
    assert weather(options=False)[0].turns[0].text == "<image>\nHow is it?"


def test_names(weather: Callable[..., ImageFolder]) -> None:
    assert weather(names={"rain": "wet"})[1].turns[1].text == "wet"
    with pytest.raises(ConfigError, match=r"names: expected a folder in .*, found str 'rian'; did you mean 'rain'"):
        weather(names={"rian": "wet"})
    with pytest.raises(
        ConfigError, match=r"names: expected a name of its own for each folder of .*, found '.*' for \w+, \w+"
    ):
        weather(names={"rain": "heavy snow"})


def test_folders_that_hold_no_classes(tmp_path: Path, weather: Callable[..., ImageFolder]) -> None:
    (tmp_path / "weather" / "sun").mkdir()
    with pytest.raises(DataError, match=r"weather/sun: expected images \(\.jpg, .*\), found none"):
        weather()
    arguments = dict(question="?", questions="config/questions/vqa.json")
    with pytest.raises(DataError, match="no such folder"):
        ImageFolder(folder=str(tmp_path / "none"), **arguments)
    with pytest.raises(DataError, match="expected a folder for each of at least two classes, found 0"):
        ImageFolder(folder=str(tmp_path / "weather" / "sun"), **arguments)

"""MIMIC-IT in the layout of its release: X_instructions.json, X_train.json, X.json or X.parquet."""

from __future__ import annotations

import base64
import io
import json
import pickle
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from PIL import Image
from pyarrow import parquet

from mllm.dataset.files.base64_index import Base64ImageIndex
from mllm.dataset.sets.mimic_it import MimicIt
from mllm.errors import ConfigError, DataError
from mllm.images import Video
from mllm.registry import DATASETS

COLOURS = ["red", "green", "blue", "white"]


def coded(colour: str) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (6, 4), colour).save(file, "png")
    return file.getvalue()


IMAGES = {f"DC_IMG_{n}": base64.b64encode(coded(colour)).decode() for n, colour in enumerate(COLOURS)}
INSTRUCTIONS: dict[str, Any] = {
    "DC_INS_0": {"instruction": "Who?", "answer": "A dog.", "image_ids": ["DC_IMG_0"], "rel_ins_ids": []},
    "DC_INS_1": {
        "instruction": "Where?",
        "answer": "In town.",
        "image_ids": ["DC_IMG_1", "DC_IMG_2"],
        "rel_ins_ids": ["DC_INS_0", "DC_INS_2"],
    },
    "DC_INS_2": {"instruction": "Hello", "answer": "Hi.", "image_ids": [], "rel_ins_ids": ["DC_INS_0"]},
}


@pytest.fixture
def release(tmp_path: Path) -> Callable[..., MimicIt]:
    """Builds the dataset from files with these instructions, images and relations."""

    def build(
        instructions: dict[str, Any] = INSTRUCTIONS,
        images: dict[str, str] | None = IMAGES,
        relations: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> MimicIt:
        files = {"DC_instructions": {"meta": {"version": "0.0.1"}, "data": instructions}}
        files |= {} if images is None else {"DC": images}
        files |= {} if relations is None else {"DC_train": relations}
        for name, content in files.items():
            (tmp_path / f"{name}.json").write_text(json.dumps(content, indent=4))
        arguments |= {} if images is None else {"images": str(tmp_path / "DC.json")}
        arguments |= {} if relations is None else {"relations": str(tmp_path / "DC_train.json")}
        return DATASETS.make({"type": "MimicIt", "filename": str(tmp_path / "DC_instructions.json"), **arguments})

    return build


def colours(item: Any) -> list[tuple[int, ...]]:
    return [ref.open().getpixel((0, 0)) for ref in item.images]


RED, GREEN, BLUE = (255, 0, 0), (0, 128, 0), (0, 0, 255)


def test_related_instructions_come_first_each_with_its_images(release: Callable[..., MimicIt]) -> None:
    dataset = release()
    assert len(dataset) == 3
    item = dataset[1]
    assert [turn.text for turn in item.turns] == [
        *("<image>\nWho?", "A dog."),
        *("Hello", "Hi."),
        *("<image><image>\nWhere?", "In town."),
    ]
    assert colours(item) == [RED, GREEN, BLUE]
    assert item.images[0].size == (6, 4)
    assert item.truth.texts == ("In town.",)
    assert item.key.endswith("DC_instructions.json[1]")
    again = pickle.loads(pickle.dumps(dataset))[1]  # noqa: S301
    assert again == item


def test_rounds_about_the_same_images(release: Callable[..., MimicIt]) -> None:
    item = release(shared_pictures=True)[1]
    assert [turn.text for turn in item.turns[::2]] == ["<image><image>\nWho?", "Hello", "Where?"]
    assert colours(item) == [GREEN, BLUE]


def test_relations_of_their_own_say_what_is_asked(release: Callable[..., MimicIt]) -> None:
    dataset = release(relations={"DC_INS_2": ["DC_INS_1", "DC_INS_0"]})
    assert len(dataset) == 1
    assert [turn.text for turn in dataset[0].turns[1::2]] == ["In town.", "A dog.", "Hi."]
    last = release(relations={"DC_INS_2": ["DC_INS_1", "DC_INS_0"]}, related=1)
    assert [turn.text for turn in last[0].turns[1::2]] == ["A dog.", "Hi."]
    assert len(release(related=0)[1].turns) == 2


def test_frames_of_a_video_are_spread_evenly(release: Callable[..., MimicIt]) -> None:
    ids = [f"DC_IMG_{n}" for n in (0, 1, 1, 3, 3, 1, 2)]
    line = {**INSTRUCTIONS["DC_INS_0"], "image_ids": ids}
    item = release({"a": line}, frames=3)[0]
    assert item.turns[0].text == "<image><image><image>\nWho?"
    assert colours(item) == [RED, (255, 255, 255), BLUE]
    assert colours(release({"a": line}, frames=1)[0]) == [RED]


def test_the_frames_of_a_video_stand_behind_one_placeholder(release: Callable[..., MimicIt]) -> None:
    line = {**INSTRUCTIONS["DC_INS_0"], "image_ids": ["DC_IMG_0", "DC_IMG_3", "DC_IMG_2"]}
    item = release({"a": line}, frames=2, video=True)[0]
    assert item.turns[0].text == "<image>\nWho?"
    (video,) = item.images
    assert isinstance(video, Video)
    assert [frame.open().getpixel((0, 0)) for frame in video.frames] == [RED, BLUE]


@pytest.mark.parametrize("name", ["DC", "TVC", "VST", "SN", "E4D"])
def test_the_catalogue_shows_videos_behind_one_placeholder(release: Callable[..., MimicIt], name: str) -> None:
    cfg = runpy.run_path("config/catalogue/mimic_it.py")[f"MIMIC_IT_{name}"]
    arguments = {key: value for key, value in cfg.items() if key not in ("type", "filename", "images", "relations")}
    line = {**INSTRUCTIONS["DC_INS_1"], "image_ids": ["DC_IMG_0", "DC_IMG_1", "DC_IMG_2"] * 4}
    first = {**line, "rel_ins_ids": []}
    item = release({"a": {**line, "rel_ins_ids": ["b"]}, "b": first}, **arguments)[0]
    own = ["<image>\nWhere?"] if name == "VST" else ["Where?"]
    assert [turn.text for turn in item.turns[::2]] == ["<image>\nWhere?", *own]
    for video in item.images:
        assert isinstance(video, Video)
        assert len(video.frames) == 8


def test_text_alone_needs_no_images(release: Callable[..., MimicIt]) -> None:
    assert release({"a": INSTRUCTIONS["DC_INS_2"]}, None, related=0)[0].images == ()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": ["DC_IMG_9"]}, "DC.json: expected the image 'DC_IMG_9', found none"),
        ({"image_ids": [7]}, "DC_instructions.json[0]: image_ids[0]: expected a text, found int '7'"),
        ({"rel_ins_ids": ["DC_INS_9"]}, "DC_instructions.json[0]: expected an instruction of "),
        ({"answer": None}, "DC_instructions.json[0]: answer: expected a text, found nothing"),
    ],
)
def test_bad_records(release: Callable[..., MimicIt], change: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError) as caught:
        release({"DC_INS_0": {**INSTRUCTIONS["DC_INS_0"], **change}})[0]
    assert message in str(caught.value)


def test_a_fault_is_named_in_the_file_that_has_it(release: Callable[..., MimicIt]) -> None:
    faulty = {**INSTRUCTIONS, "DC_INS_0": {**INSTRUCTIONS["DC_INS_0"], "answer": 3}}
    for shared in (False, True):
        dataset = release(
            faulty, relations={"DC_INS_1": ["DC_INS_0"], "DC_INS_2": ["DC_INS_9"]}, shared_pictures=shared
        )
        with pytest.raises(DataError, match=r"^\S*DC_instructions\.json\[0\]: answer: expected a text, found int '3'$"):
            dataset[0]
        with pytest.raises(
            DataError,
            match=r"DC_train\.json\[1\]: expected an instruction of .*instructions.json, found str 'DC_INS_9'",
        ):
            dataset[1]


def test_images_that_no_file_holds(release: Callable[..., MimicIt]) -> None:
    with pytest.raises(
        DataError, match=r"image_ids: expected no images, since the dataset has no `images` file, found 1"
    ):
        release(images=None)[0]


def test_files_of_another_layout(tmp_path: Path, release: Callable[..., MimicIt]) -> None:
    path = tmp_path / "X_instructions.json"
    path.write_text('{"meta": {}}')
    with pytest.raises(DataError, match=r"X_instructions\.json: data: expected a value, found nothing"):
        MimicIt(filename=str(path))
    path.write_text('{"data": 1}')
    with pytest.raises(DataError, match="expected an object of records by id, found int"):
        MimicIt(filename=str(path))
    for arguments in ({"frames": 0}, {"related": -1}):
        with pytest.raises(ConfigError, match=f"'MimicIt': {next(iter(arguments))}: expected a whole number"):
            release(**arguments)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": "AA==", "b": 3}', 'byte 13: expected "id": "base64", found'),
        ('{"a": "AA==" "b": "AA=="}', 'byte 1: expected "id": "base64", found'),
        ('{"a": "AA=="', 'byte 1: expected "id": "base64", found'),
        ('{"a": "AA=="} {', "byte 13: expected the end, found"),
        ('["a"]', "expected a JSON object, found"),
        ("", "expected a JSON object, found an empty file"),
        ('{"a": "AA==", "a": "AA=="}', "expected each id once, found 'a' twice"),
    ],
)
def test_files_that_hold_no_images(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "DC.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        Base64ImageIndex(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)


def test_images_are_checked_when_they_are_opened(tmp_path: Path) -> None:
    path = tmp_path / "DC.json"
    noise = io.BytesIO()
    Image.effect_noise((64, 48), 90).save(noise, "png")
    whole = base64.urlsafe_b64encode(noise.getvalue()).decode()
    assert "-" in whole or "_" in whole
    path.write_text(json.dumps({"whole": whole, "cut": whole[:2000], "no base64": "a.png", "no image": "AAAA"}))
    table = Base64ImageIndex(str(path))
    assert len(table) == 4
    assert table["whole"].open().size == table["whole"].size == (64, 48)
    assert table["whole"] == table["whole"] != table["cut"]
    for name, message in (
        ("cut", "cut: cannot be decoded"),
        ("no base64", "no base64: expected base64, found b'a.png'"),
        ("no image", "no image: expected an image, one of"),
    ):
        with pytest.raises(DataError, match=message):
            table[name].open()
    with pytest.raises(DataError, match="cannot be read: No such file"):
        Base64ImageIndex(str(tmp_path / "other.json"))


def test_parquet(tmp_path: Path, release: Callable[..., MimicIt]) -> None:
    names = list(IMAGES)
    meta = {"pandas": json.dumps({"index_columns": ["__index_level_0__"], "columns": []})}
    columns = {"base64": list(IMAGES.values()), "__index_level_0__": names}
    parquet.write_table(pyarrow.table(columns).replace_schema_metadata(meta), tmp_path / "DC.parquet", row_group_size=2)
    table = Base64ImageIndex(str(tmp_path / "DC.parquet"))
    assert [table[name].open().getpixel((0, 0)) for name in names[:3]] == [RED, GREEN, BLUE]
    parquet.write_table(pyarrow.table({"image": ["a"]}), tmp_path / "X.parquet")
    with pytest.raises(DataError, match="expected the ids as index, or a column 'id', and a column 'base64'"):
        Base64ImageIndex(str(tmp_path / "X.parquet"))
    parquet.write_table(pyarrow.table({"id": ["a"], "base64": [b"aGk="]}), tmp_path / "B.parquet")
    with pytest.raises(DataError, match=r"B\.parquet: base64: expected texts, found binary"):
        Base64ImageIndex(str(tmp_path / "B.parquet"))


def test_regions_in_the_words_lie_on_the_image_of_their_round(release: Callable[..., MimicIt]) -> None:
    box = "<box>[[0, 0, 500, 1000]]</box>"
    rounds = {
        f"DC_INS_{n}": {"instruction": "Where?", "answer": box, "image_ids": [f"DC_IMG_{n}"], "rel_ins_ids": related}
        for n, related in enumerate([[], ["DC_INS_0"]])
    }
    item = release(rounds, regions="internvl")[1]
    assert [turn.text for turn in item.turns[1::2]] == ["<boxes>", "<boxes>"]
    assert [(box.image, box.xyxy) for box in item.boxes] == [(0, (0, 0, 3, 4)), (1, (0, 0, 3, 4))]

from __future__ import annotations

import io
import json
import pickle
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.dataset.sets.shards import Shards
from mllm.errors import DataError

TALK = {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "A man."}]}


def image(width: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, 4), "red").save(file, "jpeg")
    return file.getvalue()


def shard(path: Path, members: dict[str, bytes], mode: Any = "w") -> None:
    with tarfile.open(path, mode) as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


@pytest.fixture
def shards(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> Callable[..., Shards]:
    """Two shards in webdataset's layout."""
    first = {"000.jpg": image(5), "000.txt": b"A dog.\n", "000.json": b'{"width": 5}', "001.png": image(6)}
    shard(tmp_path / "00000.tar", {**first, "001.cls": b"7", "001.json": json.dumps(TALK).encode()})
    shard(tmp_path / "00001.tar", {"a/x.y.cls": b"1", "a/x.jpg": image(7), "a/x.json": b'{"caption": "A {cat}"}'})

    def make(pattern: str = "*.tar") -> Shards:
        return Shards(filename=str(tmp_path / pattern), questions=pool(["<image>\nWhat?", "<image>\nSay."]))

    return make


def test_samples_by_index(shards: Callable[..., Shards]) -> None:
    dataset = shards()
    assert len(dataset) == 3
    assert [[turn.text for turn in dataset[index].turns] for index in (2, 0, 1)] == [
        ["<image>\nWhat?", "A {cat}"],
        ["<image>\nWhat?", "A dog."],
        ["<image>\nWho?", "A man."],
    ]
    assert [dataset[index].images[0].size for index in range(3)] == [(5, 4), (6, 4), (7, 4)]
    red, green, _ = dataset[0].images[0].open().resize((1, 1)).getdata()[0]
    assert red > 200 > 50 > green
    assert [dataset[index].key.rpartition("/")[2] for index in range(3)] == [
        "00000.tar[0]",
        "00000.tar[1]",
        "00001.tar[0]",
    ]
    assert dataset[0] == pickle.loads(pickle.dumps(dataset))[0] == shards()[0]  # noqa: S301


def test_questions_are_drawn(shards: Callable[..., Shards]) -> None:
    dataset = shards("00000.tar")
    asked: set[str] = set()
    for epoch in range(20):
        dataset.set_epoch(epoch)
        asked.add(dataset[0].turns[0].text)
    assert len(asked) == 2


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"0.txt": b"A dog."}, "broken.tar: 0: expected an image (jpg, jpeg, png, webp) and a text (json, txt)"),
        ({"0.jpg": b"x"}, "broken.tar: 0: expected an image (jpg, jpeg, png, webp) and a text (json, txt)"),
        ({"0.jpg": b"x", "0.txt": b"A.", "0.png": b"y"}, "broken.tar: 0: expected one image, found another, 0.png"),
        ({}, "broken.tar: expected at least one sample, found none"),
        ({"0.jpg": b"x", "0.json": b"{"}, "broken.tar[0]: json: expected a JSON object, found "),
        ({"0.jpg": b"x", "0.json": b"[]"}, "broken.tar[0]: json: expected a JSON object, found list"),
        ({"0.jpg": b"x", "0.json": b"{}"}, "broken.tar[0]: caption: expected a text, found nothing"),
        (
            {"0.jpg": b"x", "0.json": b'{"caption": " "}'},
            "broken.tar[0]: caption: expected words, found ' '",
        ),
        ({"0.jpg": b"x", "0.txt": b"\xff"}, "broken.tar[0]: txt: expected UTF-8, found byte 0xff in column 1"),
        ({"0.jpg": b"x", "0.txt": b"<image>"}, "broken.tar[0]: caption: expected a text without the reserved <image>"),
    ],
)
def test_broken_shards(shards: Callable[..., Shards], tmp_path: Path, members: dict[str, bytes], message: str) -> None:
    shard(tmp_path / "broken.tar", members)
    with pytest.raises(DataError) as caught:
        shards("broken.tar")[0]
    assert message in str(caught.value)


@pytest.mark.parametrize("length", [512, 1024, 1024 + 100, 2048, 2048 + 512, 3072 + 512])
def test_a_shard_that_was_cut_off(shards: Callable[..., Shards], tmp_path: Path, length: int) -> None:
    """Between members, between samples, inside a header, inside of data: each member takes 1024 bytes."""
    path = tmp_path / "cut.tar"
    shard(path, {"0.jpg": b"x", "0.txt": b"a", "1.jpg": b"y", "1.txt": b"b"})
    assert len(shards("cut.tar")) == 2
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        DataError, match=r"cut\.tar: (expected an empty block as the end|not a tar file, or .* of data)"
    ):
        shards("cut.tar")


def test_files_that_are_no_shards(shards: Callable[..., Shards], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\*\.tar: expected a shard, \*\.tar, found no such file"):
        shards("none*.tar")
    shard(tmp_path / "packed.tar", {"0.jpg": image(5), "0.txt": b"x"}, "w:gz")
    with pytest.raises(DataError, match=r"packed\.tar: not a tar file, or a compressed one"):
        shards("packed.tar")
    shard(tmp_path / "odd.tar", {"0.jpg": b"no image", "0.txt": b"x"})
    with pytest.raises(DataError, match=r"odd\.tar: sample 0: "):
        shards("odd.tar")[0].images[0].size  # noqa: B018


def test_regions_in_the_words_become_typed(tmp_path: Path, pool: Callable[[Sequence[Any]], str]) -> None:
    talk = {"conversations": [*TALK["conversations"][:1], {"from": "gpt", "value": "<box>[[0, 0, 1000, 1000]]</box>"}]}
    members = {
        "0.jpg": image(8),
        "0.json": json.dumps(talk).encode(),
        "1.jpg": image(8),
        "1.txt": b"<box>[[1]]</box>",
    }
    shard(tmp_path / "0.tar", members)
    dataset = Shards(filename=str(tmp_path / "0.tar"), questions=pool(["<image>"]), regions="internvl")
    assert (dataset[0].turns[1].text, dataset[0].boxes[0].xyxy) == ("<boxes>", (0, 0, 8, 4))
    with pytest.raises(
        DataError, match=r"0.tar\[1\]: conversations\[1\].value: .* internvl cannot read it: wrong_count"
    ):
        dataset[1]

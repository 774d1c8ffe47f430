from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.commands.data.words import words_faults
from mllm.records import read_item
from mllm.types import Item
from tests.commands.data.broken import turns, write
from tests.conftest import make_tokenizer
from tests.conversation.processors import make_processor


def item(*texts: str, image: bool = True, size: tuple[int, int] = (8, 8)) -> Item:
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    said[0]["value"] = ("<image>" if image else "") + said[0]["value"]
    record: dict[str, Any] = {"image": Image.new("RGB", size) if image else None, "conversations": said}
    return read_item(record, key="a:1")


@pytest.mark.parametrize(
    ("codec", "text", "warned"),
    [
        ("llava15", "[0.12, 0.34, 0.56, 0.78]", False),  # as the model itself writes
        ("shikra", "[0.12, 0.34, 0.56, 0.78]", False),
        ("ferret", "[0.12, 0.34, 0.56, 0.78]", True),
        ("ferret", "[12, 34, 56, 78]", False),
        ("internvl", "<box>[[12, 34, 56, 78]]</box>", True),  # its marks are tokens, which words are not
        ("bins", "plain words", False),
    ],
)
def test_words_faults_warns_of_what_the_model_would_not_write(codec: str, text: str, warned: bool) -> None:
    processor = make_processor(make_tokenizer(), codec=codec)
    faults = list(words_faults(item("?", text), processor, "a:1"))
    assert len(faults) == warned
    assert all(fault.warning and fault.kind == "region-words" for fault in faults)


@pytest.mark.parametrize(
    ("text", "warned"),
    [
        *(
            ("<box>[[12, 34, 56, 78]]</box>", True),
            ("<quad>(1,2),(3,4)</quad>", True),
            ('{"bbox_2d": [1, 2, 3, 4]}', True),
        ),
        *(("[0.12, 0.34, 0.56, 0.78]", False), ("(12,34),(56,78)", False)),  # probabilities, pairs of anything
    ],
)
@pytest.mark.parametrize("codec", ["shikra", "qwen3_vl", "internvl"])
def test_words_faults_of_a_record_without_an_image(codec: str, text: str, warned: bool) -> None:
    processor = make_processor(make_tokenizer(), codec=codec)
    faults = list(words_faults(item("?", text, image=False), processor, "a:1"))
    assert [fault.reason for fault in faults] == [
        "conversations[1].value: expected plain words in a record without an image, "
        f"found {text!r}, which is learned as words"
    ] * warned


@pytest.mark.parametrize("text", ["It is {}.", "It is [0.10,0.20,0.30,0.40] and {}."])
@pytest.mark.parametrize("words", ["(12,34),(56,78)", "<quad>(1,2),(3,4),(5,6),(7,8)</quad>", "<bbox>1 2 3 4</bbox>"])
def test_words_faults_of_forms_that_no_codec_reads(words: str, text: str) -> None:
    """Also behind words that the model itself would write."""
    processor = make_processor(make_tokenizer(), codec="shikra")
    (fault,) = words_faults(item("?", text.format(words)), processor, "a:1")
    assert f"found {words!r}, regions in a form that no codec reads" in fault.reason


@pytest.mark.parametrize(
    ("codec", "text", "reason"),
    [
        ("shikra", "[0.12, 0.34, 0.56, 0.78]", None),  # the image lies in the middle half of its square
        ("shikra", "[0.12, 0.04, 0.56, 0.2]", "'[0.12, 0.04, 0.56, 0.2]': shikra cannot read it: out_of_range"),
        ("qwen25_vl", '{"bbox_2d": [2, 8, 25, 19]}', None),
        ("qwen25_vl", '{"bbox_2d": [2, 8, 250, 19]}', "qwen25_vl cannot read it: out_of_range"),
        ("qwen25_vl", '{"point_2d": [250, 8]}', "qwen25_vl cannot read it: out_of_range"),
    ],
)
def test_words_faults_warns_of_numbers_that_lie_off_the_image(codec: str, text: str, reason: str | None) -> None:
    """In the model's own convention: pixels of the original image, say, where the model sees 28 x 28."""
    processor = make_processor(make_tokenizer(), codec=codec)
    asked = item("?", text, "And?", text, size=(400, 200))
    faults = [fault.reason for fault in words_faults(asked, processor, "a:1")]
    assert len(faults) == (2 if reason else 0)
    for number, fault in zip((1, 3), faults, strict=False):
        assert fault.startswith(f"conversations[{number}].value: words that are learned as text, but ")
        assert reason is not None
        assert fault.endswith(reason)


def test_data_check_warns_of_regions_in_words_and_reads_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("RGB", (640, 480)).save(tmp_path / "a.png")
    talks = [
        turns("<image>Where?", "<box>[[100, 50, 200, 250]]</box>", image="a.png"),
        turns("<image>Who?", "A man.", image="a.png"),
    ]
    (tmp_path / "a.jsonl").write_text("".join(f"{json.dumps(talk)}\n" for talk in talks))
    train = dict(type="Instruct", filename=str(tmp_path / "a.jsonl"), image_folder=str(tmp_path))
    config = write(tmp_path, dict(train=train))
    assert main(["data", "check", str(config), "--stand-in"]) == 0
    out = capsys.readouterr().out
    assert (
        "a.jsonl:1: conversations[1].value: expected <boxes> or plain words, found '<box>[[100, 50, 200, 250]]</box>', "
        "as internvl writes regions: they are learned as words, unless the dataset reads them by regions='internvl', "
        "or mllm regions convert --from internvl --to typed [region-words]"
    ) in out
    assert "1 warning: 1 region-words" in out
    assert main(["data", "show", str(config), "--stand-in", "--text", "--index", "0"]) == 0
    assert "as internvl writes regions" in capsys.readouterr().out
    config = write(tmp_path, dict(train=dict(train, regions="internvl")))
    assert main(["data", "check", str(config), "--stand-in"]) == 0
    out = capsys.readouterr().out
    assert "1 box" in out
    assert "warning" not in out
    config = write(tmp_path, dict(train=dict(train, regions="qwen_vl")))
    assert main(["data", "check", str(config), "--stand-in"]) == 1
    assert "qwen_vl cannot read it: malformed [words-region]" in capsys.readouterr().out

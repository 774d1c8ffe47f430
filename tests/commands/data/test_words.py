from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.commands.data.words import region_words, words_faults
from mllm.types import Item
from tests.commands.data.broken import turns, write
from tests.conftest import make_tokenizer
from tests.conversation.test_processor import make_processor


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("A <ref>dog</ref><box>[[1, 5, 20, 25]]</box>.", ["internvl"], "<ref>dog</ref><box>[[1, 5, 20, 25]]</box>"),
        ("<box>(536,509),(588,602)</box>", ["qwen_vl"], None),
        ("<|box_start|>(12,34),(56,78)<|box_end|>", ["qwen2_vl"], None),
        ("<|box_start|>(12,34)<|box_end|>", ["qwen2_vl"], None),
        ("[0.12, 0.34, 0.56, 0.78]", ["llava15", "shikra"], None),
        ("[0.123,0.456,0.789,0.901]", ["shikra"], None),
        ("[123, 456, 789, 901]", ["ferret"], None),
        ("[[012,345,678,901]]", ["cogvlm"], None),
        ('```json\n[{"bbox_2d": [1, 2, 300, 400], "label": "dog 7"}]\n```', ["qwen25_vl", "qwen3_vl"], None),
        ('{"bbox_2d": [1, 2, 1900, 400]}', ["qwen25_vl"], None),
        ('{"point_2d": [19, 40]}', ["qwen25_vl", "qwen3_vl"], None),
        ('{"box_2d": [1, 2, 300, 400]}', ["gemini"], None),
        ('<point x="12.3" y="45.6" alt="dog">dog</point>', ["molmo"], None),
        ("<b_st><bin_1><bin_2><bin_3><bin_4><b_ed>", ["bins"], None),
        ("<object><patch_index_0044><patch_index_0863></object>", ["kosmos2"], None),
        ("<loc0012><loc0034><loc0056><loc0078> cat", ["paligemma"], "<loc0012><loc0034><loc0056><loc0078>"),
        ("cat<loc_0><loc_0><loc_999><loc_999>", ["florence2"], "<loc_0><loc_0><loc_999><loc_999>"),
        ("{<12><34><56><78>}", ["minigpt_v2"], None),
        # numbers that cannot be read, and marks alone
        ("<box>[[100,50,2000,250]]</box>", ["internvl", "qwen_vl"], None),
        ("Where is <ref>the dog</ref>", ["internvl", "qwen_vl"], "<ref>the dog</ref>"),
        ("<|object_ref_start|>dog<|object_ref_end|>", ["qwen2_vl"], None),
    ],
)  # fmt: skip
def test_region_words_names_the_codecs_that_match(text: str, names: list[str], words: str | None) -> None:
    assert region_words(text) == (names, words or text)


@pytest.mark.parametrize(
    "text",
    [
        *("see [1, 2] and (3, 4)", "f(1,2,3,4) = [1, 2, 3]", "1, 2, 3, 4", "[12.5, 30.2, 40, 50]", "[4, 3, 2, 1]", ""),
        *("[sic] <p>para</p>", "at 10:30, 5 [4]", "(x, y) = (12, 34)", "a < b > c", "<boxes> is <image>", "0.5, 0.25"),
    ],
)
def test_region_words_leaves_other_numbers_alone(text: str) -> None:
    assert region_words(text) is None


def item(*texts: str, image: bool = True, size: tuple[int, int] = (8, 8)) -> Item:
    said = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(texts)]
    said[0]["value"] = ("<image>" if image else "") + said[0]["value"]
    record: dict[str, Any] = {"image": Image.new("RGB", size) if image else None, "conversations": said}
    return Item.from_dict(record, key="a:1")


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
    assert not list(words_faults(item("?", text, image=False), processor, "a:1"))


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
        assert fault.startswith(f"conversations[{number}].value: words that are learned as they stand, but ")
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

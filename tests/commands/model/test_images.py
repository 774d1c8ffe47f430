"""Which image `mllm model show` assumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from mllm.cli import main
from mllm.commands.model.images import assumed, read_size
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError
from tests.conftest import make_tokenizer
from tests.conversation.processors import make_processor
from tests.models import tiny_hf

SIZES = ((40, 24), (48, 48), (16, 16))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Qwen2.5-VL that sees at most 48 x 48 pixels, and three images with a line each."""
    folder = tmp_path_factory.mktemp("sizes")
    tiny_hf.save_tiny("qwen2_5_vl", folder / "model")
    for number, size in enumerate(SIZES):
        tiny_hf.photo(size).save(folder / f"{number}.png")
    (folder / "questions.json").write_text('["<image> Where is <expr>?"]')
    lines = [{"img_path": f"{number}.png", "expression": "it", "bbox": [1, 1, 9, 9]} for number in range(len(SIZES))]
    (folder / "lines.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def processor(folder: Path) -> Processor:
    return tiny_hf.cached(str(folder / "model"))[1]


def data(folder: Path, **changes: Any) -> dict[str, Any]:
    files = dict(filename=str(folder / "lines.jsonl"), questions=str(folder / "questions.json"))
    return {"data_args": {"train": dict(type="REC", image_folder=str(folder), **files) | changes}}


def test_the_image_with_the_most_tokens_stands_for_all(folder: Path, processor: Processor) -> None:
    found = assumed(data(folder), processor, None)
    assert found.size == (48, 48)
    expected = "the most of 3 images of data_args.train, which have 18 on average"
    assert found.said(processor) == f"Images: 48 x 48, seen as 48 x 48 in 36 tokens: {expected}"


def test_images_are_seen_within_the_bounds_that_go_with_them(folder: Path, processor: Processor) -> None:
    cfg = data(folder)
    cfg["data_args"]["train"] = dict(type="AtResolution", dataset=cfg["data_args"]["train"], max_tokens=9)
    found = assumed(cfg, processor, None)
    assert "in 9 tokens, max_tokens 9: the most of 3 images" in found.said(processor)
    assert len(processor.inputs.view_of(found.image()).placeholder_tokens(found.size).split("<|image_pad|>")) - 1 == 9


def test_what_is_not_known_is_said(folder: Path, processor: Processor) -> None:
    for cfg, why in (
        ({}, "data_args.train is not given"),
        (data(Path("/no/such")), "data_args.train is not on this machine"),
        (data(folder, image_folder="/gone"), "images of data_args.train cannot be read (/gone/0.png"),
    ):
        found = assumed(cfg, processor, None)
        assert found.size == (640, 480)
        assert why in found.why
        assert found.why.startswith("assumed, since ")
        assert found.why.endswith("; --image-size gives another")
    assert assumed(data(folder), processor, (100, 50)).size == (100, 50)
    square = assumed({}, (padding := make_processor(make_tokenizer())), None).said(padding)
    assert square.endswith(" tokens each, whatever their size")


def test_a_size_is_read() -> None:
    assert read_size("1280x960") == (1280, 960)
    assert read_size(None) is None
    for wrong in ("1280", "0x5", "1280 x 960", "ax3"):
        with pytest.raises(ConfigError, match="--image-size: expected width x height in pixels"):
            read_size(wrong)


def test_more_pixels_take_more_memory(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "config.py"
    model = dict(type="hf", model_name_or_path=str(folder / "model"))
    config.write_text(f"model_args = {model!r}\ntraining_args = dict()\ndata_args = {data(folder)['data_args']!r}\n")
    found: list[float] = []
    for flags, said in (([], "48 x 48"), (["--image-size", "24x24"], "24 x 24")):
        assert main(["model", "show", str(config), "--length", "200", "--batch-size", "1", *flags]) == 0
        text = capsys.readouterr().out
        assert f"\nImages: {said}, seen as {said} in " in text
        found.append(float(next(line for line in text.splitlines() if line.startswith("activations  ")).split()[1]))
    assert found[0] > found[1]

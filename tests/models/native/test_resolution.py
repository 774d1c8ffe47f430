"""Bounds on images, as each family's own image processor keeps them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlavaNextImageProcessorPil, PixtralImageProcessorPil

from mllm.cli import main
from mllm.conversation.collator import Collator
from mllm.errors import ConfigError
from mllm.images.resolution import Resolution, bound_image
from mllm.models.native.resolution import describe_resolution, settings_for
from mllm.types import Item
from tests.models.tiny_hf import ask, build, cached, make_image_processor, save_tiny
from tests.pipeline.tiny import CONFIG, SCENES

SIZES = [(40, 24), (90, 30), (16, 16), (64, 120)]


def at(item: Item, **bounds: int) -> Item:
    return replace(item, images=tuple(bound_image(ref, Resolution(**bounds)) for ref in item.images))


@pytest.mark.parametrize(
    ("family", "bounds", "most"),
    [("qwen2_5_vl", {"max_tokens": 9}, 9), ("qwen3_vl", {"max_pixels": 640}, 10), ("internvl", {"max_tiles": 2}, 12)],
)
def test_lengths_are_those_of_the_ids_in_every_resolution(
    family: str, bounds: dict[str, int], most: int, folders: dict[str, Path]
) -> None:
    """Images of all sizes, bounded and not, in one batch; the model takes them."""
    model, processor = cached(str(folders[family]))
    items = [ask(size, key=str(size)) for size in SIZES]
    items += [at(item, **bounds) for item in items]
    examples = [processor.encode(item, number) for number, item in enumerate(items)]
    lengths = [processor.length(item) for item in items]
    features = [int((example.input_ids == processor.feature_token_id).sum()) for example in examples]
    assert all(count <= most for count in features[len(SIZES) :])
    assert features[: len(SIZES)] != features[len(SIZES) :]
    for item, example, length in zip(items, examples, lengths, strict=True):
        assert length.images == len(processor.inputs.placeholders(item.images[0], item.images[0].size))
        assert abs(length.tokens - len(example.input_ids)) <= 8  # digits of boxes
    batch: Any = Collator(pad_token_id=processor.tokenizer.pad_token_id)(examples)
    batch = {name: tensor for name, tensor in batch.items() if name not in ("index", "label_sources")}
    with torch.no_grad():
        together = model(**batch).loss
    assert torch.isfinite(together)


def test_a_bound_of_a_dataset_is_that_setting_of_the_processor(folders: dict[str, Path]) -> None:
    """One image at a bound gives the ids and pixels of a run with it."""
    folder = str(folders["qwen2_5_vl"])
    _, processor = cached(folder)
    item = ask((90, 60))
    example = processor.encode(at(item, max_pixels=640, min_pixels=320), 0)
    size = {"shortest_edge": 320, "longest_edge": 640}
    for given in ({"size": size}, {"max_pixels": 640, "min_pixels": 320}):
        _, other = build(folder, image_processor=given)
        expected = other.encode(item, 0)
        assert example.input_ids.equal(expected.input_ids)
        assert all(tensor.equal(expected.pixels[0][name]) for name, tensor in example.pixels[0].items())
        assert other.view.described["size"] == size


def test_boxes_follow_the_resolution(folders: dict[str, Path]) -> None:
    _, processor = cached(str(folders["qwen2_5_vl"]))  # whose numbers are pixels of what it sees
    item = at(ask((90, 60)), max_pixels=640)
    example = processor.encode(item, 0)
    assert example.labels is not None
    answer = processor.decode([int(label) for label in example.labels if label >= 0], item, 0)
    assert answer.boxes[0].xyxy == pytest.approx(item.boxes[0].xyxy, abs=2)


@pytest.mark.parametrize(
    ("processor", "bounds", "settings"),
    [
        (make_image_processor("internvl"), {"max_tiles": 2}, {"max_patches": 2}),
        (make_image_processor("smolvlm"), {"max_tiles": 4}, {"size": {"longest_edge": 32}}),
        (
            LlavaNextImageProcessorPil(),
            {"max_tiles": 3},
            {"image_grid_pinpoints": [[336, 672], [672, 336], [1008, 336], [336, 1008]]},
        ),
        (PixtralImageProcessorPil(), {"longest_edge": 512}, {"size": {"longest_edge": 512}}),
        (
            make_image_processor("qwen2_vl"),
            {"max_tokens": 6, "min_pixels": 64},
            {"size": {"shortest_edge": 64, "longest_edge": 384}},
        ),
    ],
)
def test_settings_for_each_kind_of_processor(processor: Any, bounds: dict[str, int], settings: dict[str, Any]) -> None:
    assert settings_for(processor, Resolution(**bounds)) == settings


@pytest.mark.parametrize(
    ("family", "bounds", "message"),
    [
        (
            "paligemma",
            {"max_pixels": 9},
            "max_pixels: expected no bound: images of SiglipImageProcessorPil have one size",
        ),
        ("qwen2_vl", {"max_tiles": 2}, "max_tiles: expected min_pixels or max_pixels or max_tokens, which Qwen2VL"),
        ("qwen2_vl", {"max_pixels": 9}, "max_pixels: expected at least 64 pixels, found 9"),
        ("internvl", {"longest_edge": 9}, "longest_edge: expected max_tiles, which GotOcr2ImageProcessorPil takes"),
    ],
)
def test_a_bound_that_a_family_does_not_take_is_refused(family: str, bounds: dict[str, int], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings_for(make_image_processor(family), Resolution(**bounds))


def test_described_says_how_images_are_seen() -> None:
    assert describe_resolution(make_image_processor("qwen2_vl"))["size"] == {"shortest_edge": 256, "longest_edge": 2304}


def test_a_run_trains_and_says_in_which_resolutions(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(save_tiny("qwen2_5_vl", tmp_path / "model"))
    low = dict(type="AtResolution", max_pixels=256, dataset=dict(SCENES, count=4))
    sections = {
        "training_args": dict(CONFIG["training_args"], max_steps=2, do_eval=True),
        "model_args": {"model_name_or_path": folder, "image_processor": {"max_pixels": 1024}},
        "data_args": {
            "train": dict(type="ConcatDataset", datasets=[low, dict(SCENES, count=4, seed=3)]),
            "validation": low,
            "compute_metric": dict(type="REC"),
            "gen_kwargs": dict(max_new_tokens=2),
            "collator_kwargs": dict(packing="rows", max_tokens=400),
        },
    }
    config, out = tmp_path / "config.py", tmp_path / "out"
    config.write_text("\n".join(f"{name} = {values!r}" for name, values in sections.items()))
    assert main(["train", str(config), "--output_dir", str(out)]) == 0
    about = json.loads((out / "eval_results.json").read_text())["about"]
    assert about["data"]["resolution"] == [{"max_pixels": 256}]
    assert about["resolution"]["size"]["longest_edge"] == 1024
    wrong = ["--cfg-options", "data_args.validation.max_tiles=2"]
    assert main(["eval", str(config), *wrong, "--output_dir", str(tmp_path / "no")]) == 1
    assert "AtResolution.max_tiles: expected min_pixels or max_pixels or max_tokens" in capsys.readouterr().err

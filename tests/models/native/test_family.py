"""The same ids and pixels as each family's own processor, and boxes where the pixels are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoTokenizer,
    Idefics3Processor,
    InternVLProcessor,
    Kosmos2Processor,
    PaliGemmaProcessor,
    ProcessorMixin,
    Qwen2_5_VLProcessor,
    Qwen2VLProcessor,
    Qwen3VLProcessor,
    SmolVLMProcessor,
)
from transformers.models.smolvlm import processing_smolvlm

from mllm.errors import ImageError
from mllm.models.native.family import family_of
from mllm.models.native.tensors import split_images
from mllm.models.prompt_format import usual_prompt_format
from mllm.records import read_item
from mllm.registry import FAMILIES as REGISTRY
from mllm.types import Item
from tests.marks import slow_but
from tests.models.tiny_hf import (
    ANSWER,
    FAMILIES,
    QUESTION,
    ask,
    batch_of,
    build,
    cached,
    make_image_processor,
    photo,
)

CODECS = {
    "qwen2_vl": "qwen2_vl",
    "qwen2_5_vl": "qwen25_vl",
    "qwen3_vl": "qwen3_vl",
    "internvl": "internvl",
    "smolvlm": "shikra",
    "idefics3": "shikra",
    "paligemma": "paligemma",
    "kosmos-2": "kosmos2",
}
PROCESSORS: dict[str, Any] = {
    "qwen2_vl": Qwen2VLProcessor,
    "qwen2_5_vl": Qwen2_5_VLProcessor,
    "qwen3_vl": Qwen3VLProcessor,
    "internvl": InternVLProcessor,
    "smolvlm": SmolVLMProcessor,
    "idefics3": Idefics3Processor,
    "paligemma": PaliGemmaProcessor,
    "kosmos-2": Kosmos2Processor,
}


def own_processor(family: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The family's own processor, but for videos, which want torchvision and num2words."""
    monkeypatch.setattr(ProcessorMixin, "check_argument_for_proper_class", lambda *_: object)
    monkeypatch.setattr(processing_smolvlm, "num2words", True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    if family == "internvl":
        names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
        for name, token in {**names, "video_token": "<video>"}.items():
            setattr(tokenizer, name, token)
            setattr(tokenizer, f"{name}_id", tokenizer.convert_tokens_to_ids(token))
    processor = make_image_processor(family)
    if family in ("paligemma", "kosmos-2"):
        return PROCESSORS[family](processor, tokenizer)
    if family == "idefics3":
        return PROCESSORS[family](processor, tokenizer, image_seq_len=4)
    extra = {"internvl": {"image_seq_length": 4}, "smolvlm": {"image_seq_len": 4}}.get(family, {})
    return PROCESSORS[family](image_processor=processor, tokenizer=tokenizer, video_processor=None, **extra)


def own_inputs(family: str, own: Any, item: Item) -> dict[str, Any]:
    """What the family's own processor makes of the same question."""
    images = [ref.open() for ref in item.images]
    if family == "paligemma":
        return own(text="<image>" * len(images) + QUESTION, images=images, return_tensors="pt")
    if family == "kosmos-2":
        prompt = f"<grounding><phrase> {QUESTION}</phrase>"
        places = {"num_image_tokens": 4, "first_image_token_id": 5}
        return own(text=prompt, images=images[0], return_tensors="pt", **places)
    content = [{"type": "image"}] * len(images) + [{"type": "text", "text": QUESTION}]
    text = own.tokenizer.apply_chat_template(
        [{"role": "user", "content": content}], tokenize=False, add_generation_prompt=True
    )
    return own(text=[text], images=images, return_tensors="pt", add_special_tokens=False)


@pytest.mark.parametrize("size", [(17, 50), *slow_but((), [((40, 20),), ((64, 64),)])])
def test_ids_and_pixels_are_those_of_its_own_processor(
    family: str, folder: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = build(folder)
    assert (prompt_format := usual_prompt_format({"type": "hf", "model_name_or_path": folder})).codec == CODECS[
        family
    ], prompt_format
    sizes = [size] if family == "kosmos-2" else [size, (30, 30)]
    item = ask(*sizes)
    ours = batch_of(processor, [item], answer=False)
    theirs = own_inputs(family, own_processor(family, folder, monkeypatch), item)
    if family == "kosmos-2":  # of the places of features, whose own tokens are never read, only the positions count
        mask = theirs["image_embeds_position_mask"].bool()
        found = model._own_arguments(ours["input_ids"], None, ours)[0]["image_embeds_position_mask"]
        assert torch.equal(found, mask)
        theirs["input_ids"][mask] = ours["input_ids"][mask]
    assert ours["input_ids"].tolist() == theirs["input_ids"].tolist()
    made = model._own_arguments(ours["input_ids"], None, ours)[0]
    assert torch.equal(made["pixel_values"], theirs["pixel_values"])
    if "image_grid_thw" in made:
        assert torch.equal(made["image_grid_thw"], theirs["image_grid_thw"])


@pytest.mark.parametrize("size", [(23, 21), *slow_but((), [((40, 20),), ((17, 50),), ((640, 100),)])])
def test_the_features_of_a_slot_are_those_of_the_model(folder: str, size: tuple[int, int]) -> None:
    model, processor = build(folder)
    batch = batch_of(processor, [ask(size)], answer=False)
    images = {name: tensor for name, tensor in batch.items() if name in model._blank}
    features = model.family.features(model, model.family.join(split_images(images)))[0]
    slots = int((batch["input_ids"] == processor.image_token_id).sum())
    assert slots - (family_of(folder).codec == "kosmos2") == features.numel() // features.shape[-1]


def seen(family: str, tensors: dict[str, Tensor], canvas: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The red channel of the image as the model sees it, put together again: [height, width]."""
    width, height = canvas
    pixels = tensors["pixel_values"]
    pixels = pixels[0] if pixels.dim() == 5 else pixels
    if "image_grid_thw" in tensors:
        _, rows, columns = tensors["image_grid_thw"][0].tolist()
        # blocks of 2 x 2 patches; a patch holds channels, two equal frames, then 4 x 4 pixels
        blocks = pixels.reshape(rows // 2, columns // 2, 2, 2, 3, 2, 4, 4)[:, :, :, :, 0, 0]
        return blocks.permute(0, 2, 4, 1, 3, 5).reshape(height, width).numpy()
    rows, columns = height // pixels.shape[2], width // pixels.shape[3]
    tiles = pixels[: rows * columns, 0].reshape(rows, columns, *pixels.shape[2:])
    return tiles.permute(0, 2, 1, 3).reshape(height, width).numpy()


@pytest.mark.parametrize("size", [(200, 100), (90, 210), (120, 118), (33, 40)])
def test_a_painted_box_is_found_where_the_placement_says(family: str, size: tuple[int, int]) -> None:
    chosen = REGISTRY.find(family)()
    processor = make_image_processor(family, scale=8)
    x1, y1, x2, y2 = size[0] // 5, size[1] // 3, size[0] // 2, size[1] * 3 // 4
    image = Image.new("RGB", size, "black")
    image.paste("white", (x1, y1, x2, y2))
    if family == "internvl":
        processor.crop_to_patches = True
    placement = chosen.place(processor, size)
    made = chosen.join([processor(image, return_tensors="pt")])
    red = seen(family, made, placement.canvas)
    bright = red > (red.min() + red.max()) / 2
    rows, columns = np.flatnonzero(bright.any(1)), np.flatnonzero(bright.any(0))
    found = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
    expected = [*placement.forward(x1, y1), *placement.forward(x2, y2)]
    assert found == pytest.approx(expected, abs=0.5 + 0.6 * max(placement.scale))


sizes = st.tuples(st.integers(8, 400), st.integers(8, 400))


@given(size=sizes, unit=st.tuples(*[st.floats(0, 1)] * 4), name=st.sampled_from(FAMILIES))
def test_a_box_comes_back_through_the_text(
    folders: dict[str, Path], size: tuple[int, int], unit: tuple[float, ...], name: str
) -> None:
    processor = cached(str(folders[name]))[1]
    (x1, x2), (y1, y2) = sorted(unit[::2]), sorted(unit[1::2])
    x2, y2 = max(x2, x1 + 0.01), max(y2, y1 + 0.01)
    box = [min(x1, 0.99) * size[0], min(y1, 0.99) * size[1], min(x2, 1) * size[0], min(y2, 1) * size[1]]
    item = ask(size)
    record = {"image": item.images[0].open(), "target": {"boxes": [box]}}
    turns = [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": ANSWER, "boxes_seq": [[0]]}]
    item = read_item({**record, "conversations": turns}, key="a")
    example = processor.encode(item, 0, images={ref: {} for ref in item.images})
    assert example.labels is not None
    prediction = processor.decode(example.labels[example.labels >= 0].tolist(), item, 0)
    assert prediction.failure is None, prediction.text
    placement = processor.view.placement(size)
    frame = placement.canvas if processor.codec.frame == "canvas" else size
    bound = processor.codec.error(frame)
    for found, given_, side in zip(prediction.boxes[0].xyxy, box, size * 2, strict=True):
        assert abs(found - given_) <= bound * side + 1e-6


def test_answers_are_those_of_the_model_itself(family: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = cached(folder)
    item = ask((40, 20))
    theirs = own_inputs(family, own_processor(family, folder, monkeypatch), item)
    native: Any = AutoModelForImageTextToText.from_pretrained(folder).eval()
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = native.generate(**{k: v for k, v in theirs.items() if k != "labels"}, **options)
    found = model.generate(**batch_of(processor, [item], answer=False), **options)
    assert found.tolist() == expected[:, theirs["input_ids"].shape[1] :].tolist()


def test_an_image_too_narrow_for_patches(folders: dict[str, Path]) -> None:
    view = cached(str(folders["qwen2_vl"]))[1].view
    with pytest.raises(ImageError, match="refuses 3 x 900 pixels: absolute aspect ratio"):
        view.placement((3, 900))


def test_the_view_shows_what_the_model_sees(folder: str) -> None:
    view = cached(folder)[1].view
    image = photo((60, 30))
    assert view.preview(image).size == view.placement(image.size).canvas

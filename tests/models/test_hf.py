"""Every family of native models: the same ids and pixels as its own processor, boxes where the pixels are, training,
saving and answering through our interface."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
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

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, DataError, ModelError
from mllm.models.family import family_of
from mllm.models.native import ROWS, spread
from mllm.models.selection import part_of
from mllm.models.speech import speech_of
from mllm.registry import FAMILIES as REGISTRY
from mllm.registry import MODELS, REGIONS, TEMPLATES
from mllm.types import Item
from tests.models.tiny_hf import FAMILIES, TILE, make_image_processor, save_tiny

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")

QUESTION, ANSWER = "Where is the red circle?", "Answer: <boxes> ."
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


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("native")
    return {family: save_tiny(family, root / family) for family in FAMILIES}


@pytest.fixture(params=FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def folder(family: str, folders: dict[str, Path]) -> str:
    return str(folders[family])


def build(folder: str, **arguments: Any) -> tuple[Any, Processor]:
    args = {"type": "hf", "model_name_or_path": folder, **arguments}
    speech = speech_of(args)
    tokenizer = cast("Any", AutoTokenizer.from_pretrained(folder))
    model = MODELS.make(args, tokenizer=tokenizer)
    return model, Processor(
        tokenizer=tokenizer,
        template=TEMPLATES.make(speech.template),
        codec=REGIONS.make(speech.codec),
        view=model.picture_view(),
    )


def photo(size: tuple[int, int], seed: int = 0) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def ask(*sizes: tuple[int, int], key: str = "a", question: str = QUESTION, seed: int = 0) -> Item:
    """An item with a picture of each size, and the box of its second quarter in the last one."""
    images = [photo(size, seed + number) for number, size in enumerate(sizes)]
    turns = [{"from": "human", "value": "<image>" * len(sizes) + ("\n" if sizes else "") + question}]
    if not sizes:
        turns.append({"from": "gpt", "value": "A dog."})
        return Item.from_dict({"conversations": turns}, key=key)
    width, height = sizes[-1]
    box = [width / 4, height / 4, width / 2, height / 2]
    turns.append({"from": "gpt", "value": ANSWER, "boxes_seq": [[0]]})
    target = {"boxes": [box], "boxes_image": [len(sizes) - 1]} if len(sizes) > 1 else {"boxes": [box]}
    source = {"images": images} if len(sizes) > 1 else {"image": images[0]}
    return Item.from_dict({**source, "target": target, "conversations": turns}, key=key)


def batch_of(processor: Processor, items: list[Item], *, answer: bool = True) -> dict[str, Tensor]:
    examples = [processor.encode(item, number, answer=answer) for number, item in enumerate(items)]
    batch = cast("dict[str, Tensor]", Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id))(examples))
    return {name: tensor for name, tensor in batch.items() if name not in ("index", "cut_answers")}


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


def test_no_family_is_left_out() -> None:
    assert {*REGISTRY.names()} == {*FAMILIES, "qwen3_vl_moe"}


@pytest.mark.parametrize("size", [(40, 20), (17, 50), (64, 64)])
def test_ids_and_pixels_are_those_of_its_own_processor(
    family: str, folder: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = build(folder)
    assert (speech := speech_of({"type": "hf", "model_name_or_path": folder})).codec == CODECS[family], speech
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


@pytest.mark.parametrize("size", [(40, 20), (17, 50), (23, 21), (640, 100)])
def test_the_features_of_a_slot_are_those_of_the_model(folder: str, size: tuple[int, int]) -> None:
    model, processor = build(folder)
    batch = batch_of(processor, [ask(size)], answer=False)
    pictures = {name: batch[name] for name in model._view_names}
    features = model.family.features(model, model.family.pictures(pictures))[0]
    slots = int((batch["input_ids"] == processor.image_token_id).sum())
    assert slots - (family_of(folder).codec == "kosmos2") == features.numel() // features.shape[-1]

"""Every family of native models: the same ids and pixels as its own processor, boxes where the pixels are, training,
saving and answering through our interface."""

from __future__ import annotations

import json
from dataclasses import replace
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
from mllm.models.adaptation import adapt
from mllm.models.adapters import read_adapters
from mllm.models.family import family_of
from mllm.models.native import ROWS, spread
from mllm.models.selection import part_of
from mllm.models.speech import speech_of
from mllm.registry import FAMILIES as REGISTRY
from mllm.registry import MODELS, REGIONS, TEMPLATES
from mllm.types import Item
from tests.conftest import make_tokenizer as make_plain_tokenizer
from tests.models.tiny_hf import FAMILIES, make_image_processor, save_tiny

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


def seen(family: str, tensors: dict[str, Tensor], canvas: tuple[int, int]) -> np.ndarray[Any, Any]:
    """The red channel of the picture as the model sees it, put together again: [height, width]."""
    width, height = canvas
    pixels = tensors["pixel_values"]
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
    placement = chosen.place(processor, size)
    made = chosen.rows(processor(image, return_tensors="pt", **chosen.settings))
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
    item = Item.from_dict({**record, "conversations": turns}, key="a")
    example = processor.encode(item, 0, pictures={ref: {} for ref in item.images})
    assert example.labels is not None
    prediction = processor.decode(example.labels[example.labels >= 0].tolist(), item, 0)
    assert prediction.failure is None, prediction.text
    placement = processor.view.placement(size)
    frame = placement.canvas if processor.codec.frame == "canvas" else size
    bound = processor.codec.error(frame)
    for found, given_, side in zip(prediction.boxes[0].xyxy, box, size * 2, strict=True):
        assert abs(found - given_) <= bound * side + 1e-6


_BUILT: dict[str, tuple[Any, Processor]] = {}


def cached(folder: str) -> tuple[Any, Processor]:
    """Built once, for tests that change nothing."""
    if folder not in _BUILT:
        _BUILT[folder] = build(folder)
    return _BUILT[folder]


ITEMS = [ask((40, 20), key="a"), ask((17, 50), (30, 30), key="b", seed=3), ask(key="c", question="Name an animal.")]


def items_for(family: str) -> list[Item]:
    """Kosmos-2 takes a picture at the beginning only, and one."""
    return [ITEMS[0], ask((17, 50), key="b", seed=3), ITEMS[2]] if family == "kosmos-2" else ITEMS


def test_the_loss_is_that_of_the_model_itself(family: str, folder: str) -> None:
    model, processor = cached(folder)
    native = AutoModelForImageTextToText.from_pretrained(folder).eval()
    batch = batch_of(processor, [ITEMS[0]])
    own, _ = model._own_arguments(batch["input_ids"], batch["labels"], batch)
    theirs = native(**own) if "labels" in own else native(**own, labels=batch["labels"])
    ours = model(**batch, return_logits=True)
    assert ours.loss.item() == pytest.approx(theirs.loss.item(), abs=1e-5)
    assert torch.allclose(ours.logits, theirs.logits, atol=1e-5)
    assert model(**batch).loss.item() == pytest.approx(ours.loss.item(), abs=1e-6)
    assert model(**batch, num_items_in_batch=10).loss.item() * 10 == pytest.approx(
        ours.loss.item() * int((batch["labels"][:, 1:] >= 0).sum()), abs=1e-4
    )


def test_a_padded_batch_is_its_rows_one_by_one(family: str, folder: str) -> None:
    model, processor = cached(folder)
    items = items_for(family)
    batch = batch_of(processor, items)
    singles = [batch_of(processor, [item]) for item in items]
    with torch.no_grad():
        together = model(**batch, num_items_in_batch=1).loss.item()
        apart = sum(model(**single, num_items_in_batch=1).loss.item() for single in singles)
    assert together == pytest.approx(apart, rel=1e-5)


def test_left_padded_answers_are_those_one_by_one(family: str, folder: str) -> None:
    model, processor = cached(folder)
    items = items_for(family)
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    together = model.generate(**batch_of(processor, items, answer=False), **options)
    assert together.shape == (len(items), 6)
    for row, item in zip(together, items, strict=True):
        alone = model.generate(**batch_of(processor, [item], answer=False), **options)
        assert row.tolist() == alone[0].tolist()
    # with and without a cache, and after the answer is found the model trains on as before
    uncached = model.generate(**batch_of(processor, items, answer=False), **options, use_cache=False)
    assert uncached.tolist() == together.tolist()


def test_answers_are_those_of_the_model_itself(family: str, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, processor = cached(folder)
    item = ask((40, 20))
    theirs = own_inputs(family, own_processor(family, folder, monkeypatch), item)
    native = AutoModelForImageTextToText.from_pretrained(folder).eval()
    options: dict[str, Any] = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = native.generate(**{k: v for k, v in theirs.items() if k != "labels"}, **options)
    found = model.generate(**batch_of(processor, [item], answer=False), **options)
    assert found.tolist() == expected[:, theirs["input_ids"].shape[1] :].tolist()


def test_a_picture_in_several_slots_is_processed_once_and_seen_in_each(family: str, folder: str) -> None:
    model, processor = cached(folder)
    first, second = ask((40, 20)), ask((17, 50), seed=3)
    again = Item.from_dict(
        {
            "image": first.images[0].open(),
            "conversations": [
                {"from": "human", "value": "<image>\nWhat is it?"},
                {"from": "gpt", "value": "A dog."},
            ],
        },
        key="again",
    )
    examples = [processor.encode(item, 0) for item in (second, first, again)]
    same = [examples[0], examples[1], replace(examples[2], images=first.images, pixels=examples[1].pixels)]
    collate = Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id))
    apart, shared = cast("Any", collate(examples)), cast("Any", collate(same))
    assert shared["image_index"].tolist() == [0, 1, 1]
    assert len(shared[ROWS]) == 2
    for batch in (apart, shared):
        del batch["index"], batch["cut_answers"]
    assert model(**shared).loss.item() == pytest.approx(model(**apart).loss.item(), abs=1e-6)


def test_spread_repeats_the_rows_of_each_picture() -> None:
    pictures = {"pixel_values": torch.arange(5), "grid": torch.tensor([20, 30])}
    found = spread(pictures, torch.tensor([2, 3]), torch.tensor([1, 0, 1]))
    assert found["pixel_values"].tolist() == [2, 3, 4, 0, 1, 2, 3, 4]
    assert found["grid"].tolist() == [30, 20, 30]


def test_it_learns_and_text_alone_touches_the_same_parameters(family: str, folder: str) -> None:
    model, processor = build(folder)
    model.train()
    batch, text = batch_of(processor, [ITEMS[0]]), batch_of(processor, [ITEMS[2]])
    model(**text).loss.backward()
    touched = {name for name, p in model.named_parameters() if p.grad is not None}
    still = [name for name in touched if part_of(name) in ("vision_tower", "connector")]
    assert still
    assert all(not model.get_parameter(name).grad.any() for name in still)
    model.zero_grad()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    before = model(**batch).loss
    before.backward()
    assert {name for name, p in model.named_parameters() if p.grad is not None} == touched
    optimizer.step()
    assert model(**batch).loss < before


def test_saved_in_its_own_layout_and_loaded_by_both(family: str, folder: str, tmp_path: Path) -> None:
    model, processor = build(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.01)
    model.save_pretrained(tmp_path)
    processor.tokenizer.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == [type(model).__name__]
    batch = batch_of(processor, [ITEMS[0]])
    with torch.no_grad():
        expected = model(**batch, return_logits=True)
        ours, same = build(str(tmp_path))
        assert torch.equal(ours(**batch, return_logits=True).logits, expected.logits)
        native = AutoModelForImageTextToText.from_pretrained(tmp_path)
        assert native.state_dict().keys() == model.state_dict().keys()
        assert all(tensor.equal(native.state_dict()[name]) for name, tensor in model.state_dict().items())
    again = batch_of(same, [ITEMS[0]])
    assert all(torch.equal(tensor, again[name]) for name, tensor in batch.items())


def test_what_is_frozen_does_not_learn(family: str, folder: str) -> None:
    model, processor = build(folder, freeze=["vision_tower", "language_model"])
    assert {part_of(name) for name, p in model.named_parameters() if p.requires_grad} == {"connector"}
    model.train()
    modes = {part_of(name): module.training for name, module in model.named_modules() if part_of(name) != "rest"}
    assert modes == {"vision_tower": False, "language_model": False, "connector": True}
    model(**batch_of(processor, [ITEMS[0]])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert {part_of(name) for name in dict(model.named_parameters())} == {"vision_tower", "connector", "language_model"}


def test_adapters_find_its_language_model(family: str, folder: str) -> None:
    model, processor = build(folder)
    adapters = read_adapters({"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector"]})
    adapt(model, adapters, {"type": "hf", "model_name_or_path": folder}, new_tokens=False)
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted
    assert {part_of(name) for name in adapted} == {"language_model"}
    assert {part_of(n) for n, p in model.named_parameters() if p.requires_grad} == {"language_model", "connector"}
    model.activation_checkpointing_enable()
    model.train()
    model(**batch_of(processor, [ITEMS[0]])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize("packing", ["rows", "shared"])
def test_questions_in_one_row_cost_what_they_cost_apart(family: str, folder: str, packing: Any) -> None:
    model, processor = cached(folder)
    first = ask((40, 20))
    other = replace(first, turns=(replace(first.turns[0], text="<image>\nIs it red?"), first.turns[1]))
    pictures = processor.pictures(first)
    examples = [processor.encode(item, 0, pictures=pictures) for item in (first, other)]
    collate = Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id), packing=packing)
    batch = cast("Any", collate([examples]))
    del batch["index"], batch["cut_answers"]
    if not model.family.packs:
        with pytest.raises(ModelError, match="packed rows would mix: set data_args"):
            model(**batch)
        return
    apart = sum(model(**batch_of(processor, [i]), num_items_in_batch=1).loss.item() for i in (first, other))
    assert model(**batch, num_items_in_batch=1).loss.item() == pytest.approx(apart, rel=1e-5)


@pytest.mark.parametrize("old", [False, True])
def test_other_settings_of_the_image_processor_are_kept(old: bool, tmp_path: Path) -> None:
    folder = str(save_tiny("qwen2_5_vl", tmp_path / "base"))
    path = tmp_path / "base" / "preprocessor_config.json"
    if old:  # as public folders still say it
        settings = json.loads(path.read_text())
        limits = settings.pop("size")
        settings |= {"min_pixels": limits["shortest_edge"], "max_pixels": limits["longest_edge"]}
        path.write_text(json.dumps(settings))
    model, processor = build(folder, image_processor={"size": {"shortest_edge": 256, "longest_edge": 256}})
    assert processor.view.placement((64, 64)).canvas == (16, 16)
    assert build(folder)[1].view.placement((64, 64)).canvas == (48, 48)
    model.save_pretrained(tmp_path / "saved")
    processor.tokenizer.save_pretrained(tmp_path / "saved")
    assert build(str(tmp_path / "saved"))[1].view.placement((64, 64)).canvas == (16, 16)
    path.unlink()
    with pytest.raises(ModelError, match="its image processor, of no file"):
        build(folder)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"image_processor": {"sise": 3}}, "has no 'sise'; did you mean 'size'"),
        ({"freeze": ["vision_towr"]}, "did you mean 'vision_tower'"),
        ({"dtype": "int3"}, "dtype 'int3'"),
    ],
)
def test_what_a_user_can_mend(folders: dict[str, Path], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(str(folders["internvl"]), **arguments)


def test_an_unknown_family_says_which_file_to_write(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "my-vlm"}')
    with pytest.raises(ConfigError, match=r"'my-vlm' .*internvl.* write mllm/models/families/my_vlm.py"):
        speech_of({"type": "hf", "model_name_or_path": str(tmp_path)})


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="hf needs model_name_or_path"):
        speech_of({"type": "hf"})
    with pytest.raises(ModelError, match="not a local folder"):
        speech_of({"type": "hf", "model_name_or_path": str(tmp_path / "gone")})


def test_a_placement_is_not_to_be_chosen(folder: str) -> None:
    with pytest.raises(ConfigError, match="places pictures by its own processor"):
        cached(folder)[0].picture_view("pad")


def test_a_tokenizer_without_the_picture_token(folders: dict[str, Path]) -> None:
    with pytest.raises(ModelError, match="has no token '<IMG_CONTEXT>'"):
        MODELS.make({"type": "hf", "model_name_or_path": str(folders["internvl"])}, tokenizer=make_plain_tokenizer())


def test_a_picture_too_narrow_for_patches(folders: dict[str, Path]) -> None:
    view = cached(str(folders["qwen2_vl"]))[1].view
    with pytest.raises(DataError, match="a picture of 3 x 900 pixels"):
        view.placement((3, 900))


def test_the_view_shows_what_the_model_sees(folder: str) -> None:
    view = cached(folder)[1].view
    image = photo((60, 30))
    assert view.arrange(image).size == view.placement(image.size).canvas

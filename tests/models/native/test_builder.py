"""Every family of native models: the same ids and pixels as its own processor, boxes where the pixels are, training,
saving and answering through our interface."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
)

from mllm.conversation import prefix_tree
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, ModelError
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.models.native.tensors import SHAPE
from mllm.models.parts import is_quantized, part_of
from mllm.models.prompt_format import usual_prompt_format
from mllm.models.runtime import loss
from mllm.models.runtime.packed_attention import FLEX, PACKED
from mllm.records import read_item
from mllm.registry import FAMILIES as REGISTRY
from mllm.registry import MODELS
from mllm.types import Item
from tests.conftest import make_tokenizer as make_plain_tokenizer
from tests.marks import slow_but
from tests.models.tiny import gradients
from tests.models.tiny_hf import (
    FAMILIES,
    ask,
    batch_of,
    build,
    cached,
    save_tiny,
)

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_no_family_is_left_out() -> None:
    assert {*REGISTRY.names()} >= {*FAMILIES, "qwen3_vl_moe"}


ITEMS = [ask((40, 20), key="a"), ask((17, 50), (30, 30), key="b", seed=3), ask(key="c", question="Name an animal.")]


def items_for(family: str) -> list[Item]:
    """Kosmos-2 takes an image at the beginning only, and one."""
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


def test_a_head_that_runs_in_pieces_gives_the_same_loss_and_gradients(
    family: str, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = cached(folder)
    batch = batch_of(processor, items_for(family))
    model.zero_grad()
    expected = model(**batch, return_logits=True).loss
    expected.backward()
    wanted = gradients(model)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 5 * model.config.get_text_config().vocab_size)
    assert int((batch["labels"][:, 1:] >= 0).sum()) > 10
    model.zero_grad()
    found = model(**batch).loss
    found.backward()
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    for name, gradient in gradients(model).items():
        assert torch.allclose(gradient, wanted.pop(name), rtol=1e-5, atol=1e-6), name
    assert not wanted
    model.zero_grad()


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


def test_an_image_in_several_slots_is_processed_once_and_seen_in_each(family: str, folder: str) -> None:
    model, processor = cached(folder)
    first, second = ask((40, 20)), ask((17, 50), seed=3)
    again = read_item(
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
    assert len(shared["pixel_values" + SHAPE]) == 2
    for batch in (apart, shared):
        del batch["index"], batch["label_sources"]
    assert model(**shared).loss.item() == pytest.approx(model(**apart).loss.item(), abs=1e-6)
    prompts = [processor.encode(item, 0, answer=False) for item in (second, first, again)]
    prompts[2] = replace(prompts[2], images=first.images, pixels=prompts[1].pixels)
    asked = cast("Any", collate(prompts))
    for name in ("index", "label_sources"):
        asked.pop(name, None)
    together = model.generate(**asked, max_new_tokens=3, do_sample=False)
    for row, prompt in enumerate(prompts):
        alone = cast("Any", collate([prompt]))
        for name in ("index", "label_sources"):
            alone.pop(name, None)
        assert model.generate(**alone, max_new_tokens=3, do_sample=False)[0].equal(together[row])


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "internvl", "smolvlm", "paligemma"])
def test_an_image_in_several_rows_goes_through_the_tower_once(family: str, folders: dict[str, Path]) -> None:
    """In training and in generation; with the same gradients."""
    model, processor = build(str(folders[family]))
    item = ask((40, 20))
    first = processor.encode(item, 0)
    examples = [first, replace(first), replace(first)]
    batch = cast("Any", Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id))(examples))
    del batch["index"], batch["label_sources"]
    assert batch["image_index"].tolist() == [0, 0, 0]
    tower = next(module for name, module in model.named_modules() if part_of(name) == "vision_tower")
    seen: list[int] = []

    def look(module: Any, args: Any, arguments: Any, made: Any) -> None:
        seen.append(max(each.numel() for each in (*args, *arguments.values()) if torch.is_tensor(each)))

    hook = tower.register_forward_hook(look, with_kwargs=True)
    model(**batch).loss.backward()
    several = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    one = cast("Any", Collator(pad_token_id=cast("int", processor.tokenizer.pad_token_id))([first]))
    del one["index"], one["label_sources"]
    model(**one).loss.backward()
    assert seen[0] == seen[1]
    for name, p in model.named_parameters():
        if p.grad is not None:
            torch.testing.assert_close(several[name], p.grad, rtol=1e-4, atol=1e-6)
    ids = batch["input_ids"][:, :-4]
    asked = {**batch, "input_ids": ids, "attention_mask": batch["attention_mask"][:, :-4]}
    del asked["labels"]
    model.generate(**asked, max_new_tokens=1)
    hook.remove()
    assert seen[2] == seen[1]


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
    inject_adapters(model, adapters, {"type": "hf", "model_name_or_path": folder})
    adapted = {name.partition(".lora_")[0] for name, _ in model.named_parameters() if ".lora_" in name}
    assert adapted
    assert {part_of(name) for name in adapted} == {"language_model"}
    assert {part_of(n) for n, p in model.named_parameters() if p.requires_grad} == {"language_model", "connector"}
    model.activation_checkpointing_enable()
    model.train()
    model(**batch_of(processor, [ITEMS[0]])).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def packed_and_apart(processor: Processor, family: str, **options: Any) -> tuple[Any, Any]:
    """Two questions about an image, two answers to the first, and others, packed and one by one."""
    first, *others = items_for(family)
    again = replace(first, turns=(replace(first.turns[0], text="<image>\nIs it red?"), first.turns[1]))
    denied = replace(first, turns=(first.turns[0], replace(first.turns[1], text="No.", boxes_seq=())))
    images = processor.images(first)
    examples = [processor.encode(item, 0, images=images) for item in (first, again, denied)]
    examples += [processor.encode(item, 0) for item in others]
    pad = cast("int", processor.tokenizer.pad_token_id)
    batches: list[Any] = [Collator(pad_token_id=pad, **options)(examples), Collator(pad_token_id=pad)(examples)]
    for batch in batches:
        del batch["index"], batch["label_sources"]
    return batches[0], batches[1]


@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize(
    ("packing", "max_tokens", "attention"),
    slow_but(
        [("rows", None, None), ("shared", None, None)],
        [("rows", None, None), ("shared", None, None), ("shared", 200, PACKED), ("shared", 200, FLEX)],
    ),
)
def test_samples_in_one_row_learn_what_they_learn_apart(
    family: str,
    folder: str,
    packing: Any,
    max_tokens: int | None,
    attention: str | None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(prefix_tree, "LEAST", 1)  # questions here are short
    model, processor = build(folder, attn_implementation=attention)
    packed, apart = packed_and_apart(processor, family, packing=packing, max_tokens=max_tokens)
    if (family, packing) == ("paligemma", "shared"):
        with pytest.raises(ModelError, match="questions cannot share it: set data_args"):
            model(**packed)
        return
    assert len(packed["input_ids"]) < 4
    assert (packed["prefix_ids"].max() > 0) == (packing == "shared"), "no tree of three levels"
    learns_the_same(model, packed, apart)


@pytest.mark.parametrize("name", ["qwen2_5_vl", "internvl", "smolvlm"])
def test_trees_go_with_adapters_and_checkpointing(
    name: str, folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "LEAST", 1)
    model, processor = build(str(folders[name]))
    adapters = read_adapters({"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector"]})
    inject_adapters(model, adapters, {"type": "hf", "model_name_or_path": str(folders[name])})
    torch.manual_seed(0)
    for parameter, value in model.named_parameters():
        if ".lora_B" in parameter:  # zeros, behind which nothing would learn
            torch.nn.init.normal_(value, std=0.1)
    model.activation_checkpointing_enable()
    packed, apart = packed_and_apart(processor, name, packing="shared")
    assert packed["prefix_ids"].max() > 0
    learns_the_same(model.train(), packed, apart)


def learns_the_same(model: Any, packed: Any, apart: Any) -> None:
    found: list[dict[str, Any]] = []
    for batch in (packed, apart):
        model.zero_grad()
        outcome = model(**batch)
        outcome.loss.backward()
        found.append({"loss": outcome.loss.detach(), **gradients(model)})
    assert found[0].keys() == found[1].keys()
    for name, expected in found[1].items():
        scale = max(expected.abs().max().item(), 1e-3)
        assert (found[0][name] - expected).abs().max().item() <= 1e-5 * scale, name


@pytest.mark.usefixtures("uncompiled_flex")
@pytest.mark.parametrize("attention", slow_but([None], [None, FLEX]))
def test_paligemma_2_packs_with_its_windows_and_its_soft_cap(attention: str | None, tmp_path: Path) -> None:
    folder = save_tiny("paligemma", tmp_path, model_type="gemma2", sliding_window=30)
    model, processor = build(str(folder), attn_implementation=attention)
    learns_the_same(model, *packed_and_apart(processor, "paligemma", packing="rows"))


def test_a_family_that_packs_in_no_way_says_so(folders: dict[str, Path]) -> None:
    model, processor = build(str(folders["internvl"]))
    model.family = replace(model.family, pack=None)
    packed, _ = packed_and_apart(processor, "internvl", packing="rows")
    with pytest.raises(ModelError, match="packed rows would mix: set data_args"):
        model(**packed)


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
        ({"image_processor": {"sise": 3}}, "found 'sise'; did you mean 'size'"),
        (
            {"image_processor": {"max_patches": 1.5}},
            r"image_processor\.max_patches: expected a whole number, found float",
        ),
        (
            {"image_processor": {"max_patches": -7}},
            r"image_processor\.max_patches: expected a whole number of at least 1",
        ),
        ({"image_processor": {"max_patches": 10**12}}, r"image_processor: max_patches: expected at most 1,024"),
        ({"image_processor": {"size": {"height": "big"}}}, r"image_processor\.size\.height: expected a whole number"),
        (
            {"image_processor": {"size": {"height": -7}}},
            r"image_processor\.size\.height: expected a whole number of at least 1",
        ),
        ({"image_processor": {"image_mean": [0.5]}}, r"image_processor\.image_mean: expected a list of 3 numbers"),
        ({"image_processor": {"image_std": [0, 0, 0]}}, r"image_processor\.image_std\.0: expected a number from 1e-06"),
        ({"image_processor": {"resample": 99}}, r"image_processor\.resample: expected one of 0, 1"),
        ({"image_processor": {"resample": -1}}, r"image_processor\.resample: expected one of 0, 1"),
        ({"pad_to_multiple_of": 10**9}, "pad_to_multiple_of: expected a whole number from 1 to 65,536"),
        ({"image_processor": {"size": "big"}}, r"image_processor\.size: expected a dict, found str 'big'"),
        ({"freeze": ["vision_towr"]}, "did you mean 'vision_tower'"),
        ({"dtype": "int3"}, "dtype: expected one of .*, found str 'int3'"),
    ],
)
def test_what_a_user_can_mend(folders: dict[str, Path], arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(str(folders["internvl"]), **arguments)


@pytest.mark.parametrize("name", ["patch_size", "temporal_patch_size", "merge_size"])
def test_settings_that_the_weights_are_made_for_are_refused(name: str, tmp_path: Path) -> None:
    folder = str(save_tiny("qwen2_vl", tmp_path))
    usual = json.loads((tmp_path / "preprocessor_config.json").read_text())[name]
    build(folder, image_processor={name: usual})
    with pytest.raises(ConfigError, match=rf"image_processor\.{name}: expected {usual}, found int"):
        build(folder, image_processor={name: usual + 1})


@pytest.mark.parametrize(
    ("family", "settings"),
    [
        ("paligemma", {"size": {"longest_edge": 7}}),
        ("paligemma", {"do_resize": False}),
        ("internvl", {"size": {"longest_edge": 7}}),
        ("smolvlm", {"size": {"height": 16, "width": 16}}),
        ("smolvlm", {"max_image_size": {"longest_edge": 7}}),
    ],
)
def test_settings_by_which_no_image_can_be_read_are_refused(
    folders: dict[str, Path], family: str, settings: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match=r"image_processor: the model cannot read an image .*, of 96 x 64 pixels: "):
        build(str(folders[family]), image_processor=settings)


def test_a_type_that_sees_no_images_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "my-vlm"}')
    with pytest.raises(ConfigError, match=r"AutoModelForImageTextToText knows, found str 'my-vlm'"):
        usual_prompt_format({"type": "hf", "model_name_or_path": str(tmp_path)})


def test_a_folder_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="model_name_or_path: expected the folder of a transformers model"):
        usual_prompt_format({"type": "hf"})
    with pytest.raises(ModelError, match="expected a folder on this machine"):
        usual_prompt_format({"type": "hf", "model_name_or_path": str(tmp_path / "gone")})


def test_a_placement_is_not_to_be_chosen(folder: str) -> None:
    with pytest.raises(ConfigError, match="places images with its own processor"):
        cached(folder)[0].image_preprocessor("pad")


def test_a_tokenizer_without_the_image_token(folders: dict[str, Path]) -> None:
    with pytest.raises(
        ModelError, match=r"tokenizer: expected a token for images, id \d+ of config.json, found \d+ tokens"
    ):
        MODELS.make({"type": "hf", "model_name_or_path": str(folders["internvl"])}, tokenizer=make_plain_tokenizer())


@pytest.mark.parametrize("name", ["smolvlm", "qwen2_5_vl"])
def test_only_the_language_model_is_quantised(folders: dict[str, Path], name: str) -> None:
    pytest.importorskip("bitsandbytes")
    model, processor = build(str(folders[name]), quantization={"type": "bitsandbytes"}, freeze=["vision_tower"])
    parts = {part_of(layer) for layer, p in model.named_parameters() if is_quantized(p)}
    assert parts == {"language_model"}
    assert not is_quantized(model.get_output_embeddings().weight)
    model.train()
    model(**batch_of(processor, [ITEMS[0]])).loss.backward()

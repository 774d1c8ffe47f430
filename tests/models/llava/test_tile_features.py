"""Tiles in the model: equal to transformers' LLaVA-NeXT both ways, and to single squares where nothing is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, LlavaNextForConditionalGeneration

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, ModelError
from mllm.images import MemoryImage
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava
from mllm.models.parts import part_of
from mllm.records import read_item
from mllm.registry import CODECS, MODELS, TEMPLATES
from tests.marks import slow_but
from tests.models.llava_names import our_name
from tests.models.tiny import (
    PINPOINTS,
    SIDE,
    TEXT,
    VISION,
    gradients,
    make,
    make_batch,
    make_tokenizer,
    prompts,
    without_images,
)

NEXT: dict[str, Any] = {"type": "any_resolution", "pinpoints": PINPOINTS}
CROPS: dict[str, Any] = {"type": "crops", "rows": 1, "columns": 2}
FAMILIES = [
    *(("clip", text) for text in ("llama", "qwen2", "gpt_neox", "gemma2")),
    *(("siglip", "llama"), ("dinov2", "llama")),
]


def reference(vision: str = "clip", text: str = "llama", **changes: Any) -> LlavaNextForConditionalGeneration:
    """transformers' own, with random weights."""
    torch.manual_seed(2)
    cap = {"final_logit_softcapping": None} if text == "gemma2" else {}
    config = transformers.LlavaNextConfig(
        vision_config=VISION[vision],
        text_config={"vocab_size": 40, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, **TEXT[text], **cap},
        image_token_index=39,
        image_grid_pinpoints=PINPOINTS,
        **{"vision_feature_select_strategy": "full" if vision == "siglip" else "default", **changes},
    )
    model = LlavaNextForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model


def of_reference(batch: dict, model: Any) -> dict:
    """The batch with the tiles of every slot, as transformers wants them."""
    counts = [model.image_preprocessor().layout(size).tiles for size in map(tuple, batch["image_sizes"].tolist())]
    tiles = batch["pixels"].split(counts)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "labels") if name in batch}
    order = batch["image_index"].tolist()
    sizes = batch["image_sizes"][order].flip(1)
    return {**inputs, "pixel_values": torch.cat([tiles[image] for image in order]), "image_sizes": sizes}


@pytest.mark.parametrize(("vision", "text"), slow_but(FAMILIES[2:], FAMILIES))
def test_equals_transformers_llava_next(tmp_path: Path, vision: str, text: str) -> None:
    theirs = reference(vision, text)
    theirs.save_pretrained(tmp_path)
    ours = load_llava(str(tmp_path))
    ours.freeze([])
    batch = make_batch(ours)
    expected = theirs(**of_reference(batch, ours))
    found = ours(**batch, return_logits=True)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
    found.loss.backward()
    expected.loss.backward()
    wanted = {our_name(name, ours): gradient for name, gradient in gradients(theirs).items()}
    assert gradients(ours).keys() == wanted.keys()
    assert wanted["mosaic.newline"].any()
    for name, gradient in gradients(ours).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    inputs = prompts(batch)
    settings = {"max_new_tokens": 4, "do_sample": False}
    ids = theirs.generate(**of_reference(inputs, ours), **settings)
    assert ours.generate(**inputs, **settings).tolist() == ids[:, inputs["input_ids"].shape[1] :].tolist()


@pytest.mark.parametrize("vision", slow_but(["dinov2"], ["clip", "siglip", "dinov2"]))
def test_export_round_trip(tmp_path: Path, vision: str) -> None:
    model = make(vision, tiling=NEXT, feature_layer=[-2, -1], image_mean=(0.1, 0.2, 0.3))
    tokenizer = make_tokenizer()
    export_transformers_llava(model, tokenizer, str(tmp_path))
    theirs, info = LlavaNextForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    batch = make_batch(model)
    logits = model(**batch, return_logits=True).logits
    torch.testing.assert_close(theirs.eval()(**of_reference(batch, model)).logits, logits, rtol=1e-5, atol=1e-5)
    again: Any = MODELS.make({"type": "llava", "model_name_or_path": str(tmp_path)}, tokenizer=tokenizer)
    torch.testing.assert_close(again(**batch, return_logits=True).logits, logits, rtol=1e-5, atol=1e-5)
    assert again.tiling == model.tiling
    assert again.image_preprocessor().tile.mean == (0.1, 0.2, 0.3)
    again.save_pretrained(tmp_path / "ours")
    loaded = load_llava(str(tmp_path / "ours"))
    torch.testing.assert_close(loaded(**batch, return_logits=True).logits, logits, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(20, 9), (7, 12), (16, 16), (100, 3), (8, 8), (31, 29)])
def test_from_an_image_to_logits_as_transformers_does(tmp_path: Path, size: tuple[int, int]) -> None:
    """The exported folder's own processor and model, beside our view, processor and collator."""
    model, tokenizer = make(tiling=NEXT), make_tokenizer()
    export_transformers_llava(model, tokenizer, str(tmp_path))
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    inputs = AutoProcessor.from_pretrained(tmp_path, backend="pil")(images=[image], text="<image>", return_tensors="pt")
    inputs["input_ids"] = torch.cat([inputs["input_ids"], torch.tensor([[5, 6]])], 1)
    inputs["attention_mask"] = torch.ones_like(inputs["input_ids"])
    view = model.image_preprocessor()
    ids = torch.tensor([*tokenizer(view.placeholder_tokens(size))["input_ids"], 5, 6])[None]
    assert ids.tolist() == inputs["input_ids"].tolist()
    theirs = LlavaNextForConditionalGeneration.from_pretrained(tmp_path).eval()
    torch.testing.assert_close(model(ids, **view(image)).logits, theirs(**inputs).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tiling", [NEXT, CROPS])
def test_questions_in_one_row_read_the_tiles_once(tiling: dict[str, Any]) -> None:
    model, tokenizer = make(tiling=tiling, attn_implementation="sdpa"), make_tokenizer()
    processor = Processor(
        tokenizer=tokenizer,
        template=TEMPLATES.make({"type": "vicuna_v1", "system": ""}),
        codec=CODECS.make("shikra"),
        view=model.image_preprocessor(),
    )
    image = MemoryImage(Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 20, 3), dtype=np.uint8)))
    pair = [
        processor.encode(read_item({"image": image, "conversations": turns}, key=str(n)), 0)
        for n, turns in enumerate(
            [{"from": "human", "value": f"<image> w{n}"}, {"from": "gpt", "value": f"w{n + 7} w{n + 9}"}]
            for n in (1, 2)
        )
    ]
    one_by_one = Collator(pad_token_id=3)(pair)
    shared = Collator(pad_token_id=3, packing="shared")([pair])
    slots = [int((batch["input_ids"] == processor.image_token_id).sum()) for batch in (one_by_one, shared)]
    assert slots[0] == 2 * slots[1] > 0
    losses = []
    for batch in (one_by_one, shared):
        arguments: dict[str, Any] = {
            name: value for name, value in batch.items() if name not in ("index", "label_sources")
        }
        losses.append(model(**arguments).loss)
    torch.testing.assert_close(*losses)


def test_two_towers_see_the_same_tiles() -> None:
    towers = [VISION["clip"], VISION["siglip"]]
    model = make(vision_tower=towers, tiling=NEXT).train()
    batch = make_batch(model)
    model(**batch).loss.backward()
    assert model.vision_tower.width == 32
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())
    assert gradients(model)["vision_tower.towers.1.encoder.embeddings.patch_embedding.weight"].any()


@pytest.mark.parametrize("tiling", [NEXT, CROPS])
def test_a_batch_without_images_touches_every_trainable_parameter(tiling: dict[str, Any]) -> None:
    model = make(tiling=tiling).train()
    batch = without_images(make_batch(model), model)
    loss = model(**batch).loss
    loss.backward()
    found = gradients(model)
    assert found.keys() == {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(not gradient.any() for name, gradient in found.items() if not name.startswith("language_model"))
    torch.testing.assert_close(loss, model.eval()(**batch).loss)


def test_a_repeated_image_costs_its_tiles_once() -> None:
    model = make(tiling=NEXT)
    batch = make_batch(model)
    counts = [model.image_preprocessor().layout(size).tiles for size in map(tuple, batch["image_sizes"].tolist())]
    order = batch["image_index"].tolist()
    tiles = batch["pixels"].split(counts)
    repeated = {
        **batch,
        "pixels": torch.cat([tiles[image] for image in order]),
        "image_sizes": batch["image_sizes"][order],
        "image_index": None,
    }
    torch.testing.assert_close(model(**batch).loss, model(**repeated).loss)


def test_the_newline_belongs_to_the_connector() -> None:
    model = make(tiling=NEXT, freeze=["connector"])
    assert not model.mosaic.newline.requires_grad
    model.freeze(["vision_tower", "language_model"])
    assert {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad} == {"connector"}
    assert model.mosaic.newline.requires_grad


def test_half_precision_and_checkpointing() -> None:
    model = make(tiling=NEXT, dtype="bfloat16").train()
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    model.activation_checkpointing_enable()
    model(**make_batch(model)).loss.backward()
    assert all(gradient.isfinite().all() for gradient in gradients(model).values())


def test_a_checkpoint_without_tiles_takes_them_and_other_ones(tmp_path: Path) -> None:
    plain = make(connector="mlp2x_gelu")
    plain.save_pretrained(tmp_path / "plain")
    make_args = {"type": "llava", "model_name_or_path": str(tmp_path / "plain"), "tiling": NEXT}
    first, second = (MODELS.make(make_args, tokenizer=make_tokenizer()) for _ in range(2))
    assert first.mosaic.newline.any()
    torch.testing.assert_close(first.mosaic.newline, second.mosaic.newline, rtol=0, atol=0)
    first.save_pretrained(tmp_path / "tiled")
    again = MODELS.make(
        {
            "type": "llava",
            "model_name_or_path": str(tmp_path / "tiled"),
            "image_size": 12,
            "tiling": {**NEXT, "pinpoints": [[12, 24]]},
        },
        tokenizer=make_tokenizer(),
    )
    torch.testing.assert_close(again.mosaic.newline, first.mosaic.newline, rtol=0, atol=0)
    assert again.image_preprocessor().layout((24, 12)).tiles == 3
    assert again.config.tiling["pinpoints"] == [[12, 24]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_sizes": None}, "a model with tiling needs image_sizes beside pixels"),
        ({"image_sizes": torch.tensor([[20, 9]])}, "expected 3 tiles of pixels, as image_sizes need, found 6"),
        (
            {"image_index": torch.tensor([0, 1])},
            r"expected \d+ <image> tokens in the text, for 2 slot\(s\) of \[\d+, \d+\] tokens, found",
        ),
    ],
)
def test_images_that_do_not_fit(change: dict[str, Any], message: str) -> None:
    model = make(tiling=NEXT)
    batch = {**make_batch(model), **change}
    with pytest.raises(ModelError, match=message):
        model(**batch)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"connector": "perceiver"},
            "expected a connector that keeps features in rows, .* found 'perceiver'; set unpad=False, newline=False",
        ),
        ({"keep_cls": True}, "keep_cls: expected False with tiling, found True"),
        ({"image_size": 12}, r"expected multiples of the tile's side, 12 pixels, found \[8, 16\]"),
    ],
)
def test_parts_that_do_not_go_with_tiles(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(tiling=NEXT, **arguments)


@pytest.mark.parametrize("tiling", [CROPS, {**NEXT, "unpad": False}, {**NEXT, "newline": False}])
def test_what_llava_next_cannot_hold_is_not_exported(tmp_path: Path, tiling: dict[str, Any]) -> None:
    with pytest.raises(ModelError, match="expected 'any_resolution' with unpad and newline"):
        export_transformers_llava(make(tiling=tiling), make_tokenizer(), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_cls_among_the_patches_of_a_grid_is_refused(tmp_path: Path) -> None:
    reference(vision_feature_select_strategy="full").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="expected 'default', as features with CLS make no grid, found 'full'"):
        load_llava(str(tmp_path))


def test_a_tile_is_of_the_encoders_size() -> None:
    assert make(tiling=NEXT).image_preprocessor().tile.size == SIDE


def test_tiles_of_any_number_of_images_leave_their_module_as_one_tensor() -> None:
    """ZeRO-3 counts a backward pass for each tensor, and ranks with unequally many images would disagree."""
    model = make("siglip", tiling=NEXT)
    assert model.mosaic is not None
    shapes: list[torch.Size] = []
    model.mosaic.register_forward_hook(lambda module, inputs, output: shapes.append(output.shape))
    batches = [make_batch(model, number) for number in (1, 2)]
    features = [model.image_features(batch["pixels"], batch["image_sizes"]) for batch in batches]
    assert [shape[0] for shape in shapes] == [sum(map(len, each)) for each in features]
    assert list(map(len, features)) == [1, 2]

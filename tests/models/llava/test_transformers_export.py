"""Our models as folders of transformers' LLaVA: equal numbers, or an error that says what cannot be held."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from mllm.errors import ModelError
from mllm.models.connectors.mlp import Mlp
from mllm.models.llava.transformers_export import export_obstacle, export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava
from mllm.registry import MODELS
from tests.marks import grid, of_this_transformers
from tests.models.llava.folders import FAMILIES, assert_same, of_reference, reference
from tests.models.tiny import SIDE, VISION, make, make_batch, make_tokenizer

BLIP = {**VISION["clip"], "model_type": "blip_vision_model"}


@pytest.mark.parametrize(("vision", "text"), FAMILIES)
def test_export_round_trip(tmp_path: Path, vision, text) -> None:
    model = make(vision, text, feature_layer=-1, keep_cls=vision == "dinov2", image_mean=(0.1, 0.2, 0.3))
    if text == "gemma2":
        model.language_model.config.final_logit_softcapping = None
    tokenizer = make_tokenizer()
    export_transformers_llava(model, tokenizer, str(tmp_path))
    theirs, info = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    batch = make_batch(model)
    logits = model(**batch, return_logits=True).logits
    torch.testing.assert_close(theirs.eval()(**of_reference(batch)).logits, logits, rtol=1e-5, atol=1e-5)
    again = MODELS.make({"type": "llava", "model_name_or_path": str(tmp_path)}, tokenizer=tokenizer)
    torch.testing.assert_close(again(**batch, return_logits=True).logits, logits, rtol=1e-5, atol=1e-5)
    assert again.image_preprocessor().mean == (0.1, 0.2, 0.3)
    assert again.vision_tower.tokens == model.vision_tower.tokens
    again.save_pretrained(tmp_path / "ours")
    assert_same(again, load_llava(str(tmp_path / "ours")))


@pytest.mark.parametrize(("vision", "layers"), grid(["clip", "siglip"], [[-2], [-2, -1], [0, 2, -1]]))
def test_several_feature_layers_go_both_ways(tmp_path: Path, vision, layers) -> None:
    theirs = reference(vision, "llama", vision_feature_layer=layers)
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_llava(str(tmp_path / "theirs"))
    batch = make_batch(ours)
    expected = theirs(**of_reference(batch)).logits
    torch.testing.assert_close(ours(**batch, return_logits=True).logits, expected, rtol=1e-5, atol=1e-5)
    ours.save_pretrained(tmp_path / "ours")
    assert_same(ours, load_llava(str(tmp_path / "ours")))
    export_transformers_llava(ours, make_tokenizer(), str(tmp_path / "again"))
    again = LlavaForConditionalGeneration.from_pretrained(tmp_path / "again").eval()
    torch.testing.assert_close(again(**of_reference(batch)).logits, expected, rtol=1e-5, atol=1e-5)


def test_export_ties_what_transformers_can_tie(tmp_path: Path) -> None:
    for text, kept in (("qwen2", True), ("gpt_neox", False)):
        model = make(text=text)
        model.language_model.config.tie_word_embeddings = True
        model.language_model.tie_weights()
        export_transformers_llava(model, make_tokenizer(), str(tmp_path / text))
        theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / text).eval()
        assert (theirs.lm_head.weight is theirs.get_input_embeddings().weight) == kept
        batch = make_batch(model)
        expected = model(**batch, return_logits=True).logits
        torch.testing.assert_close(theirs(**of_reference(batch)).logits, expected, rtol=1e-5, atol=1e-5)


def test_exported_processor(tmp_path: Path) -> None:
    export_transformers_llava(make(), make_tokenizer(), str(tmp_path))
    processor = AutoProcessor.from_pretrained(tmp_path, backend="pil")
    image = torch.randint(0, 255, (3, 12, 20), dtype=torch.uint8).numpy()
    inputs = processor(images=[image], text="w1 <image> w2", return_tensors="pt")
    assert inputs["pixel_values"].shape == (1, 3, SIDE, SIDE)
    assert (inputs["input_ids"] == 39).sum() == 4
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert theirs(**inputs).logits.isfinite().all()
    assert AutoTokenizer.from_pretrained(tmp_path).convert_tokens_to_ids("<image>") == 39


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"connector": "mlp3x_gelu"}, "connector: expected 'mlp2x_gelu', 'linear' or 'identity'"),
        ({"connector": "perceiver"}, "connector: expected 'mlp2x_gelu', 'linear' or 'identity'"),
        ({"connector": "concat"}, "connector: expected 'mlp2x_gelu', 'linear' or 'identity'"),
        ({"vision": "convnext"}, "a vision tower with one grid of tokens .*, found a convnext"),
        ({"vision": "siglip2"}, "a vision tower with one grid of tokens .*, found a siglip2_vision_model"),
        ({"vision_tower": BLIP}, "a vision tower that AutoModel knows .*, found a blip_vision_model"),
        ({"vision_tower": [VISION["clip"], VISION["dinov2"]]}, "expected one vision tower .*, found several"),
        ({"image_size": 12}, "image_size: expected the vision tower's own, found 12"),
        ({"vision": "dinov2_with_registers"}, "expected one token before the patches, .* found 5"),
        ({"text": "gemma2"}, r"gemma2: .* leaves out its final_logit_softcapping \(30.0\)"),
        ({"text": "cohere"}, r"cohere: .* leaves out its logit_scale \(0.25\)"),
        ({"text": "granite"}, r"granite: .* leaves out its logits_scaling \(4.0\)"),
        pytest.param(
            {"text": "mamba2"},
            "reads keys and values, but mamba2 keeps a state of its own",
            marks=of_this_transformers,  # from 5.24 on it reads a cache of any kind
        ),
    ],
)
def test_what_the_layout_cannot_hold_is_not_exported(tmp_path: Path, arguments: dict[str, Any], message: str) -> None:
    model = make(**arguments)
    assert re.search(message, export_obstacle(model))
    with pytest.raises(ModelError, match=message):
        export_transformers_llava(model, make_tokenizer(), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_connector_of_ones_own_is_not_taken_for_the_one_it_derives_from() -> None:
    """Its norm would be dropped without a word."""
    model = make()
    assert export_obstacle(model) is None
    model.connector.__class__ = type("WithNorm", (Mlp,), {})
    assert "'linear' or 'identity'" in export_obstacle(model)


@pytest.mark.parametrize(("connector", "layers"), grid(["linear", "mlp1x_gelu", "identity"], [[-2, -1], -2]))
def test_export_of_one_linear_layer_or_none_is_exact(tmp_path: Path, connector, layers) -> None:
    if connector == "identity" and layers != -2:
        layers = [-1]
    close = {"rtol": 0, "atol": 0 if layers == -2 else 1e-6}  # of several layers, theirs computes in another order
    model = make(connector=connector, feature_layer=layers)
    export_transformers_llava(model, make_tokenizer(), str(tmp_path))
    theirs, info = LlavaForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    batch = make_batch(model)
    logits = model(**batch, return_logits=True).logits
    torch.testing.assert_close(theirs.eval()(**of_reference(batch)).logits, logits, **close)
    again = load_llava(str(tmp_path))
    assert again.config.connector == {"type": "linear"}
    torch.testing.assert_close(again(**batch, return_logits=True).logits, logits, **close)

"""Our folders and transformers' LLaVA folders: equal numbers, or an error that lists what does not fit."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from mllm.errors import ModelError
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava, load_transformers_llava
from mllm.registry import MODELS
from tests.marks import slow_but
from tests.models.llava.folders import FAMILIES, assert_same, change, edit, of_reference, reference
from tests.models.llava_names import our_name
from tests.models.tiny import gradients, make, make_batch, make_tokenizer, prompts

PARITY = Path(__file__).parents[4] / "shared" / "parity" / "llava15.pt"


@pytest.mark.parametrize("connector", slow_but(["mlp2x_gelu"], ["linear", "mlp2x_gelu"]))
@pytest.mark.parametrize(("vision", "text"), FAMILIES)
def test_our_folder_round_trip(tmp_path: Path, vision, text, connector) -> None:
    model = make(vision, text, connector=connector, image_mean=(0.1, 0.2, 0.3))
    model.save_pretrained(tmp_path)
    names = load_file(tmp_path / "model.safetensors").keys()
    tied = {"language_model.lm_head.weight"} if model.config.text_config.tie_word_embeddings else set()
    assert names == model.state_dict().keys() - tied, "a Trainer resumes by the names of state_dict"
    loaded = MODELS.make({"type": "llava", "model_name_or_path": str(tmp_path)}, tokenizer=make_tokenizer())
    assert_same(model, loaded)
    assert_same(model, Llava.from_pretrained(tmp_path))
    assert loaded.config.connector == {"type": connector}
    assert loaded.image_preprocessor().mean == (0.1, 0.2, 0.3)
    assert loaded.generation_config.to_dict() == model.generation_config.to_dict()
    assert [p.requires_grad for p in loaded.parameters()] == [p.requires_grad for p in model.parameters()]
    assert (loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight) == bool(tied)
    loaded.save_pretrained(tmp_path / "again")
    assert load_file(tmp_path / "again" / "model.safetensors").keys() == names


def test_our_folder_by_the_auto_class_and_in_shards(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("model-*.safetensors"))) > 1
    assert_same(model, AutoModel.from_pretrained(tmp_path))
    assert_same(model, load_llava(str(tmp_path)))


def test_our_folder_in_another_dtype_and_attention(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    model = load_llava(str(tmp_path), dtype=torch.bfloat16, attn_implementation="eager")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert model.vision_tower.encoder.config._attn_implementation == "eager"
    assert model.language_model.config._attn_implementation == "eager"


def test_resized_embeddings_survive(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(extra=5)
    make().save_pretrained(tmp_path / "small")
    grown = MODELS.make({"type": "llava", "model_name_or_path": str(tmp_path / "small")}, tokenizer=tokenizer)
    assert grown.get_input_embeddings().num_embeddings == len(tokenizer) == 45
    grown.save_pretrained(tmp_path / "grown")
    assert_same(grown, load_llava(str(tmp_path / "grown")))


def test_our_folder_that_does_not_fit_lists_everything(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    norm, bias = "language_model.model.norm.weight", "connector.layers.0.bias"
    change(tmp_path, **{norm: None, bias: torch.zeros(3), "connector.layers.7.bias": torch.zeros(3)})
    with pytest.raises(ModelError) as caught:
        load_llava(str(tmp_path))
    wrong = f"missing {norm}; {bias}: [3] instead of [16]; unexpected connector.layers.7.bias"
    assert str(caught.value).endswith(f": {wrong}")


def test_a_truncated_file(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ModelError, match=str(tmp_path)):
        load_llava(str(tmp_path))


def test_another_kind_of_folder(tmp_path: Path) -> None:
    make().language_model.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="expected 'mllm_llava' or 'llava' or 'llava_next', found str 'llama'"):
        load_llava(str(tmp_path))


@pytest.mark.parametrize(("vision", "text"), FAMILIES)
def test_equals_transformers_llava(tmp_path: Path, vision, text) -> None:
    theirs = reference(vision, text)
    theirs.save_pretrained(tmp_path)
    ours = load_transformers_llava(str(tmp_path))
    ours.freeze([])
    batch = make_batch(ours)
    expected = theirs(**of_reference(batch))
    found = ours(**batch, return_logits=True)
    torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.loss, expected.loss, rtol=1e-5, atol=1e-5)
    found.loss.backward()
    expected.loss.backward()
    wanted = {our_name(name, ours): gradient for name, gradient in gradients(theirs).items()}
    assert gradients(ours).keys() == wanted.keys()
    for name, gradient in gradients(ours).items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-5, msg=name)
    inputs = prompts(batch)
    settings = {"max_new_tokens": 4, "do_sample": False}
    ids = theirs.generate(**of_reference(inputs), **settings)
    assert ours.generate(**inputs, **settings).tolist() == ids[:, inputs["input_ids"].shape[1] :].tolist()


def test_two_linear_layers_without_an_activation_are_no_linear_connector(tmp_path: Path) -> None:
    reference("clip", "llama", projector_hidden_act="linear").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="only an identity is supported as the second"):
        load_llava(str(tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"projector_hidden_act": "relu"}, "projector_hidden_act: expected 'gelu' or 'linear', found str 'relu'"),
        ({"multimodal_projector_bias": False}, "multimodal_projector_bias: expected True, found"),
    ],
)
def test_variants_of_llava_that_are_not_supported(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    reference("clip", "llama", **changes).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=message):
        load_llava(str(tmp_path))


def test_a_patch_is_not_mistaken_for_cls(tmp_path: Path) -> None:
    reference("siglip", "llama", vision_feature_select_strategy="default").save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"expected one token before the patches for 'default', .* found 0"):
        load_llava(str(tmp_path))


def test_transformers_folder_that_does_not_fit_lists_everything(tmp_path: Path) -> None:
    reference("clip", "llama").save_pretrained(tmp_path)
    norm, first = "language_model.model.norm.weight", "multi_modal_projector.linear_1.bias"
    change(tmp_path, **{norm: None, first: torch.zeros(3), "mm_projector.0.weight": torch.zeros(2)})
    with pytest.raises(ModelError) as caught:
        load_llava(str(tmp_path))
    assert str(caught.value).endswith(
        ": missing model.language_model.norm.weight; model.multi_modal_projector.linear_1.bias: [3] instead of [16]; "
        "unexpected mm_projector.0.weight"
    )


@pytest.mark.parametrize("tied", [False, True])
def test_head_and_embeddings_are_tied_if_the_weights_are_whatever_the_config_says(tmp_path: Path, tied: bool) -> None:
    theirs = reference("clip", "qwen2" if tied else "llama")
    theirs.save_pretrained(tmp_path / "theirs")
    config = tmp_path / "theirs" / "config.json"
    text_config = {**json.loads(config.read_text())["text_config"], "tie_word_embeddings": not tied}
    edit(config, tie_word_embeddings=True, text_config=text_config)
    ours = load_llava(str(tmp_path / "theirs"))
    assert (ours.get_output_embeddings().weight is ours.get_input_embeddings().weight) == tied
    torch.testing.assert_close(ours.get_output_embeddings().weight, theirs.lm_head.weight)
    ours.save_pretrained(tmp_path / "ours")
    names = load_file(tmp_path / "ours" / "model.safetensors")
    assert ("language_model.lm_head.weight" in names) != tied
    assert_same(ours, load_llava(str(tmp_path / "ours")))


def test_generation_settings_survive(tmp_path: Path) -> None:
    model = make()
    model.generation_config.eos_token_id = [2, 7]
    model.generation_config.max_new_tokens = 77
    model.save_pretrained(tmp_path / "ours")
    export_transformers_llava(model, make_tokenizer(), str(tmp_path / "theirs"))
    for folder in ("ours", "theirs"):
        found = load_llava(str(tmp_path / folder)).generation_config
        assert (found.eos_token_id, found.max_new_tokens) == ([2, 7], 77)


@pytest.mark.skipif(not PARITY.exists(), reason="no reference numbers beside this checkout")
def test_parity_with_recorded_numbers(tmp_path: Path) -> None:
    """LLaVA 1.5 in small, recorded with transformers 5.23."""
    recorded = torch.load(PARITY, weights_only=True)
    (tmp_path / "config.json").write_text(json.dumps(recorded["config"]))
    save_file(
        {name: t.contiguous() for name, t in recorded["state_dict"].items()},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    model = load_llava(str(tmp_path))
    model.freeze([])
    inputs = recorded["inputs"]
    pixels = inputs["pixel_values"]
    batch = {name: inputs[name] for name in ("input_ids", "attention_mask", "labels")}
    output = model(**batch, pixels=pixels, return_logits=True)
    close = {"rtol": 0, "atol": 1e-4}
    torch.testing.assert_close(model.image_features(pixels), recorded["image_features"], **close)
    torch.testing.assert_close(output.logits, recorded["logits"], **close)
    torch.testing.assert_close(output.loss, recorded["loss"], **close)
    model(**batch, pixels=pixels).loss.backward()
    found, wanted = gradients(model), {our_name(name, model): g for name, g in recorded["grads"].items()}
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], **close, msg=name)
    settings = {"max_new_tokens": 5, "min_new_tokens": 5, "do_sample": False}
    ids = model.generate(batch["input_ids"][:1], batch["attention_mask"][:1], pixels[:2], **settings)
    assert ids.tolist() == recorded["generate"][:, -5:].tolist()

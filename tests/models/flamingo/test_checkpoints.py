"""Files of OpenFlamingo: read to equal numbers, refused with a list, written as they were."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mllm.errors import ModelError
from mllm.models.flamingo.checkpoints import (
    load_reference,
    read_reference,
    reference_state,
    save_reference,
    to_our_names,
)
from mllm.models.runtime.ranking import candidate_log_probs
from mllm.registry import MODELS
from tests.marks import grid
from tests.models.reference_flamingo import REFERENCE, REFERENCE_LMS, needs_reference, reference_model
from tests.models.tiny import VISION, gradients
from tests.models.tiny_flamingo import LMS, PARITY, PERCEIVER, make, make_batch, tokenizer


@pytest.fixture(scope="module")
def reference():
    return torch.load(REFERENCE, weights_only=True)


@pytest.fixture
def loaded(reference):
    model = reference_model()
    load_reference(model, to_our_names(reference["state_dict"]), "the reference", whole=True)
    return model


def images(reference) -> torch.Tensor:
    """Without the zeros that the reference pads the second row with."""
    return reference["inputs"]["vision_x"].flatten(0, 2)[:3]


@needs_reference
def test_logits_loss_and_gradients_are_the_references(loaded, reference) -> None:
    inputs, forward = reference["inputs"], reference["forward"]
    loaded.freeze(["vision_tower", "language_model"], "input")
    features = loaded.vision_tower(reference["inputs"]["vision_x"].flatten(0, 2))
    torch.testing.assert_close(features, reference["vision_tokens"], rtol=0, atol=1e-4)
    out = loaded(
        inputs["input_ids"],
        pixels=images(reference),
        attention_mask=inputs["attention_mask"],
        labels=inputs["labels"],
        return_logits=True,
    )
    torch.testing.assert_close(out.logits, forward["logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(out.loss, forward["loss"], rtol=0, atol=1e-4)
    out.loss.backward()
    found = {name.replace("language_model", "lang_encoder"): grad for name, grad in gradients(loaded).items()}
    assert found.keys() == forward["grads"].keys()
    for name, grad in forward["grads"].items():
        torch.testing.assert_close(found[name], grad, rtol=0, atol=1e-4, msg=name)


@needs_reference
def test_masked_gradients_are_the_references_in_the_new_rows(loaded, reference) -> None:
    inputs = reference["inputs"]
    loaded.freeze(["vision_tower", "language_model"], "new")
    mask = inputs["attention_mask"]
    loaded(inputs["input_ids"], pixels=images(reference), attention_mask=mask, labels=inputs["labels"]).loss.backward()
    found = loaded.get_input_embeddings().weight.grad
    expected = reference["forward"]["grads"]["lang_encoder.model.embed_tokens.weight"].clone()
    expected[:97], expected[99:] = 0, 0
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


@needs_reference
@pytest.mark.parametrize("beams", [1, 2])
def test_generated_ids_are_the_references(loaded, reference, beams: int) -> None:
    inputs = reference["inputs"]
    arguments = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": 97, "pad_token_id": 99}
    expected = reference[f"generate_beams{beams}"][:, 8:]

    def answer() -> torch.Tensor:
        return loaded.generate(
            inputs["gen_ids"], inputs["gen_mask"], pixels=images(reference), num_beams=beams, **arguments
        )

    # one answer holds an `<image>`, at which the reference takes the images from the other rows and beams
    found = answer()
    assert found[:, :3].tolist() == expected[:, :3].tolist() or beams > 1
    assert found.tolist() != expected.tolist()
    loaded.config.generated_image_resets = True
    assert answer().tolist() == expected.tolist()


@needs_reference
def test_a_row_alone_is_answered_as_the_reference_does(loaded, reference) -> None:
    found = loaded.generate(
        reference["inputs"]["gen_ids"][1:, 4:],
        pixels=images(reference)[2:],
        **{"max_new_tokens": 6, "do_sample": False, "eos_token_id": 97, "pad_token_id": 99},
    )
    assert found.tolist() == reference["generate_row1_unpadded"][:, 4:].tolist()


@needs_reference
def test_continuations_behind_cached_media_are_the_references(loaded, reference) -> None:
    prompt, new = reference["inputs"]["input_ids"][:1, :11], torch.tensor([30, 31])
    given = {"input_ids": prompt, "attention_mask": torch.ones_like(prompt), "pixels": images(reference)[:2]}
    (found,) = candidate_log_probs(loaded, given, [[new.tolist()]])
    for name in ("cached_logits", "nocached_logits"):
        expected = reference[name][0, 10:12].log_softmax(-1).gather(1, new[:, None])[:, 0]
        assert float(found) == pytest.approx(float(expected.sum()), abs=2e-4)
    whole = loaded(torch.cat([prompt, new[None]], 1), pixels=images(reference)[:2]).logits
    torch.testing.assert_close(whole, reference["cached_logits"], rtol=0, atol=1e-4)


@needs_reference
@pytest.mark.parametrize("text", REFERENCE_LMS)
def test_names_and_shapes_are_the_references(text) -> None:
    names = json.loads((PARITY / f"keys_openflamingo_{text}.json").read_text())
    model = reference_model(text)
    state = {name: torch.zeros(shape) for name, shape in names["keys"].items()}
    load_reference(model, to_our_names(state), text, whole=True)
    model.freeze(["vision_tower", "language_model"], "new")
    found = {name: list(tensor.shape) for name, tensor in reference_state(model).items()}
    assert found == names["released_keys"]


@pytest.mark.parametrize(("text", "ending"), grid([*LMS], ["pt", "safetensors"]))
def test_a_saved_file_over_the_same_parts_is_the_same_model(tmp_path: Path, text, ending) -> None:
    path = str(tmp_path / f"checkpoint.{ending}")
    model = make(text)
    fresh = make(text, seed=1)
    save_reference(model, path)
    saved = read_reference(path)
    for name, parameter in model.named_parameters():
        if name not in saved:
            assert name.startswith(("vision_tower.", "language_model.")), name
            fresh.get_parameter(name).data.copy_(parameter)
    load_reference(fresh, saved, path)
    batch = make_batch(model)
    torch.testing.assert_close(fresh(**batch).loss, model(**batch).loss, rtol=0, atol=0)


def test_the_builder_takes_a_file(tmp_path: Path) -> None:
    model = make()
    save_reference(model, str(tmp_path / "checkpoint.pt"))
    built = make(seed=1, checkpoint=str(tmp_path / "checkpoint.pt"))
    assert built.perceiver.latents.shape == model.perceiver.latents.shape
    again = MODELS.make(
        {
            "type": "openflamingo",
            "vision_tower": VISION["clip"],
            "language_model": LMS["llama"],
            "cross_attn_every_n_layers": 1,
            "perceiver": PERCEIVER,
            "checkpoint": str(tmp_path / "checkpoint.pt"),
        },
        tokenizer=tokenizer(),
    )
    torch.testing.assert_close(again.perceiver.latents, model.perceiver.latents)
    torch.testing.assert_close(again.get_input_embeddings().weight, model.get_input_embeddings().weight)


def test_training_files_are_unwrapped(tmp_path: Path) -> None:
    model = make()
    state = reference_state(model)
    layer = "lang_encoder.model.layers.0.gated_cross_attn_layer.attn_gate"
    noise = {
        "lang_encoder.gated_cross_attn_layers.0.attn_gate": state[layer],
        "lang_encoder.old_decoder_blocks.0.mlp.up_proj.weight": torch.zeros(1),
        "lang_encoder.model.layers.0.decoder_layer.self_attn.rotary_emb.inv_freq": torch.zeros(2),
    }
    content = {"epoch": 1, "model_state_dict": {f"module.{k}": v for k, v in {**state, **noise}.items()}}
    torch.save(content, tmp_path / "training.pt")
    torch.save({"model": {**state, **noise}}, tmp_path / "first.pt")
    save_file({name: tensor.clone() for name, tensor in state.items()}, tmp_path / "flat.safetensors")
    for name in ("training.pt", "first.pt", "flat.safetensors"):
        found = read_reference(str(tmp_path / name))
        assert found.keys() == {key.replace("lang_encoder", "language_model") for key in state}


def test_everything_that_does_not_fit_is_listed() -> None:
    model = make()
    state = to_our_names(reference_state(model))
    del state["perceiver.norm.bias"]
    state["perceiver.latents"] = torch.zeros(5, 16)
    state["language_model.model.layers.5.gated_cross_attn_layer.ff_gate"] = torch.zeros(1)
    with pytest.raises(ModelError) as error:
        load_reference(model, state, "x.pt")
    assert str(error.value) == (
        "x.pt: does not fit this Flamingo: missing perceiver.norm.bias; perceiver.latents: [5, 16] instead of [3, 16]; "
        "unexpected language_model.model.layers.5.gated_cross_attn_layer.ff_gate"
    )
    with pytest.raises(ModelError, match=r"missing language_model\.lm_head\.weight; .*; and \d+ more$"):
        load_reference(model, to_our_names(reference_state(model)), "x.pt", whole=True)


@pytest.mark.parametrize("text", ["llama", "mpt"])
@pytest.mark.parametrize("change", [-2, 3])
def test_embeddings_of_another_vocabulary(text: str, change: int) -> None:
    model, other = make(text), make(text, seed=1)
    state = to_our_names(reference_state(model))
    name = next(key for key in state if key.endswith(("embed_tokens.weight", "wte.weight")))
    table = torch.cat([state[name], torch.randn(3, 16)])[: 42 + change]
    load_reference(other, {**state, name: table}, "x.pt")
    rows: Any = other.get_input_embeddings().weight
    assert len(rows) == max(42, 42 + change)
    torch.testing.assert_close(rows[: len(table)], table)
    assert (other.get_output_embeddings().weight is rows) == (text == "mpt")


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected a file on this machine"), ([1], "expected weights by name, found list"), (b"no", "x.pt: ")],
)
def test_files_that_hold_no_weights(tmp_path: Path, content: list[int] | bytes | None, message: str) -> None:
    path = tmp_path / "x.pt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        torch.save(content, path)
    with pytest.raises(ModelError, match=message):
        read_reference(str(path))

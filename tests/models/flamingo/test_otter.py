"""Otter: the reference's numbers, its folders, its format, videos, and its own way of decoding."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, DataError, ModelError
from mllm.models.flamingo.builder import compose
from mllm.models.flamingo.checkpoints import to_our_names
from mllm.models.flamingo.otter import load_otter, save_otter
from mllm.records import read_item
from mllm.registry import CODECS, MODELS, TEMPLATES
from tests.models.tiny import gradients, make_tokenizer, prompts
from tests.models.tiny import make as make_llava
from tests.models.tiny_flamingo import PARITY, disturb, make, make_batch, tokenizer, trainable

REFERENCE = PARITY / "otter_llama.pt"
needs_reference = pytest.mark.skipif(not REFERENCE.exists(), reason="no numbers of the reference at hand")
GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 3}


@pytest.fixture(scope="module")
def reference():
    return torch.load(REFERENCE, weights_only=True)


def reference_model(layers: int, perceiver: dict):
    """Of the sizes that the reference's numbers were made with."""
    text = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": layers, "num_attention_heads": 4}
    vision = {"hidden_size": 1024, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 16}
    return compose(
        AutoModel.from_config(AutoConfig.for_model("clip_vision_model", image_size=28, patch_size=14, **vision)),
        AutoModelForCausalLM.from_config(AutoConfig.for_model("llama", vocab_size=67, **text)),
        cross_attn_every_n_layers=2,
        perceiver=perceiver,
        image_token_id=64,
        new_token_ids=[63, 64, 65],
    )


def by_the_rule(name: str, shape: list[int]) -> torch.Tensor:
    """The weights that the reference's numbers were made with, drawn anew."""
    if name.endswith(("attn_gate", "ff_gate")):
        return torch.full(shape, 0.5 if name.endswith("attn_gate") else -0.3)
    seed = int(sha256(name.replace("vision_encoder.vision_model.", "vision_encoder.").encode()).hexdigest()[:8], 16)
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    if len(shape) == 1:
        return 1 + 0.1 * values if "norm" in name and name.endswith("weight") else 0.05 * values
    return values * (0.03 if max(shape) >= 512 else 0.2)


@pytest.fixture(scope="module")
def drawn(reference):
    model = reference_model(4, {})
    state = {name: by_the_rule(name, shape) for name, shape in reference["keys"].items()}
    for name, total in reference["weight_sums"].items():
        assert state[name].double().sum().item() == pytest.approx(total, abs=1e-3), name
    result = model.load_state_dict(to_our_names(state), strict=True)
    assert not result.missing_keys
    return model


@needs_reference
def test_logits_loss_and_gradients_are_the_references(drawn, reference) -> None:
    drawn.freeze(["vision_tower", "language_model"], "input_and_output")
    inputs = reference["inputs"]
    out = drawn(
        inputs["input_ids"],
        pixels=inputs["vision_x"].flatten(0, 2),
        labels=inputs["labels"],
        return_logits=True,
    )
    torch.testing.assert_close(out.logits, reference["logits"], rtol=0, atol=1e-4)
    torch.testing.assert_close(out.loss, reference["loss"], rtol=0, atol=1e-4)
    out.loss.backward()
    found = gradients(drawn)
    drawn.zero_grad()
    expected = to_our_names({name: torch.tensor(norm) for name, norm in reference["grad_norms"].items()})
    assert found.keys() == expected.keys()
    for name, norm in expected.items():
        torch.testing.assert_close(found[name].double().norm(), norm.double(), rtol=1e-4, atol=1e-4, msg=name)


@needs_reference
@pytest.mark.parametrize(("cached", "blind"), [(False, False), (True, True)])
def test_generated_ids_are_the_references(drawn, reference, cached: bool, blind: bool) -> None:
    """Its cached generation does not see the images after the first new token, its uncached one does."""
    inputs, whole = reference["inputs"], reference[f"generate_use_cache_{cached}"][0]
    prompt = whole[:12]
    assert prompt.tolist() == inputs["input_ids"][0, :12].tolist()
    arguments = {"max_new_tokens": 8, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    drawn.config.image_blind_decoding = blind
    for use_cache in (True, False) if not blind else (True,):
        found = drawn.generate(prompt[None], pixels=inputs["vision_x"].flatten(0, 2), use_cache=use_cache, **arguments)
        assert found[0].tolist() == whole[12:].tolist()
    drawn.config.image_blind_decoding = False


@pytest.mark.skipif(not PARITY.exists(), reason="no names of the reference at hand")
def test_names_of_a_video_otter_are_the_references() -> None:
    names = json.loads((PARITY / "keys_otter_video.json").read_text())["keys"]
    layers = 1 + max(int(name.split(".")[3]) for name in names if name.startswith("lang_encoder.model.layers."))
    model = reference_model(layers, {"max_frames": 3})
    expected = to_our_names({name: torch.zeros(shape) for name, shape in names.items()})
    assert {name: t.shape for name, t in expected.items()} == {name: t.shape for name, t in model.state_dict().items()}


@pytest.mark.parametrize("text", ["llama", "mpt"])
def test_its_folder_round_trip(tmp_path: Path, text: str) -> None:
    model = make(text, kind="otter", max_num_frames=4, perceiver=None)
    save_otter(model, tokenizer(), str(tmp_path))
    names = load_file(tmp_path / "model.safetensors").keys()
    assert {"perceiver.layers.0.to_q.weight", "perceiver.layers.5.feed_forward.3.weight"} <= names
    assert "vision_encoder.vision_model.embeddings.class_embedding" in names
    assert any(name.endswith("gated_cross_attn_layer.feed_forward.1.weight") for name in names)
    loaded = MODELS.make({"type": "otter", "model_name_or_path": str(tmp_path)}, tokenizer=tokenizer())
    assert trainable(loaded) == trainable(model)
    batch = make_batch(model, frames=2)
    torch.testing.assert_close(loaded(**batch).loss, model(**batch).loss, rtol=0, atol=0)
    assert loaded.image_preprocessor().mean == model.image_preprocessor().mean


def test_its_folder_in_shards(tmp_path: Path) -> None:
    model = make("gpt_neox", kind="otter", perceiver=None)
    save_otter(model, tokenizer(), str(tmp_path))
    state = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    names = sorted(state)
    for number, half in enumerate((names[::2], names[1::2]), 1):
        path = tmp_path / f"pytorch_model-0000{number}-of-00002.bin"
        torch.save({name: state[name] for name in half}, path)
    loaded = load_otter(str(tmp_path), dtype=torch.bfloat16)
    assert {parameter.dtype for parameter in loaded.parameters()} == {torch.bfloat16}
    path.unlink()
    with pytest.raises(ModelError, match="does not fit this Flamingo: missing "):
        load_otter(str(tmp_path))


def test_our_folder_round_trip(tmp_path: Path) -> None:
    model = make(kind="otter", max_num_frames=4, image_blind_decoding=True)
    model.save_pretrained(tmp_path)
    loaded = MODELS.make({"type": "otter", "model_name_or_path": str(tmp_path)}, tokenizer=tokenizer())
    assert loaded.config.image_blind_decoding
    batch = make_batch(model, frames=2)
    torch.testing.assert_close(loaded(**batch).loss, model(**batch).loss, rtol=0, atol=0)


def test_what_its_folder_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"cannot hold perceiver \{'depth': 1"):
        save_otter(make(kind="otter"), tokenizer(), str(tmp_path))


@pytest.mark.parametrize(
    ("arguments", "tokens", "error", "message"),
    [
        ({}, False, ModelError, "expected the tokens .*, found no <|endofchunk|>, <answer>"),
        (
            {"model_name_or_path": "x", "max_num_frames": 3},
            True,
            ConfigError,
            "expected no perceiver beside model_name_or_path, found x, .*; remove one of the two",
        ),
        ({"model_name_or_path": "x"}, True, ModelError, "expected a folder on this machine, found x"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], tokens: bool, error, message: str) -> None:
    with pytest.raises(error, match=message.replace("|", r"\|")):
        MODELS.make({"type": "otter", **arguments}, tokenizer=tokenizer() if tokens else make_tokenizer())


def test_in_context_examples_and_labels() -> None:
    """Every turn has its own image; supervised is what follows `<answer>` through `<|endofchunk|>`, and the end."""
    model = make(kind="otter")
    words = tokenizer()
    processor = Processor(
        tokenizer=words,
        template=TEMPLATES.make("otter"),
        codec=CODECS.make("shikra"),
        view=model.image_preprocessor(),
    )
    item = read_item(
        {
            "images": [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")],
            "conversations": [
                {"from": "human", "value": "<image>\nw1 w2"},
                {"from": "gpt", "value": "w3 w4"},
                {"from": "human", "value": "<image>\nw5"},
                {"from": "gpt", "value": "w6"},
            ],
        },
        key="x",
    )
    example = processor.encode(item, 0)
    vocab = words.get_vocab()
    image, end, answer = (vocab[token] for token in ("<image>", "<|endofchunk|>", "<answer>"))
    assert [int(i) for i in example.input_ids if i in (image, end, answer)] == [image, answer, end, image, answer, end]
    inside, expected = False, []
    for token in example.input_ids.tolist():
        expected.append(token if inside or token == vocab["</s>"] else -100)
        inside = token == answer or (inside and token != end)
    assert example.labels.tolist() == expected
    loss = model(
        example.input_ids[None],
        pixels=torch.cat([each["pixels"] for each in example.pixels]),
        labels=example.labels[None],
    ).loss
    assert loss.isfinite()


def test_blind_decoding_is_off_unless_asked_for() -> None:
    model = make(kind="otter", cross_attn_every_n_layers=1)
    disturb(model)
    assert not model.config.image_blind_decoding
    inputs = prompts(make_batch(model))
    seeing = model.generate(**inputs, max_new_tokens=6, **GREEDY)
    assert seeing.tolist() == model.generate(**inputs, max_new_tokens=6, use_cache=False, **GREEDY).tolist()
    model.config.image_blind_decoding = True
    blind = model.generate(**inputs, max_new_tokens=6, **GREEDY)
    assert blind[:, 0].tolist() == seeing[:, 0].tolist(), "the prompt still sees"


def test_videos_and_images_in_one_conversation() -> None:
    """A list of frames is one `<image>`; the model takes what the processor and the collator make of it."""
    words = tokenizer()
    model = make(kind="otter", max_num_frames=3)
    parts = dict(tokenizer=words, template=TEMPLATES.make("otter"), codec=CODECS.make("shikra"))
    processor = Processor(**parts, view=model.image_preprocessor())
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "green", "blue")]
    turns = [{"from": "human", "value": "<image>\nw1"}, {"from": "gpt", "value": "w2"}]
    more = [{"from": "human", "value": "<image>\nw3"}, {"from": "gpt", "value": "w4"}]
    both = read_item({"images": [frames, frames[0]], "conversations": [*turns, *more]}, key="both")
    still = read_item({"images": [frames[1]], "conversations": turns}, key="still")
    examples = [processor.encode(item, n) for n, item in enumerate((both, still))]
    batch = Collator(pad_token_id=words.pad_token_id)(examples)
    assert batch["frames"].tolist() == [3, 1, 1]
    assert len(batch["pixels"]) == 5
    inputs = {name: value for name, value in batch.items() if name not in ("index", "label_sources")}
    together = model(**inputs, return_logits=True).logits
    for row, example in enumerate(examples):
        one = Collator(pad_token_id=words.pad_token_id)([example])
        logits = model(**{name: one[name] for name in inputs}, return_logits=True).logits[0]
        torch.testing.assert_close(together[row, : len(logits)], logits, rtol=1e-4, atol=1e-5)
    blind = Processor(**parts, view=make_llava().image_preprocessor())
    with pytest.raises(DataError, match="both: a video of 3 frames, but this model takes images only"):
        blind.encode(both, 0)

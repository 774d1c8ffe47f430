"""Adapters and quantised language models in Flamingos, whose cross-attention lies inside the language model."""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.errors import ConfigError, ModelError
from mllm.models.adapters.injection import base_of, inject_adapters, load_adapted, merge, parameter_table, save_adapted
from mllm.models.adapters.selection import is_adapter
from mllm.models.adapters.settings import read_adapters
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.checkpoints import load_reference, save_reference
from mllm.models.flamingo.otter import save_otter
from mllm.models.parts import is_quantized
from mllm.registry import MODELS
from tests.marks import grid
from tests.models.tiny import gradients, prompts, without_images
from tests.models.tiny_flamingo import LMS, make, make_batch, tokenizer
from tests.models.tuning import disturb, layers, trained, tuning_config

BLOCK = {"attn.to_q", "attn.to_kv", "attn.to_out", "ff.1", "ff.3"}
LORA = {"type": "lora", "targets": ["language_model", "cross_attention"], "r": 4, "unfrozen": ["perceiver"]}
# what the files of Instruct-Flamingo list for all its language models at once
TUNING = {
    "lora_target_modules": ["q_proj", "v_proj", "Wqkv", "to_q", "to_kv", "to_out", "ff.1", "ff.3"],
    "lora_r": 4,
    "unfrozen": ["perceiver"],
}
GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 3, "max_new_tokens": 4}
QUANTIZATIONS = {
    "nf4": {"type": "bitsandbytes", "bits": 4, "storage_dtype": "float32"},
    "int8": {"type": "bitsandbytes", "bits": 8},
    "hqq": {"type": "hqq", "bits": 8, "group_size": 16},
    "torchao": {"type": "torchao", "scheme": "Int8WeightOnlyConfig"},
}


def adapted(section, *, base=None, **arguments):
    model = make(**arguments)
    inject_adapters(model, read_adapters(section), base or {"type": "openflamingo"})
    return model


def logits(model):
    return model.eval()(**{name: tensor for name, tensor in make_batch(model).items() if name != "labels"}).logits


def endings(names, marker="gated_cross_attn_layer.") -> set[str]:
    return {name.partition(marker)[2] for name in names if marker in name}


@pytest.mark.parametrize("text", ["llama", "mpt", "gpt2"])
def test_parts_are_told_apart(text: str) -> None:
    language_model = layers(adapted({**LORA, "targets": ["language_model"]}, text=text))
    assert language_model
    assert all("decoder_layer" in name for name in language_model)
    cross_attention = layers(adapted({**LORA, "targets": ["cross_attention"]}, text=text))
    assert endings(cross_attention) == BLOCK
    assert len(cross_attention) == 2 * len(BLOCK)
    perceiver = layers(adapted({**LORA, "targets": ["perceiver"], "unfrozen": []}, text=text))
    assert perceiver
    assert all(name.startswith("perceiver.") for name in perceiver)


def test_a_language_model_that_only_holds_trained_parts_drops_nothing_out() -> None:
    model = adapted({**LORA, "targets": ["cross_attention"]}).train()
    assert model.frozen == ("vision_tower", "language_model")
    assert not model.language_model.model.layers[0].decoder_layer.training
    assert model.language_model.model.layers[0].gated_cross_attn_layer.training
    assert "language_model" not in adapted(LORA).frozen


def test_a_tuning_config_as_it_is(tmp_path: Path) -> None:
    model = adapted(tuning_config(tmp_path, **TUNING))
    names = layers(model)
    assert endings(names) == BLOCK
    assert {name.rpartition(".")[2] for name in names if "decoder_layer" in name} == {"q_proj", "v_proj"}
    assert {name.split(".")[0] for name in trained(model) if not is_adapter(name)} == {"perceiver"}
    rows = {line.split()[0]: line.split()[1:] for line in parameter_table(model).splitlines()[1:]}
    assert rows["connector"][-1] == "100.000%"
    assert rows["vision_tower"][1:4] == ["0", "0", "0"]
    adapters = {name: p.numel() for name, p in model.named_parameters() if is_adapter(name)}
    inside = sum(size for name, size in adapters.items() if "gated_cross_attn_layer" in name)
    assert rows["cross_attention"][2] == f"{inside:,}"
    assert rows["total"][2] == f"{sum(adapters.values()):,}"


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({**LORA, "targets": ["to_qq"]}, "found 'to_qq', which matches nothing; did you mean"),
        ({**LORA, "targets": ["q_proj"]}, "'q_proj' matches 3 names in the vision tower too"),
        ({**LORA, "unfrozen": ["perciever"]}, "adapters.unfrozen: expected a part of the model, .* found 'perciever'"),
    ],
)
def test_wrong_targets(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        adapted(section, freeze=["language_model"])


@pytest.mark.parametrize(("kind", "text"), grid(["openflamingo", "otter"], ["llama", "gpt_neox"]))
def test_adapters_train_are_saved_loaded_and_merged(tmp_path: Path, text, kind) -> None:
    make(text, kind=kind).save_pretrained(tmp_path / "base")
    base = {"type": kind, "model_name_or_path": str(tmp_path / "base")}
    model = MODELS.make(base, tokenizer=tokenizer())
    inject_adapters(model, read_adapters({**LORA, "unfrozen": ["perceiver", "embeddings", "gate"]}), base)
    batch = make_batch(model)
    model.train()(**batch).loss.backward()
    assert gradients(model).keys() == trained(model)
    model.zero_grad()
    model(**without_images(batch, model)).loss.backward()
    assert gradients(model).keys() == trained(model)
    disturb(model)
    save_adapted(model, str(tmp_path / "out"))
    with pytest.raises(ModelError, match="expected a whole model, found adapters"):
        load_flamingo(str(tmp_path / "out"))
    stored = base_of(str(tmp_path / "out"))
    assert stored
    again = MODELS.make(stored[0], tokenizer=tokenizer())
    inject_adapters(again, stored[1], stored[0])
    load_adapted(again, str(tmp_path / "out"))
    expected = logits(model)
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=0)
    inputs = prompts(batch)
    answers = model.generate(**inputs, **GREEDY)
    merged = merge(again)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)
    assert merged.eval().generate(**inputs, **GREEDY).tolist() == answers.tolist()
    merged.save_pretrained(tmp_path / "merged")
    torch.testing.assert_close(logits(load_flamingo(str(tmp_path / "merged"))), expected, rtol=1e-5, atol=1e-5)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model in every layout that can be quantised, wide enough for blocks of 64 weights."""
    folder = tmp_path_factory.mktemp("bases")
    LMS["wide"] = {**LMS["llama"], "hidden_size": 64, "intermediate_size": 128}
    source = make("wide")
    source.save_pretrained(folder / "own")
    save_otter(make("wide", kind="otter", perceiver=None), tokenizer(), str(folder / "otter"))
    alone = MODELS.make(
        {
            "type": "llava",
            "language_model": LMS.pop("wide"),
            "vision_tower": source.vision_tower.encoder.config.to_dict(),
        },
        tokenizer=tokenizer(),
    )
    alone.language_model.save_pretrained(folder / "text")
    source.vision_tower.encoder.save_pretrained(folder / "vision")
    save_reference(source, str(folder / "trained.pt"))
    parts = {
        **{"vision_tower": str(folder / "vision"), "language_model": str(folder / "text")},
        **{"checkpoint": str(folder / "trained.pt"), "perceiver": source.config.perceiver},
        "cross_attn_every_n_layers": 1,
    }
    return {"own": {"model_name_or_path": str(folder / "own")}, "parts": parts, "otter": str(folder / "otter")}


def build(base, quantization, kind="openflamingo"):
    if not find_spec(quantization["type"]):
        pytest.skip(f"{quantization['type']} is not installed")
    return MODELS.make({"type": kind, **base, "quantization": quantization}, tokenizer=tokenizer())


@pytest.mark.parametrize(("base", "quantization"), grid(["own", "parts"], [*QUANTIZATIONS]))
def test_adapters_on_a_quantised_language_model(folders, quantization, base, tmp_path: Path) -> None:
    quantization = QUANTIZATIONS[quantization]
    model = build(folders[base], quantization)
    layer = model.language_model.model.layers[0]
    few = layer.decoder_layer.mlp.up_proj
    assert type(few).__name__ == "HQQLinear" or is_quantized(few.weight)
    blocks = [
        p for name, p in model.named_parameters() if "gated_cross_attn_layer" in name or "decoder_layer" not in name
    ]
    assert not any(is_quantized(parameter) for parameter in blocks), "only the language model's own layers are"
    assert model.generate(**prompts(make_batch(model)), **GREEDY).shape == (2, 4)
    args = {"type": "openflamingo", **folders[base], "quantization": quantization}
    inject_adapters(model, read_adapters(LORA), args)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(4):
        loss = model.train()(**make_batch(model)).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[3] < 0.8 * losses[0]
    save_adapted(model, str(tmp_path))
    again = build(folders[base], quantization)
    inject_adapters(again, read_adapters(LORA), args)
    load_adapted(again, str(tmp_path))
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    with pytest.raises(ModelError, match="cannot be merged into quantised weights"):
        merge(again)


def test_what_is_not_quantised(folders) -> None:
    pytest.importorskip("bitsandbytes")
    quantization = QUANTIZATIONS["int8"]
    with pytest.raises(
        ConfigError, match=r"quantization: expected a folder saved by mllm, or parts, found .*, in Otter's layout"
    ):
        build({"model_name_or_path": folders["otter"]}, quantization, kind="otter")
    model = build(folders["own"], quantization)
    exact = MODELS.make({"type": "openflamingo", **folders["own"]}, tokenizer=tokenizer())
    with pytest.raises(ModelError, match=r"up_proj.weight: quantised already, cannot be loaded"):
        load_reference(model, exact.state_dict(), "trained.pt")

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.errors import ConfigError, ModelError
from mllm.models.adapters.injection import inject_adapters, load_adapted, merge, parameter_table, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.parts import is_quantized
from mllm.registry import MODELS
from tests.marks import grid, slow_but
from tests.models.tiny import TEXT, make, make_batch, make_tokenizer, prompts

ADAPTERS = read_adapters({"type": "lora", "targets": ["language_model"], "r": 4, "unfrozen": ["connector"]})
QUANTIZATIONS = {
    "nf4": {"type": "bitsandbytes", "bits": 4},
    "fp4": {"type": "bitsandbytes", "quant_type": "fp4", "double_quant": False, "storage_dtype": "float32"},
    "int8": {"type": "bitsandbytes", "bits": 8},
    "hqq": {"type": "hqq", "bits": 8, "group_size": 16},
    "torchao": {"type": "torchao", "scheme": "Int8WeightOnlyConfig"},
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """One model in every layout that can be quantised, wide enough for blocks of 64 weights."""
    folder = tmp_path_factory.mktemp("bases")
    TEXT["wide"] = {**TEXT["llama"], "hidden_size": 64, "intermediate_size": 128}
    source = make(text="wide")
    del TEXT["wide"]
    source.save_pretrained(folder / "own")
    export_transformers_llava(source, make_tokenizer(), str(folder / "transformers"))
    source.language_model.save_pretrained(folder / "text")
    source.vision_tower.encoder.save_pretrained(folder / "vision")
    parts = {"vision_tower": str(folder / "vision"), "language_model": str(folder / "text")}
    bases = {name: {"model_name_or_path": str(folder / name)} for name in ("own", "transformers")}
    return {**bases, "parts": parts}


def build(base, quantization):
    if not find_spec(quantization["type"]):
        pytest.skip(f"{quantization['type']} is not installed")
    torch.manual_seed(0)
    return MODELS.make({"type": "llava", **base, "quantization": quantization}, tokenizer=make_tokenizer())


def logits(model):
    return model.eval()(**{name: tensor for name, tensor in make_batch(model).items() if name != "labels"}).logits


def is_few_bits(layer) -> bool:
    return type(layer).__name__ == "HQQLinear" or is_quantized(layer.weight)


@pytest.mark.parametrize(("base", "name"), grid(["own", "transformers", "parts"], [*QUANTIZATIONS]))
def test_only_the_language_model_is_quantised(folders, base, name) -> None:
    model = build(folders[base], QUANTIZATIONS[name])
    blocks = model.language_model.model.layers[1]
    assert is_few_bits(blocks.mlp.up_proj)
    assert is_few_bits(blocks.self_attn.q_proj)
    assert not any(is_quantized(p) for part in (model.vision_tower, model.connector) for p in part.parameters())
    assert not is_quantized(model.get_output_embeddings().weight)
    assert model.generate(**prompts(make_batch(model)), max_new_tokens=3, min_new_tokens=3).shape == (2, 3)


def test_eight_bits_are_close_to_all(folders) -> None:
    exact = MODELS.make({"type": "llava", **folders["own"]}, tokenizer=make_tokenizer())
    scale = logits(exact).abs().max()
    for name in ("int8", "hqq", "torchao"):
        assert (logits(build(folders["own"], QUANTIZATIONS[name])) - logits(exact)).abs().max() < 0.1 * scale


@pytest.mark.parametrize("name", slow_but(["nf4", "hqq", "torchao"], QUANTIZATIONS))
def test_adapters_train_on_quantised_weights_and_are_saved_without_them(folders, name, tmp_path: Path) -> None:
    quantization = QUANTIZATIONS[name]
    base = {"type": "llava", **folders["own"], "quantization": quantization}
    model = build(folders["own"], quantization)
    inject_adapters(model, ADAPTERS, base)
    batch = make_batch(model)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(4):
        loss = model.train()(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[3] < 0.5 * losses[0]
    save_adapted(model, str(tmp_path))
    again = build(folders["own"], quantization)
    inject_adapters(again, ADAPTERS, base)
    load_adapted(again, str(tmp_path))
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=0)
    with pytest.raises(ModelError, match="cannot be merged into quantised weights"):
        merge(again)


def test_the_table_counts_weights_not_bytes(folders) -> None:
    tables = []
    for name in ("nf4", "fp4", "int8"):
        model = build(folders["own"], QUANTIZATIONS[name])
        inject_adapters(model, ADAPTERS, folders["own"])
        tables.append(parameter_table(model))
    assert tables[0] == tables[1] == tables[2]


def test_gradient_checkpointing_on_quantised_weights(folders) -> None:
    model = build(folders["own"], QUANTIZATIONS["nf4"])
    inject_adapters(model, ADAPTERS, folders["own"])
    model.activation_checkpointing_enable({"use_reentrant": True})
    model.train()(**make_batch(model)).loss.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(
    ("quantization", "message"),
    [
        (
            {"type": "bitandbytes"},
            r"quantization\.type: expected .*, found str 'bitandbytes'; did you mean 'bitsandbytes'",
        ),
        ({"type": "bitsandbytes", "bit": 4}, r"quantization\.bit: unknown name; did you mean 'bits'"),
        ({"type": "bitsandbytes", "bits": 3}, r"quantization\.bits: expected one of 4, 8, found int '3'"),
        (
            {"type": "bitsandbytes", "storage_dtype": "int3"},
            r"quantization\.storage_dtype: expected .*, found str 'int3'",
        ),
        ({"type": "hqq", "group_size": 48}, "group_size 48"),
        ({"type": "torchao", "scheme": "Int8WeightOnly"}, "did you mean 'Int8WeightOnlyConfig'"),
    ],
)
def test_wrong_settings(folders, quantization: dict[str, Any], message: str) -> None:
    kind = quantization["type"]
    if kind in ("hqq", "torchao") and not find_spec(kind):
        pytest.skip(f"{kind} is not installed")
    with pytest.raises(ConfigError, match=message):
        MODELS.make({"type": "llava", **folders["own"], "quantization": quantization}, tokenizer=make_tokenizer())


def test_random_weights_are_not_quantised() -> None:
    with pytest.raises(ConfigError, match="language_model: expected a folder, for quantization"):
        make(quantization={"type": "bitsandbytes"})


def test_a_package_that_is_missing(folders, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mllm.models.runtime.quantization.importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install bitsandbytes"):
        MODELS.make(
            {"type": "llava", **folders["own"], "quantization": {"type": "bitsandbytes"}}, tokenizer=make_tokenizer()
        )

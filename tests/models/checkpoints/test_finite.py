"""Weights that are nan or infinite are refused at every door through which a model comes, and named."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mllm.cli import main
from mllm.errors import ModelError
from mllm.models.adapters.injection import inject_adapters, load_adapted, merge, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.checkpoints.finite import non_finite, non_finite_weights
from mllm.models.checkpoints.lazy import held
from mllm.models.checkpoints.writing import write_shards
from mllm.models.components import load_causal_lm, vision_encoder
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.checkpoints import read_reference, reference_state
from mllm.models.flamingo.otter import save_otter
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava
from mllm.registry import MODELS
from tests.models.tiny import make, make_tokenizer
from tests.models.tiny_flamingo import make as make_flamingo
from tests.models.tiny_flamingo import tokenizer as flamingo_tokenizer
from tests.models.tiny_hf import build as build_hf
from tests.models.tiny_hf import save_tiny
from tests.models.tiny_seq2seq import make as make_seq2seq

NAN, INF = float("nan"), float("inf")
FLOATS = [torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_non_finite_finds_one_element(dtype: torch.dtype, value: float) -> None:
    if dtype == torch.float8_e4m3fn and value in (INF, -INF):
        pytest.skip("it has no infinity")
    bad = torch.ones(3, 1000, dtype=torch.float64)
    bad[1, 77] = value
    bad = bad.to(dtype)
    assert non_finite([("good", torch.ones(5).to(dtype)), ("bad", bad), ("empty", torch.ones(0).to(dtype))]) == ["bad"]


def test_non_finite_passes_over_what_has_no_such_values() -> None:
    tensors = {"ids": torch.tensor([1]), "flag": torch.tensor([True]), "meta": torch.empty(2, device="meta")}
    tensors["large"] = torch.tensor([torch.finfo(torch.float64).max], dtype=torch.float64)
    assert non_finite(tensors.items()) == []
    assert non_finite([]) == []


def test_non_finite_weights_lets_buffers_hold_infinity() -> None:
    module = torch.nn.BatchNorm1d(3)
    assert module.running_var is not None
    module.register_buffer("mask", torch.tensor([0.0, -INF]))
    assert non_finite_weights(module) == []
    module.running_var[1] = NAN
    with torch.no_grad():
        module.weight[0] = INF
    assert non_finite_weights(module) == ["weight", "running_var"]


def poison(path: Path, part: str, value: float = NAN) -> str:
    """Spoil one element of a tensor of the file; its name."""
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if part in name and tensor.is_floating_point())
    tensors[name].view(-1)[-1] = value
    save_file(tensors, path, {"format": "pt"})
    return name


def refused(load: Callable[[], Any], *named: object) -> None:
    with pytest.raises(ModelError) as caught:
        load()
    assert caught.value.kind == "non-finite"
    message = str(caught.value)
    assert "\n" not in message
    for name in named:
        assert str(name) in message, message


def test_load_llava_refuses_its_own_folder(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    load_llava(str(tmp_path))
    name = poison(tmp_path / "model.safetensors", "mlp.up_proj", INF)
    refused(lambda: load_llava(str(tmp_path)), tmp_path, name)


def test_load_llava_refuses_shards(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path, max_shard_size="20KB")
    name = poison(sorted(tmp_path.glob("model-*.safetensors"))[1], "")
    refused(lambda: load_llava(str(tmp_path)), tmp_path, name)


def test_load_llava_refuses_the_layout_of_transformers(tmp_path: Path) -> None:
    export_transformers_llava(make(), make_tokenizer(), str(tmp_path))
    poison(tmp_path / "model.safetensors", "multi_modal_projector.linear_1.bias")
    refused(lambda: load_llava(str(tmp_path)), tmp_path, "multi_modal_projector.linear_1.bias")


def test_parts_are_refused(tmp_path: Path) -> None:
    model = make()
    model.language_model.save_pretrained(tmp_path / "text")
    model.vision_tower.encoder.save_pretrained(tmp_path / "vision")
    loading: dict[str, Any] = {"dtype": torch.float32, "attn_implementation": None}
    name = poison(tmp_path / "text" / "model.safetensors", "lm_head")
    refused(lambda: load_causal_lm(str(tmp_path / "text"), make_tokenizer(), **loading), tmp_path / "text", name)
    poison(tmp_path / "vision" / "model.safetensors", "position_embedding")
    refused(lambda: vision_encoder(str(tmp_path / "vision"), **loading), tmp_path / "vision", "position_embedding")


def test_weights_that_overflow_in_the_dtype_asked_for_are_refused(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path)
    poison(tmp_path / "model.safetensors", "mlp.up_proj", 1e5)
    load_llava(str(tmp_path), dtype=torch.bfloat16)
    refused(lambda: load_llava(str(tmp_path), dtype=torch.float16), "mlp.up_proj", "dtype is too narrow")


@pytest.mark.parametrize("kind", ["bitsandbytes", "hqq", "torchao"])
def test_quantised_loading_refuses_what_few_bits_would_hide(kind: str, tmp_path: Path) -> None:
    if not find_spec(kind):
        pytest.skip(f"{kind} is not installed")
    schemes = {"bitsandbytes": {"bits": 4}, "hqq": {"group_size": 8}, "torchao": {"scheme": "Int8WeightOnlyConfig"}}
    make().save_pretrained(tmp_path)
    load = partial(load_llava, str(tmp_path), quantization={"type": kind, **schemes[kind]})
    load()
    name = poison(tmp_path / "model.safetensors", "mlp.up_proj")
    refused(load, name)


def test_flamingo_and_its_checkpoint_files_are_refused(tmp_path: Path) -> None:
    model = make_flamingo()
    model.save_pretrained(tmp_path / "own")
    name = poison(tmp_path / "own" / "model.safetensors", "perceiver")
    refused(lambda: load_flamingo(str(tmp_path / "own")), name)
    good, bad = reference_state(model), reference_state(make_flamingo())
    bad["perceiver.latents"][0, 0] = NAN
    torch.save(good, tmp_path / "a.pt")
    torch.save(bad, tmp_path / "b.pt")
    read_reference(str(tmp_path / "a.pt"))
    refused(lambda: read_reference(f"{tmp_path / 'a.pt'},{tmp_path / 'b.pt'}"), "perceiver.latents in", "b.pt")


def test_otter_is_refused(tmp_path: Path) -> None:
    save_otter(make_flamingo(kind="otter", perceiver=None), flamingo_tokenizer(), str(tmp_path))
    load = partial(MODELS.make, {"type": "otter", "model_name_or_path": str(tmp_path)}, tokenizer=flamingo_tokenizer())
    load()
    poison(tmp_path / "model.safetensors", "attn_gate")
    refused(load, "attn_gate", tmp_path)


def test_models_of_transformers_are_refused(tmp_path: Path) -> None:
    folder = save_tiny("qwen2_5_vl", tmp_path / "hf")
    poison(folder / "model.safetensors", "patch_embed")
    refused(lambda: build_hf(str(folder)), "patch_embed")
    make_seq2seq().save_pretrained(tmp_path / "t5")
    poison(tmp_path / "t5" / "model.safetensors", "relative_attention_bias")
    refused(lambda: make_seq2seq(model_name_or_path=str(tmp_path / "t5")), "relative_attention_bias")


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "trained_in_full.safetensors"])
def test_adapters_are_refused(file: str, tmp_path: Path) -> None:
    section = read_adapters({"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector"]})
    model = make()
    inject_adapters(model, section, {"type": "llava"})
    save_adapted(model, str(tmp_path))
    load_adapted(model, str(tmp_path))
    name = poison(tmp_path / file, "")
    refused(lambda: load_adapted(model, str(tmp_path)), tmp_path / file, name)


def test_merge_refuses_a_sum_that_is_not_finite() -> None:
    model = make().half()
    inject_adapters(model, read_adapters({"type": "lora", "targets": ["language_model"], "r": 2}), {"type": "llava"})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.fill_(6e4)
    with pytest.raises(ModelError, match="try a wider dtype"):
        merge(model)


def test_write_shards_refuses_nan_and_what_the_dtype_cannot_hold(tmp_path: Path) -> None:
    refused(lambda: write_shards({"a": held(torch.tensor([NAN]), "a in x.bin")}, tmp_path), "a in x.bin")
    with pytest.raises(ModelError, match=r"a in x\.bin: expected weights that fit into F16"):
        write_shards({"a": held(torch.tensor([1e5]), "a in x.bin")}, tmp_path, dtype=torch.float16)


@pytest.mark.parametrize("command", [["convert"], ["export"]])
def test_checkpoint_commands_refuse_and_leave_nothing(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make().save_pretrained(tmp_path / "a")
    make_tokenizer().save_pretrained(tmp_path / "a")
    name = poison(tmp_path / "a" / "model.safetensors", "connector")
    assert main(["checkpoint", *command, str(tmp_path / "a"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert f"expected finite weights, found nan or infinity in {name}" in error
    assert [path.name for path in tmp_path.iterdir()] == ["a"]

"""Each foreign layout on a tiny file in exactly that layout: equal logits, or a list of what does not fit."""

from __future__ import annotations

import gc
import json
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, LlavaForConditionalGeneration

from mllm.errors import ModelError
from mllm.models.adapters.injection import inject_adapters, merge
from mllm.models.adapters.settings import read_adapters
from mllm.models.checkpoints import lazy
from mllm.models.checkpoints.conversion import convert
from mllm.models.checkpoints.layout import BaseModels, detect, open_path
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.checkpoints import reference_state
from mllm.models.flamingo.model import Flamingo
from mllm.models.flamingo.otter import save_otter
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava
from mllm.models.prompt_format import model_type_of, stored_prompt_format
from mllm.registry import LAYOUTS, MODELS
from tests.marks import grid, slow_but
from tests.models import tiny, tiny_flamingo
from tests.models.foreign import (
    original_config,
    original_names,
    plain_tokenizer,
    save_clip,
    save_language_model,
    state_of,
    write,
)
from tests.models.reference_flamingo import REFERENCE_LMS, needs_reference, reference_model
from tests.models.tiny import PINPOINTS, VISION, WORDS, make, make_batch, make_tokenizer
from tests.models.tiny_flamingo import PARITY


def converted(path: str, out: Path, **arguments: Any) -> Llava:
    """Through a folder of ours, which holds nothing but what the model has."""
    options = {name: arguments.pop(name) for name in ("dtype", "max_shard_size") if name in arguments}
    out.mkdir()
    convert(open_path(path), out, BaseModels(**arguments), **options)
    return load_llava(str(out))


def assert_equal_logits(found: Any, expected: Any, **tolerance: float) -> None:
    """On the words that both know."""
    ours, theirs = (model(**make_batch(model), return_logits=True).logits for model in (found, expected))
    words = min(ours.shape[-1], theirs.shape[-1], WORDS - 1)
    torch.testing.assert_close(ours[..., :words], theirs[..., :words], **(tolerance or {"rtol": 0, "atol": 0}))


def layout_of(path: str) -> str:
    return detect(open_path(path))[0]


@pytest.mark.parametrize(
    ("named", "kind", "vision_inside"),
    grid([("linear", "llava"), ("mlp2x_gelu", "llava_llama")], ["safetensors", "bin", "shards"], [True, False]),
)
def test_original_llava(tmp_path: Path, named, kind, vision_inside) -> None:
    connector, model_type = named
    model = make(connector=connector)
    clip = save_clip(model, tmp_path / "clip", both_halves=vision_inside)
    path = write(tmp_path / "a", original_names(model, vision=vision_inside), original_config(model, model_type), kind)
    plain_tokenizer().save_pretrained(path)
    if vision_inside:  # its own weights count, not those of the folder
        other = make(connector=connector, seed=5)
        clip = save_clip(other, tmp_path / "other")
    assert layout_of(path) == "llava"
    found = converted(path, tmp_path / "out", vision_tower=clip)
    assert_equal_logits(found, model)
    assert found.config.connector == {"type": connector}
    assert list(found.config.image_mean) == [0.1, 0.2, 0.3]
    # `<image>` is new to it, and recorded
    assert (found.config.base_rows, list(found.config.added_tokens)) == (WORDS, ["<image>"])
    assert AutoTokenizer.from_pretrained(tmp_path / "out").convert_tokens_to_ids("<image>") == WORDS
    table, old = (m.get_input_embeddings().weight for m in (found, model))
    torch.testing.assert_close(table, torch.cat([old, old.mean(0, keepdim=True)]))


def test_several_layers_of_a_perceptron_and_the_chosen_features(tmp_path: Path) -> None:
    model = make(connector="mlp3x_gelu", feature_layer=-1, keep_cls=True)
    config = original_config(model, mm_vision_select_layer=-1, mm_vision_select_feature="cls_patch")
    path = write(tmp_path / "a", original_names(model), config)
    plain_tokenizer().save_pretrained(path)
    found = converted(path, tmp_path / "out", vision_tower=save_clip(model, tmp_path / "clip"))
    assert found.vision_tower.tokens == 5
    assert_equal_logits(found, model)


def test_converted_folder_is_built_by_its_name(tmp_path: Path) -> None:
    model = make()
    path = write(tmp_path / "a", original_names(model), original_config(model))
    plain_tokenizer().save_pretrained(path)
    found = converted(path, tmp_path / "out", vision_tower=save_clip(model, tmp_path / "clip"))
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    built = MODELS.make({"type": "llava", "model_name_or_path": str(tmp_path / "out")}, tokenizer=tokenizer)
    assert built.config.image_token_id == WORDS
    assert model_type_of(tmp_path / "out") == "llava"
    assert_equal_logits(built, found)
    with pytest.raises(ModelError, match="one in the original layout; run mllm checkpoint convert"):
        MODELS.make({"type": "llava", "model_name_or_path": path}, tokenizer=tokenizer)


@pytest.mark.parametrize("model_type", ["shikra", "llava"])
def test_a_delta_goes_onto_a_base_with_fewer_words(tmp_path: Path, model_type: str) -> None:
    model, base = make(connector="linear"), make(connector="linear", seed=1)
    rows = WORDS - 3
    base.language_model.resize_token_embeddings(rows)
    under = save_language_model(base, tmp_path / "base")
    delta = original_names(model)
    for name, tensor in state_of(base.language_model).items():
        delta[name][tuple(slice(size) for size in tensor.shape)] -= tensor
    path = write(tmp_path / "delta", delta, original_config(model, model_type), "shards")
    plain_tokenizer().save_pretrained(path)
    assert layout_of(path) == model_type
    clip = save_clip(model, tmp_path / "clip")
    found = converted(path, tmp_path / "out", base=under, vision_tower=clip)
    assert_equal_logits(found, model, rtol=1e-4, atol=1e-4)
    assert found.config.base_rows == rows
    assert stored_prompt_format(tmp_path / "out").get("placement") == ("pad" if model_type == "shikra" else None)
    with pytest.raises(ModelError, match="--base: expected a local folder of the LLaMA that these are differences to"):
        converted(path, tmp_path / "no", vision_tower=clip)
    whole = write(tmp_path / "whole", original_names(model), original_config(model, model_type))
    with pytest.raises(ModelError, match="expected no other files, as it holds all, found --base; drop it"):
        converted(whole, tmp_path / "none", base=under, vision_tower=clip)


def test_a_delta_is_added_in_its_own_precision(tmp_path: Path) -> None:
    """Half precision rounds once, as in the code that made the delta."""
    base, delta = torch.randn(3, 4), torch.randn(5, 4).half()
    found = lazy.sum_lazily(lazy.held(base, "a"), lazy.held(delta, "b"))
    expected = delta.clone()
    expected[:3] += base.half()
    assert found.read().dtype == torch.float16
    assert found.read().equal(expected)
    assert found.shape == (5, 4)


def test_a_delta_to_another_base_lists_everything(tmp_path: Path) -> None:
    model = make(connector="linear")
    other = make(connector="linear", language_model={**tiny.TEXT["llama"], "intermediate_size": 20})
    delta = {name: 0 * tensor for name, tensor in original_names(model).items()}
    path = write(tmp_path / "delta", delta, original_config(model, "shikra"))
    with pytest.raises(ModelError) as caught:
        converted(
            path,
            tmp_path / "out",
            base=save_language_model(other, tmp_path / "base"),
            vision_tower=save_clip(model, tmp_path / "clip"),
        )
    found = str(caught.value)
    assert found.startswith(f"{path}: is not a delta of {tmp_path / 'base'}: model.layers.0.mlp.")
    assert "; model.layers.0.mlp.up_proj.weight: [24, 16] for a base of [20, 16]" in found
    assert found.count("; ") == 2 * 3 - 1


@pytest.mark.parametrize(
    ("type", "kind", "onto_llava"), grid(["lora", "rslora"], ["bin", "safetensors"], [False, True])
)
def test_lora_of_the_original_code(tmp_path: Path, type, kind, onto_llava) -> None:
    model = make()
    clip = save_clip(model, tmp_path / "clip")
    if onto_llava:
        base = write(tmp_path / "base", original_names(make()), original_config(model, mm_vision_tower=clip))
    else:
        base = save_language_model(model, tmp_path / "base")
    plain_tokenizer().save_pretrained(base)
    adapters = read_adapters({"type": type, "targets": [r"language_model.*_proj$"], "r": 2, "alpha": 5})
    inject_adapters(model, adapters, {})
    path = tmp_path / "lora"
    path.mkdir()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name or name.startswith("connector."):
                parameter.copy_(torch.randn_like(parameter))
    names = {f"base_model.model.{name.replace('.default', '')}": t for name, t in state_of(model).items()}
    low_rank = {n.replace("model.language_model.", "model."): t for n, t in names.items() if ".lora_" in n}
    if kind == "bin":
        torch.save(low_rank, path / "adapter_model.bin")
    else:
        save_file(low_rank, path / "adapter_model.safetensors")
    model.peft_config["default"].save_pretrained(path)
    found = original_names(merge(model))
    rest = {f"base_model.model.{name}": tensor for name, tensor in found.items() if "mm_projector" in name}
    torch.save(rest, path / "non_lora_trainables.bin")
    (path / "config.json").write_text(json.dumps(original_config(model, "llava_llama")))
    assert layout_of(str(path)) == "llava-lora"
    out = converted(str(path), tmp_path / "out", base=base, vision_tower=clip)
    assert_equal_logits(out, model, rtol=1e-5, atol=1e-5)
    with pytest.raises(ModelError, match="--base: expected a local folder of the language model"):
        converted(str(path), tmp_path / "no", vision_tower=clip)
    torch.save({**rest, "base_model.model.model.mm_projector.9.bias": torch.ones(1)}, path / "non_lora_trainables.bin")
    with pytest.raises(ModelError, match=r"1 unexpected, .*: unexpected connector\.layers\.9\.bias"):
        converted(str(path), tmp_path / "no2", base=base, vision_tower=clip)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("model.layers.0.mlp.up_proj.lora_B.weight", None), "layers.0.mlp.up_proj: lora_A without lora_B"),
        (
            ("model.layers.7.mlp.up_proj.lora_A.weight", torch.ones(2, 3)),
            "layers.7.mlp.up_proj: lora_A without its layer",
        ),
        (
            ("model.layers.0.mlp.up_proj.lora_A.weight", torch.ones(2, 3)),
            r"up_proj: \[24, 2\] @ \[2, 3\] beside \[24, 16\]",
        ),
        (("use_dora", True), "use_dora: expected False, found bool 'True'"),
        (("peft_type", "IA3"), "peft_type: expected 'LORA', found str 'IA3'"),
    ],
)
def test_adapters_that_do_not_fit(tmp_path: Path, change, message: str) -> None:
    model = make()
    name, value = change
    layer = "model.layers.0.mlp.up_proj"
    low_rank = {f"{layer}.lora_A.weight": torch.ones(2, 16), f"{layer}.lora_B.weight": torch.ones(24, 2)}
    settings = {"peft_type": "LORA", "lora_alpha": 4, "r": 2, "bias": "none"}
    if "layers" in name:
        low_rank = {n: t for n, t in {**low_rank, name: value}.items() if t is not None}
    else:
        settings[name] = value
    path = tmp_path / "lora"
    path.mkdir()
    torch.save({f"base_model.model.{name}": t for name, t in low_rank.items()}, path / "adapter_model.bin")
    (path / "adapter_config.json").write_text(json.dumps(settings))
    (path / "config.json").write_text(json.dumps(original_config(model, "llava_llama")))
    with pytest.raises(ModelError, match=message):
        converted(
            str(path),
            tmp_path / "out",
            base=save_language_model(model, tmp_path / "base"),
            vision_tower=save_clip(model, tmp_path / "clip"),
        )


@pytest.mark.parametrize(("connector", "as_file"), grid(["linear", "mlp2x_gelu"], [False, True]))
def test_a_projector_alone(tmp_path: Path, connector, as_file) -> None:
    model = make(connector=connector)
    base = save_language_model(model, tmp_path / "base", plain_tokenizer())
    state = {name: t for name, t in original_names(model).items() if "mm_projector" in name}
    (tmp_path / "p").mkdir()
    torch.save(state, tmp_path / "p" / "mm_projector.bin")
    (tmp_path / "p" / "config.json").write_text(json.dumps(original_config(model)))
    path = str(tmp_path / "p" / "mm_projector.bin" if as_file else tmp_path / "p")
    assert layout_of(path) == "llava-projector"
    found = converted(path, tmp_path / "out", base=base, vision_tower=save_clip(model, tmp_path / "clip"))
    assert_equal_logits(found, model)
    assert found.config.base_rows == WORDS


def transformers_folder(folder: Path, text: str = "llama", vision: str = "clip", **changes: Any) -> Llava:
    model = make(vision, text, feature_layer=-1, image_mean=(0.1, 0.2, 0.3), **changes)
    export_transformers_llava(model, make_tokenizer(), str(folder))
    return model


def renamed_for_today(folder: Path) -> None:
    """The names that transformers 5 gives in memory, and some releases wrote."""
    path = folder / "model.safetensors"
    found = {}
    for name, tensor in load_file(path).items():
        if name.startswith("language_model.lm_head."):
            name = name.removeprefix("language_model.")
        elif name.startswith("language_model."):
            name = "model.language_model." + name.removeprefix("language_model.").partition(".")[2]
        else:
            name = f"model.{name}"
        found[name] = tensor
    save_file(found, path, {"format": "pt"})


def renamed_for_the_hub(folder: Path) -> None:
    """As llava-hf's folders were written by transformers 4."""
    path = folder / "model.safetensors"
    state = load_file(path)
    found = {name.replace("vision_tower.", "vision_tower.vision_model.", 1): t for name, t in state.items()}
    save_file(found, path, {"format": "pt"})


@pytest.mark.parametrize(
    ("text", "rename"), grid(["llama", "qwen2", "gpt_neox"], [None, renamed_for_today, renamed_for_the_hub])
)
def test_transformers_llava_there_and_back(tmp_path: Path, text, rename) -> None:
    model = transformers_folder(tmp_path / "theirs", text)
    original = load_file(tmp_path / "theirs" / "model.safetensors")
    if rename:
        rename(tmp_path / "theirs")
    path = str(tmp_path / "theirs")
    assert layout_of(path) == "transformers-llava"
    found = converted(path, tmp_path / "out", max_shard_size="4KB")
    assert_equal_logits(found, model)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "out")
    assert tokenizer.get_vocab() == make_tokenizer().get_vocab()
    export_transformers_llava(found, tokenizer, str(tmp_path / "again"))
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == original.keys()
    assert all(again[name].equal(tensor) for name, tensor in original.items())
    _, info = LlavaForConditionalGeneration.from_pretrained(tmp_path / "again", output_loading_info=True)
    assert not any(info.values())


@pytest.mark.parametrize("tied", [False, True])
def test_head_and_embeddings_are_tied_if_the_weights_are(tmp_path: Path, tied: bool) -> None:
    model = transformers_folder(tmp_path / "a", "qwen2")
    path = tmp_path / "a" / "model.safetensors"
    state = load_file(path)
    table = state["language_model.model.embed_tokens.weight"]
    head = table.clone() if tied else table + 1
    save_file({**state, "language_model.lm_head.weight": head}, path, {"format": "pt"})
    found = converted(str(tmp_path / "a"), tmp_path / "out")
    assert (found.get_output_embeddings().weight is found.get_input_embeddings().weight) == tied
    assert found.get_output_embeddings().weight.equal(head)
    assert model.config.text_config.tie_word_embeddings


def test_llava_next_there_and_back(tmp_path: Path) -> None:
    tiling = {"type": "any_resolution", "pinpoints": PINPOINTS}
    model = transformers_folder(tmp_path / "theirs", tiling=tiling)
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["model_type"] == "llava_next"
    found = converted(str(tmp_path / "theirs"), tmp_path / "out")
    assert_equal_logits(found, model)
    assert found.mosaic.newline.equal(model.mosaic.newline)
    export_transformers_llava(found, AutoTokenizer.from_pretrained(tmp_path / "out"), str(tmp_path / "again"))
    again, original = (load_file(tmp_path / name / "model.safetensors") for name in ("again", "theirs"))
    assert again.keys() == original.keys()
    assert all(again[name].equal(tensor) for name, tensor in original.items())


EOC = "<|endofchunk|>"
OPEN_FLAMINGO = {"depth": 1, "latents": 3}
"""Heads are 8 of 64 in every release."""


def trained_flamingo(text: str = "llama", kind: str = "openflamingo", **arguments: Any) -> Flamingo:
    """`<image>` and end of chunk are the last tokens, in that order's reverse, as OpenFlamingo adds them."""
    words = plain_tokenizer()
    words.add_tokens([EOC, "<image>", *(["<answer>"] if kind == "otter" else [])], special_tokens=True)
    torch.manual_seed(0)
    parts = {"vision_tower": dict(VISION["clip"]), "language_model": dict(tiny_flamingo.LMS[text])}
    settings = {"cross_attn_every_n_layers": 2, "perceiver": OPEN_FLAMINGO, **arguments}
    model = MODELS.make({"type": kind, **parts, **settings}, tokenizer=words)
    tiny_flamingo.disturb(model)
    return model


def flamingo_parts(model: Flamingo, folder: Path, rows: int) -> dict[str, str]:
    """The language model without cross-attention and new words, and the vision encoder, in folders of their own."""
    config = type(model.language_model.config).from_dict({**model.language_model.config.to_dict(), "vocab_size": rows})
    language_model = type(model.language_model)(config)
    inner = {n.replace(".decoder_layer.", "."): t for n, t in state_of(model.language_model).items()}
    own = language_model.state_dict()
    language_model.load_state_dict({n: inner[n][: len(t)] if t.dim() else inner[n] for n, t in own.items()})
    language_model.save_pretrained(folder / "lm")
    plain_tokenizer().save_pretrained(folder / "lm")
    return {"base": str(folder / "lm"), "vision_tower": save_clip(model, folder / "clip")}


def flamingo_logits(model: Flamingo) -> torch.Tensor:
    batch = tiny_flamingo.make_batch(model)
    batch["input_ids"] = batch["input_ids"].where(batch["input_ids"] != 40, 7)
    return model(**batch, return_logits=True).logits[..., :WORDS]


def convert_flamingo(path: str, out: Path, **arguments: Any) -> Flamingo:
    out.mkdir()
    convert(open_path(path), out, BaseModels(**arguments))
    return load_flamingo(str(out))


@pytest.mark.parametrize(
    ("text", "wrapping"), grid(["llama", "mpt", "gpt_neox", "opt"], ["released", "training", "v1", "safetensors"])
)
def test_openflamingo(tmp_path: Path, text, wrapping) -> None:
    model = trained_flamingo(text)
    parts = flamingo_parts(model, tmp_path, WORDS)
    state = {name: tensor.clone() for name, tensor in reference_state(model).items()}
    path = tmp_path / f"checkpoint.{'safetensors' if wrapping == 'safetensors' else 'pt'}"
    if wrapping == "safetensors":
        save_file(state, path)
    elif wrapping == "training":
        torch.save({"epoch": 1, "model_state_dict": {f"module.{name}": t for name, t in state.items()}}, path)
    elif wrapping == "v1":
        blocks = {n: t for n, t in state.items() if ".gated_cross_attn_layer." in n}
        again = {f"lang_encoder.gated_cross_attn_layers.1.{n.partition('_layer.')[2]}": t for n, t in blocks.items()}
        torch.save({"model": {**state, **again}}, path)
    else:
        torch.save(state, path)
    assert layout_of(str(path)) == "openflamingo"
    found = convert_flamingo(str(path), tmp_path / "out", **parts)
    assert found.config.cross_attn_every_n_layers == 2
    assert found.config.perceiver == OPEN_FLAMINGO
    assert (found.config.base_rows, list(found.config.added_tokens)) == (WORDS, [EOC, "<image>"])
    assert list(found.config.new_token_ids) == [WORDS, WORDS + 1]
    torch.testing.assert_close(flamingo_logits(found), flamingo_logits(model), rtol=1e-6, atol=1e-6)
    found.freeze(("vision_tower", "language_model"), "input")
    again = reference_state(found)
    assert again.keys() == state.keys()
    assert all(again[name].equal(tensor) for name, tensor in state.items())


def test_openflamingo_over_a_base_with_spare_rows(tmp_path: Path) -> None:
    """MPT has more embeddings than words, OpenFlamingo's file as many as words: the spare rows stay."""
    model = trained_flamingo("mpt")
    model.language_model.resize_token_embeddings(48)
    parts = flamingo_parts(model, tmp_path, 48)
    state = reference_state(model)
    name = "lang_encoder.transformer.wte.weight"
    state[name] = 2 * state[name][:42].clone()
    torch.save(state, tmp_path / "checkpoint.pt")
    found = convert_flamingo(str(tmp_path / "checkpoint.pt"), tmp_path / "out", **parts)
    table, old = found.get_input_embeddings().weight, model.get_input_embeddings().weight
    assert table.equal(torch.cat([2 * old[:42], old[42:]]))
    assert found.get_output_embeddings().weight is table
    state[name] = state[name][:41]
    torch.save(state, tmp_path / "checkpoint.pt")
    with pytest.raises(
        ModelError, match=r"expected 41 tokens, .* found 42 with .*; name the tokenizer .* with --tokenizer"
    ):
        convert_flamingo(str(tmp_path / "checkpoint.pt"), tmp_path / "no", **parts)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [
        ("embed_tokens", "expected one table of input embeddings .*, found 0"),
        ("perceiver.norm", r"2 missing, 0 unexpected, 0 of another shape: missing perceiver\.norm\.bias \[16\]"),
        ("to_kv", r"2 missing, .*; missing perceiver\.layers\.0\.0\.to_kv\.weight"),
        ("layers.1.gated_cross_attn_layer", "expected cross-attention before every n-th layer, found none"),
    ],
)
def test_what_must_be_in_the_file_is_not_taken_from_elsewhere(tmp_path: Path, left_out: str, message: str) -> None:
    model = trained_flamingo()
    parts = flamingo_parts(model, tmp_path, WORDS)
    state = {name: tensor for name, tensor in reference_state(model).items() if left_out not in name}
    if "gated" in left_out:  # so that it is still known for what it is
        state["lang_encoder.model.layers.x.gated_cross_attn_layers"] = torch.zeros(1)
    torch.save(state, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=message):
        convert_flamingo(str(tmp_path / "x.pt"), tmp_path / "out", **parts)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_base_that_is_not_whole_lists_what_it_lacks(tmp_path: Path) -> None:
    model = trained_flamingo()
    parts = flamingo_parts(model, tmp_path, WORDS)
    torch.save(reference_state(model), tmp_path / "x.pt")
    file = tmp_path / "lm" / "model.safetensors"
    state = load_file(file)
    del state["model.norm.weight"]
    save_file(state, file, {"format": "pt"})
    with pytest.raises(ModelError, match=r"1 missing, .*: missing language_model\.model\.norm\.weight \[16\]"):
        convert_flamingo(str(tmp_path / "x.pt"), tmp_path / "out", **parts)


@pytest.mark.parametrize("new_names", [False, True])
def test_a_chain_with_adapters(tmp_path: Path, new_names: bool) -> None:
    """Instruct-Flamingo: an OpenFlamingo, then what was trained over it, saved while PEFT wrapped the layers."""
    model = trained_flamingo()
    parts = flamingo_parts(model, tmp_path, WORDS)
    torch.save({f"module.{name}": t.clone() for name, t in reference_state(model).items()}, tmp_path / "a.pt")
    tuning = {"lora": True, "lora_r": 2, "lora_alpha": 6, "unfrozen": ["perceiver"]}
    tuning["lora_target_modules"] = ["q_proj", "to_q", "down_proj", "ff.1"]
    (tmp_path / "tuning.json").write_text(json.dumps(tuning))
    inject_adapters(model, read_adapters(str(tmp_path / "tuning.json")), {})
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name or name.startswith("perceiver.") or "attn_gate" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    saved = {}
    for name, tensor in state_of(model).items():
        kept = ".lora_" in name or name.startswith("perceiver.") or "gated_cross_attn_layer" in name
        if not kept:
            continue
        name = name.replace("language_model.", "lang_encoder.base_model.model.", 1)
        saved["module." + (name if new_names else name.replace(".base_layer.", "."))] = tensor
    torch.save({"epoch": 3, "model_state_dict": saved}, tmp_path / "b.pt")
    chain = f"{tmp_path / 'a.pt'},{tmp_path / 'b.pt'}"
    assert layout_of(chain) == "openflamingo"
    with pytest.raises(ModelError, match="--tuning-config: expected the json that says lora_alpha"):
        convert_flamingo(chain, tmp_path / "no", **parts)
    found = convert_flamingo(chain, tmp_path / "out", **parts, tuning_config=str(tmp_path / "tuning.json"))
    torch.testing.assert_close(flamingo_logits(found), flamingo_logits(merge(model)), rtol=1e-5, atol=1e-5)


def test_the_later_file_of_a_chain_counts(tmp_path: Path) -> None:
    first, second = trained_flamingo(), trained_flamingo()
    parts = flamingo_parts(first, tmp_path, WORDS)
    with torch.no_grad():
        second.perceiver.latents.add_(1)
    torch.save(reference_state(first), tmp_path / "a.pt")
    torch.save({"perceiver.latents": second.perceiver.latents.detach()}, tmp_path / "b.pt")
    found = convert_flamingo(f"{tmp_path / 'a.pt'}, {tmp_path / 'b.pt'}", tmp_path / "out", **parts)
    assert found.perceiver.latents.equal(second.perceiver.latents)
    built = MODELS.make(
        {
            "type": "openflamingo",
            "vision_tower": parts["vision_tower"],
            "language_model": parts["base"],
            "checkpoint": f"{tmp_path / 'a.pt'},{tmp_path / 'b.pt'}",
            "cross_attn_every_n_layers": 2,
            "perceiver": OPEN_FLAMINGO,
        },
        tokenizer=AutoTokenizer.from_pretrained(tmp_path / "out"),
    )
    assert built.perceiver.latents.equal(second.perceiver.latents)


def reference_parts(text: str, folder: Path) -> dict[str, str]:
    """Of the sizes that the reference's numbers were made with; its file holds other weights for all of them."""
    model = reference_model(text)
    language_model = AutoModelForCausalLM.from_config(model.language_model.config)
    language_model.save_pretrained(folder / "lm")
    plain_tokenizer(97, pad=False).save_pretrained(folder / "lm")
    return {"base": str(folder / "lm"), "vision_tower": save_clip(model, folder / "clip")}


@needs_reference
@pytest.mark.parametrize("text", slow_but([*REFERENCE_LMS][:2], REFERENCE_LMS))
def test_all_names_of_the_reference(tmp_path: Path, text) -> None:
    """Aliases, open_clip's vision encoder and the language model included."""
    keys = json.loads((PARITY / f"keys_openflamingo_{text}.json").read_text())["keys"]
    state = {name: torch.full(shape, float(number)) for number, (name, shape) in enumerate(keys.items())}
    if text in ("mpt", "opt"):  # which tie the two
        table = next(name for name in keys if name.endswith(("embed_tokens.weight", "wte.weight")))
        state["lang_encoder.lm_head.weight"] = state[table]
    torch.save({"model_state_dict": {f"module.{name}": t for name, t in state.items()}}, tmp_path / "x.pt")
    parts = reference_parts(text, tmp_path)
    found = convert_flamingo(str(tmp_path / "x.pt"), tmp_path / "out", **parts)
    assert found.config.image_token_id == 98
    assert list(found.config.added_tokens) == [EOC, "<image>", "<PAD>"]
    again = reference_state(found, whole=True)
    for name, tensor in again.items():
        if name in state:
            assert tensor.equal(state[name]), name
    assert sum(name in state for name in again) > 80


@needs_reference
def test_the_references_logits(tmp_path: Path) -> None:
    recorded = torch.load(PARITY / "openflamingo_llama.pt", weights_only=True)
    torch.save(recorded["state_dict"], tmp_path / "x.pt")
    found = convert_flamingo(str(tmp_path / "x.pt"), tmp_path / "out", **reference_parts("llama", tmp_path))
    inputs = recorded["inputs"]
    logits = found(
        inputs["input_ids"],
        pixels=inputs["vision_x"].flatten(0, 2)[:3],
        attention_mask=inputs["attention_mask"],
    ).logits
    expected = recorded["forward"]["logits"]
    torch.testing.assert_close(logits[..., : expected.shape[-1]], expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(("shards", "frames"), grid([False, True], [None, 4]))
def test_otter(tmp_path: Path, shards, frames) -> None:
    model = trained_flamingo(kind="otter", perceiver=None, max_num_frames=frames)
    words = plain_tokenizer()
    words.add_tokens([EOC, "<image>", "<answer>"], special_tokens=True)
    save_otter(model, words, str(tmp_path / "a"))
    file = tmp_path / "a" / "model.safetensors"
    state = load_file(file)
    if shards:
        file.unlink()
        write(tmp_path / "a", state, None, "shards")
    assert layout_of(str(tmp_path / "a")) == "otter"
    found = convert_flamingo(str(tmp_path / "a"), tmp_path / "out")
    assert torch.equal(flamingo_logits(found), flamingo_logits(model))
    save_otter(found, words, str(tmp_path / "again"))
    again = load_file(tmp_path / "again" / "model.safetensors")
    assert again.keys() == state.keys()
    assert all(again[name].equal(tensor) for name, tensor in state.items())


def test_our_own_folder_in_another_precision_and_shards(tmp_path: Path) -> None:
    model = make()
    model.save_pretrained(tmp_path / "a")
    make_tokenizer().save_pretrained(tmp_path / "a")
    found = converted(str(tmp_path / "a"), tmp_path / "out", dtype=torch.bfloat16, max_shard_size="10KB")
    assert {parameter.dtype for parameter in found.parameters()} == {torch.bfloat16}
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 2
    for name, tensor in model.state_dict().items():
        assert found.state_dict()[name].equal(tensor.bfloat16()), name


def test_every_dtype_keeps_its_own(tmp_path: Path) -> None:
    """A half-precision language model beside a float32 CLIP loses nothing."""
    model = make()
    clip = save_clip(model, tmp_path / "clip")
    state = {name: tensor.half() for name, tensor in original_names(model).items()}
    path = write(tmp_path / "a", state, original_config(model))
    plain_tokenizer().save_pretrained(path)
    out = tmp_path / "out"
    out.mkdir()
    convert(open_path(path), out, BaseModels(vision_tower=clip))
    dtypes = {name.split(".")[0]: tensor.dtype for name, tensor in load_file(out / "model.safetensors").items()}
    assert dtypes == {"vision_tower": torch.float32, "language_model": torch.float16, "connector": torch.float16}
    assert {p.dtype for p in load_llava(str(out)).parameters()} == {torch.float16}


def test_no_more_than_one_tensor_is_alive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every tensor that is read or made on the way is counted for as long as somebody holds it."""
    alive: dict[str, int] = {"now": 0, "peak": 0}
    make_lazy = lazy.Lazy.__init__

    def counting(self: lazy.Lazy, shape: Any, dtype: Any, origin: str, read: Any) -> None:
        def counted() -> torch.Tensor:
            tensor = read().clone()
            size = tensor.numel() * tensor.itemsize
            alive["now"] += size
            alive["peak"] = max(alive["peak"], alive["now"])
            weakref.finalize(tensor, lambda: alive.__setitem__("now", alive["now"] - size))
            return tensor

        make_lazy(self, shape, dtype, origin, counted)

    monkeypatch.setattr(lazy.Lazy, "__init__", counting)
    model = make(connector="linear")
    under = save_language_model(make(seed=1), tmp_path / "base")
    delta = {name: 0.001 * tensor for name, tensor in original_names(model).items()}
    path = write(tmp_path / "a", delta, original_config(model, "shikra"), "shards")
    plain_tokenizer().save_pretrained(path)
    clip = save_clip(model, tmp_path / "clip")
    (tmp_path / "out").mkdir()
    opened = open_path(path)
    gc.collect()
    convert(opened, tmp_path / "out", BaseModels(base=under, vision_tower=clip), max_shard_size="5KB")
    largest = max(tensor.numel() * tensor.itemsize for tensor in model.state_dict().values())
    total = sum(tensor.numel() * tensor.itemsize for tensor in model.state_dict().values())
    # a row of the embeddings is added to what is the sum of two
    assert largest <= alive["peak"] <= 4.1 * largest < total / 3
    gc.collect()
    assert alive["now"] == 0


def a_good_folder(folder: Path) -> tuple[str, dict[str, str], dict[str, torch.Tensor]]:
    model = make()
    clip = save_clip(model, folder / "clip")
    state = original_names(model)
    path = write(folder / "a", state, original_config(model), "shards")
    return path, {"vision_tower": clip}, state


def test_missing_extra_and_wrong_tensors_are_all_listed(tmp_path: Path) -> None:
    path, sources, state = a_good_folder(tmp_path)
    del state["model.norm.weight"], state["model.layers.1.mlp.up_proj.weight"]
    state["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3, 16)
    state["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(2)  # old versions saved it
    state["model.layers.0.extra.weight"] = torch.zeros(1)
    write(Path(path), state, None, "shards")
    with pytest.raises(ModelError) as caught:
        converted(path, tmp_path / "out", **sources)
    start, *faults = str(caught.value).split("; ")
    assert start == (
        f"{path}: does not make a Llava: 2 missing, 1 unexpected, 1 of another shape: "
        "missing language_model.model.layers.1.mlp.up_proj.weight [24, 16]"
    )
    assert faults[0] == "missing language_model.model.norm.weight [16]"
    assert faults[1].startswith(
        "language_model.model.layers.0.mlp.up_proj.weight: [3, 16] instead of [24, 16] (model.l"
    )
    assert faults[2].startswith(
        "unexpected language_model.model.layers.0.extra.weight (model.layers.0.extra.weight in "
    )
    assert len(faults) == 3
    assert list((tmp_path / "out").iterdir()) == []


def test_a_shard_that_is_cut_off_missing_or_another(tmp_path: Path) -> None:
    path, sources, _ = a_good_folder(tmp_path)
    shard = Path(path) / "pytorch_model-00002-of-00002.bin"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(ModelError, match=str(shard)):
        converted(path, tmp_path / "1", **sources)
    shard.unlink()
    with pytest.raises(ModelError, match="1 of 2 shards are missing: pytorch_model-00002"):
        converted(path, tmp_path / "2", **sources)
    torch.save({"foo": torch.zeros(1)}, shard)
    with pytest.raises(
        ModelError, match=r"does not agree with its shards: missing .*, which should be in pytorch_model-00002"
    ):
        converted(path, tmp_path / "3", **sources)


def test_an_index_does_not_lead_out_of_its_folder(tmp_path: Path) -> None:
    path, sources, _ = a_good_folder(tmp_path)
    index = Path(path) / "pytorch_model.bin.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "../clip/model.safetensors"}}))
    with pytest.raises(ModelError, match="expected the name of a file beside it"):
        converted(path, tmp_path / "out", **sources)
    index.write_text("[")
    with pytest.raises(ModelError, match="expected a JSON object"):
        converted(path, tmp_path / "out2", **sources)


class Code:
    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Path.touch, (Path("ran"),)


def test_a_pickle_with_code_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"model.layers.0.x": Code()}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match="holds more than weights: it names getattr, and code is never run"):
        open_path(str(tmp_path / "x.pt"))
    assert not (tmp_path / "ran").exists()


def test_a_file_from_before_zip(tmp_path: Path) -> None:
    torch.save({"perceiver.latents": torch.ones(2)}, tmp_path / "x.pt", _use_new_zipfile_serialization=False)
    assert open_path(str(tmp_path / "x.pt")).weights["perceiver.latents"].read().tolist() == [1, 1]


def test_what_is_no_known_layout(tmp_path: Path) -> None:
    save_language_model(make(), tmp_path / "a")
    with pytest.raises(ModelError) as caught:
        layout_of(str(tmp_path / "a"))
    found, known = str(caught.value).split("known are ")
    assert "no known layout" in found
    assert "model_type 'llama'" in found
    assert {layout.split(" (")[0] for layout in known.split("; ")} == set(LAYOUTS.names())
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"expected weights in one of .*, found none"):
        open_path(str(tmp_path / "empty"))
    (tmp_path / "a" / "config.json").write_text("{")
    with pytest.raises(ModelError, match=r"config\.json: "):
        open_path(str(tmp_path / "a"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_aspect_ratio": "anyres"}, "any-resolution tiles"),
        ({"mm_projector_type": "identity"}, "expected a projector with weights to convert, found 'identity'"),
        ({}, "--vision-tower: expected a local folder of openai/clip-vit-large-patch14-336"),
    ],
)
def test_originals_that_cannot_be_converted(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    model = make()
    path = write(tmp_path / "a", original_names(model), original_config(model, **changes))
    with pytest.raises(ModelError, match=message):
        converted(path, tmp_path / "out")

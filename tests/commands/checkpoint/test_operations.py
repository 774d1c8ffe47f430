"""`mllm checkpoint`: each command as a user calls it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer, LlavaForConditionalGeneration

from mllm.cli import main
from mllm.commands.checkpoint import operations as checkpoint
from mllm.models.adapters.injection import as_base, inject_adapters, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.checkpoints.readback import make_probe, own_logits
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.checkpoints import reference_state
from mllm.models.llava.model import MllmLlavaConfig
from mllm.models.llava.transformers_export import export_transformers_llava
from mllm.models.llava.transformers_layout import load_llava
from mllm.models.prompt_format import record_prompt_format, stored_prompt_format
from mllm.registry import MODELS
from tests.marks import grid
from tests.models.foreign import original_config, original_names, plain_tokenizer, save_clip, write
from tests.models.tiny import WORDS, make, make_batch, make_tokenizer
from tests.models.tiny_flamingo import make as make_flamingo
from tests.models.tiny_flamingo import tokenizer as flamingo_tokenizer
from tests.pipeline.tiny import write_config


def run(*words: object) -> int:
    return main(["checkpoint", *map(str, words)])


def save_own(folder: Path, model: Any = None, tokenizer: Any = None) -> Path:
    (model or make()).save_pretrained(folder)
    (tokenizer or make_tokenizer()).save_pretrained(folder)
    return folder


@pytest.mark.parametrize("command", [[], ["inspect"], ["convert"], ["export"], ["merge"], ["diff"]])
def test_help_of_each_command(command, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*command, "--help") == 0
    assert " ".join(["Usage: mllm checkpoint", *command]) in capsys.readouterr().out


@pytest.mark.parametrize(
    "words", [["merge", "a", "b"], ["export", "a", "b"], ["checkpoint"], ["checkpoint", "look", "a"]]
)
def test_a_wrong_command_line(words: list[str]) -> None:
    assert main(words) == 2


def test_inspect_an_original_llava(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    path = write(tmp_path / "a", original_names(model), original_config(model), "shards")
    plain_tokenizer().save_pretrained(path)
    assert run("inspect", path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"{path}: llava, a whole LLaVA v1 or v1.5")
    count = sum(p.numel() for p in model.language_model.parameters())
    rows = {line.split()[0]: line.split()[1:] for line in lines[2:5]}
    assert rows["connector"] == ["4", "544", "2.176", "kB", "float32"]
    assert rows["language_model"] == ["21", f"{count:,}", f"{count * 4 / 1000:.4g}", "kB", "float32"]
    assert rows["total"][0] == "25"
    assert lines[5] == f"  vocabulary: {WORDS} embeddings; a tokenizer of {WORDS} tokens"
    where = "--vision-tower, a folder of openai/clip-vit-large-patch14-336"
    assert lines[6:] == [f"  absent: vision_tower: {where}"]


def test_inspect_says_what_a_delta_and_a_flamingo_lack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make(connector="linear")
    delta = {name: 0 * tensor for name, tensor in original_names(model).items()}
    assert run("inspect", write(tmp_path / "a", delta, original_config(model, "shikra"))) == 0
    assert "absent: language_model: --base, a LLaMA to which these are differences" in capsys.readouterr().out
    torch.save(reference_state(make_flamingo()), tmp_path / "x.pt")
    assert run("inspect", tmp_path / "x.pt") == 0
    out = capsys.readouterr().out
    assert "absent: language_model: --base, but for the embeddings" in out
    assert "absent: vision_tower: --vision-tower" in out
    assert "cross_attention" in out


def test_convert_writes_all_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    path = write(tmp_path / "a", original_names(model), original_config(model, mm_use_im_start_end=True))
    clip, out = save_clip(model, tmp_path / "clip"), tmp_path / "deep" / "out"
    assert run("convert", path, out) == 1
    assert "--vision-tower: expected a local folder of" in capsys.readouterr().err
    assert list(out.parent.iterdir()) == []
    assert run("convert", path, out, "--vision-tower", clip, "--dtype", "bfloat16", "--max-shard-size", "9KB") == 0
    printed = capsys.readouterr().out
    assert "it has no tokenizer" in printed
    assert "trained with <im_start> and <im_end>" in printed
    assert [folder.name for folder in out.parent.iterdir()] == ["out"]
    found = load_llava(str(out))
    assert {p.dtype for p in found.parameters()} == {torch.bfloat16}
    for name, tensor in model.state_dict().items():
        assert found.state_dict()[name].equal(tensor.bfloat16()), name
    before = sorted(out.iterdir())
    assert run("convert", path, out, "--vision-tower", clip) == 1
    assert (
        "expected a new or empty folder, found files in it; existing files are never overwritten: name another folder"
        in capsys.readouterr().err
    )
    assert sorted(out.iterdir()) == before
    plain_tokenizer().save_pretrained(tmp_path / "words")
    (tmp_path / "empty").mkdir()
    assert run("convert", path, tmp_path / "empty", "--vision-tower", clip, "--tokenizer", tmp_path / "words") == 0
    assert len(AutoTokenizer.from_pretrained(tmp_path / "empty")) == WORDS + 1
    assert run("convert", path, tmp_path / "no", "--vision-tower", clip, "--max-shard-size", "big") == 1
    assert "max_shard_size: " in capsys.readouterr().err
    assert not (tmp_path / "no").exists()


def test_export_to_transformers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    save_own(tmp_path / "a", model)
    assert run("export", tmp_path / "a", tmp_path / "out") == 0
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out").eval()
    batch = make_batch(model)
    found = theirs(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        pixel_values=batch["pixels"][batch["image_index"]],
    ).logits
    torch.testing.assert_close(found, model(**batch, return_logits=True).logits, rtol=1e-5, atol=1e-5)
    assert AutoProcessor.from_pretrained(tmp_path / "out", backend="pil").image_token == "<image>"
    assert run("export", tmp_path / "a", tmp_path / "half", "--dtype", "bfloat16") == 0
    assert {t.dtype for t in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}
    for words, message in (
        (("--format", "otter"), "expected a Flamingo for --format otter, found a Llava"),
        (("--format", "adapter"), "expected low-rank adapters, found none"),
        (("--whole",), "always holds all weights"),
    ):
        assert run("export", tmp_path / "a", tmp_path / "no", *words) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("whole", [False, True])
def test_export_of_a_flamingo_and_back(tmp_path: Path, whole: bool, capsys: pytest.CaptureFixture[str]) -> None:
    model = make_flamingo()
    save_own(tmp_path / "a", model, flamingo_tokenizer())
    words = ["--whole"] if whole else []
    assert run("export", tmp_path / "a", tmp_path / "out", "--format", "openflamingo", *words) == 0
    state = torch.load(tmp_path / "out" / "checkpoint.pt", weights_only=True)
    expected = reference_state(model, whole=whole)
    assert state.keys() == expected.keys()
    assert all(state[name].equal(tensor) for name, tensor in expected.items())
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == len(flamingo_tokenizer())
    assert run("export", tmp_path / "a", tmp_path / "no") == 1
    assert "expected a Llava for --format transformers-llava, found a Flamingo" in capsys.readouterr().err


def test_export_of_an_otter_and_back(tmp_path: Path) -> None:
    model = make_flamingo(kind="otter", perceiver=None)
    save_own(tmp_path / "a", model, flamingo_tokenizer())
    assert run("export", tmp_path / "a", tmp_path / "otter", "--format", "otter") == 0
    assert run("convert", tmp_path / "otter", tmp_path / "again") == 0
    found = load_flamingo(str(tmp_path / "again")).state_dict()
    for name, tensor in model.state_dict().items():
        assert found[name].equal(tensor), name
    assert run("diff", tmp_path / "a", tmp_path / "again") == 0
    assert run("diff", tmp_path / "a", tmp_path / "otter") == 0


def test_diff(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    a = save_own(tmp_path / "a", model)
    with torch.no_grad():
        model.connector.layers[0].bias[3] += 0.5
        model.language_model.model.norm.weight[0] = float("nan")
    b = save_own(tmp_path / "b", model)
    state = load_file(b / "model.safetensors")
    del state["language_model.model.layers.0.mlp.up_proj.weight"]
    state["connector.layers.9.bias"] = torch.zeros(1)
    state["connector.layers.2.bias"] = torch.zeros(3)
    state["connector.layers.2.weight"] = state["connector.layers.2.weight"].double()
    save_file(state, b / "model.safetensors", {"format": "pt"})
    assert run("diff", a, b) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "connector.layers.0.bias: max |difference| 0.5",
        "connector.layers.2.bias: shape [16] and [3]",
        "connector.layers.2.weight: dtype float32 and float64",
        f"connector.layers.9.bias: only in {b}",
        f"language_model.model.layers.0.mlp.up_proj.weight: only in {a}",
        "language_model.model.norm.weight: max |difference| nan",
        "part                equal  different  max |difference|",
        "connector               1          4  0.5",
        "language_model         19          2  nan",
        "vision_tower           55          0  0",
    ]
    assert run("diff", b, b) == 0
    assert run("diff", a, tmp_path / "nothing") == 2
    assert "checkpoint: expected a file on this machine" in capsys.readouterr().err


def test_diff_of_two_layouts_is_by_our_names(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = make()
    save_own(tmp_path / "a", model)
    export_transformers_llava(model, make_tokenizer(), str(tmp_path / "b"))
    assert run("diff", tmp_path / "a", tmp_path / "b") == 0
    assert "total" not in capsys.readouterr().out
    other = write(tmp_path / "c", original_names(model), original_config(model))
    assert run("diff", other, tmp_path / "b") == 1
    lines = capsys.readouterr().out.splitlines()
    assert {line.split(":")[1] for line in lines[:-4]} == {f" only in {tmp_path / 'b'}"}
    assert [line.split()[:3] for line in lines[-3:]] == [
        ["connector", "4", "0"],
        ["language_model", "21", "0"],
        ["vision_tower", "0", "55"],
    ]


@pytest.fixture(scope="module")
def grown(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A LLaVA of a language model without bins, trained with them; and the folder of that language model's LLaVA."""
    folder = tmp_path_factory.mktemp("grown")
    model = make()
    save_own(folder / "small", model)
    config = write_config(
        folder,
        training_args={"max_steps": 2},
        model_args={"model_name_or_path": str(folder / "small")},
        data_args={"gen_kwargs": {"max_new_tokens": 2}},
    )
    assert main(["train", str(config), "--output_dir", str(folder / "big")]) == 0
    return folder / "small", folder / "big"


def test_growth_is_recorded(grown: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    small, big = grown
    config = json.loads((big / "config.json").read_text())
    assert config["base_rows"] == WORDS
    words = AutoTokenizer.from_pretrained(big)
    assert config["added_tokens"] == words.convert_ids_to_tokens(list(range(WORDS, len(words))))
    assert {"<bin_0>", "<bin_16>"} <= set(config["added_tokens"])
    assert json.loads((small / "config.json").read_text())["added_tokens"] == []
    assert run("inspect", big) == 0
    assert f"; grown from {WORDS} by " in capsys.readouterr().out


def test_growth_is_undone_and_redone_exactly(
    grown: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, big = grown
    assert run("export", big, tmp_path / "out", "--original-vocabulary") == 0
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "out")
    assert theirs.get_input_embeddings().num_embeddings == WORDS
    before, after, whole = (AutoTokenizer.from_pretrained(folder) for folder in (small, tmp_path / "out", big))
    assert after.get_vocab() == before.get_vocab()
    assert after("w1 <image> w2")["input_ids"] == before("w1 <image> w2")["input_ids"]
    table = load_llava(str(big)).get_input_embeddings().weight
    assert theirs.get_input_embeddings().weight.equal(table[:WORDS])
    assert run("inspect", tmp_path / "out") == 0
    assert "what was added is kept in vocabulary/" in capsys.readouterr().out
    assert run("convert", tmp_path / "out", tmp_path / "again") == 0
    assert run("diff", big, tmp_path / "again") == 0
    again = AutoTokenizer.from_pretrained(tmp_path / "again")
    assert again.get_vocab() == whole.get_vocab()
    assert again.all_special_ids == whole.all_special_ids
    found, expected = (json.loads((folder / "config.json").read_text()) for folder in (tmp_path / "again", big))
    for key in ("base_rows", "added_tokens", "image_token_id"):
        assert found[key] == expected[key], key
    assert found["text_config"]["vocab_size"] == expected["text_config"]["vocab_size"]


def test_tokens_that_the_layout_needs_stay(tmp_path: Path) -> None:
    """Converted from the original code: `<image>` itself is new, and transformers' LLaVA cannot do without it."""
    model = make()
    path = write(tmp_path / "a", original_names(model), original_config(model))
    plain_tokenizer().save_pretrained(path)
    assert run("convert", path, tmp_path / "b", "--vision-tower", save_clip(model, tmp_path / "clip")) == 0
    assert run("export", tmp_path / "b", tmp_path / "c", "--original-vocabulary") == 0
    found = LlavaForConditionalGeneration.from_pretrained(tmp_path / "c")
    assert found.get_input_embeddings().num_embeddings == WORDS + 1
    assert found.config.image_token_id == WORDS
    assert run("convert", tmp_path / "c", tmp_path / "d") == 0
    assert run("diff", tmp_path / "b", tmp_path / "d") == 0
    assert json.loads((tmp_path / "d" / "config.json").read_text())["added_tokens"] == ["<image>"]


def test_growth_of_a_flamingo_is_undone_and_redone(tmp_path: Path) -> None:
    words = flamingo_tokenizer()
    words.add_tokens(["<bin_0>", "<bin_1>"], special_tokens=True)
    model = make_flamingo(perceiver={"depth": 1, "latents": 3})
    model.language_model.resize_token_embeddings(len(words))
    model.config.base_rows, model.config.added_tokens = WORDS, ["<|endofchunk|>", "<answer>", "<bin_0>", "<bin_1>"]
    model.config.new_token_ids = [WORDS - 1, WORDS, WORDS + 1]
    save_own(tmp_path / "a", model, words)
    base = make_flamingo().language_model
    save_clip(model, tmp_path / "clip")
    plain = type(base)(type(base.config).from_dict({**base.config.to_dict(), "vocab_size": WORDS}))
    plain.save_pretrained(tmp_path / "lm")
    shown = ["--format", "openflamingo", "--whole", "--original-vocabulary"]
    assert run("export", tmp_path / "a", tmp_path / "out", *shown) == 0
    assert len(AutoTokenizer.from_pretrained(tmp_path / "out")) == WORDS + 1
    parts = ["--base", tmp_path / "lm", "--vision-tower", tmp_path / "clip"]
    assert run("convert", tmp_path / "out", tmp_path / "again", *parts) == 0
    assert run("diff", tmp_path / "a", tmp_path / "again") == 0
    found, expected = (json.loads((tmp_path / name / "config.json").read_text()) for name in ("again", "a"))
    for key in ("base_rows", "added_tokens", "image_token_id", "new_token_ids"):
        assert found[key] == expected[key], key


@pytest.fixture(scope="module")
def adapted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A transformers LLaVA, and LoRA with the connector in full trained over it."""
    folder = tmp_path_factory.mktemp("adapted")
    export_transformers_llava(make(), make_tokenizer(), str(folder / "base"))
    lora = {"type": "lora", "targets": ["language_model"], "r": 2, "unfrozen": ["connector"]}
    config = write_config(
        folder,
        training_args={"max_steps": 2, "learning_rate": 0.1},
        model_args={"model_name_or_path": str(folder / "base"), "adapters": lora, "codec": "shikra"},
    )
    assert main(["train", str(config), "--output_dir", str(folder / "lora")]) == 0
    return folder / "base", folder / "lora"


def test_adapters_alone_and_merged_answer_alike(
    adapted: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base, lora = adapted
    assert run("export", lora, tmp_path / "peft", "--format", "adapter") == 0
    assert run("export", lora, tmp_path / "theirs") == 0
    assert run("merge", lora, tmp_path / "ours", "--max-shard-size", "9KB") == 0
    assert len(list((tmp_path / "ours").glob("model-*.safetensors"))) > 1
    assert stored_prompt_format(tmp_path / "ours") == stored_prompt_format(lora) != {}
    model = load_llava(str(tmp_path / "ours"))
    batch = make_batch(model)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    inputs["pixel_values"] = batch["pixels"][batch["image_index"]]
    expected = model(**batch, return_logits=True).logits
    plain = LlavaForConditionalGeneration.from_pretrained(base).eval()
    assert (plain(**inputs).logits - expected).abs().max() > 0.1
    with_adapters = PeftModel.from_pretrained(plain, str(tmp_path / "peft")).eval()
    torch.testing.assert_close(with_adapters(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
    theirs = LlavaForConditionalGeneration.from_pretrained(tmp_path / "theirs").eval()
    torch.testing.assert_close(theirs(**inputs).logits, expected, rtol=1e-4, atol=1e-4)
    assert run("inspect", lora) == 0
    out = capsys.readouterr().out
    assert f"absent: the rest: type llava, model_name_or_path {base}" in out
    assert run("convert", lora, tmp_path / "no") == 1
    assert f"mllm checkpoint merge {lora} OUT_DIR" in capsys.readouterr().err
    assert run("merge", base, tmp_path / "no") == 1
    assert "expected adapters to merge, found none" in capsys.readouterr().err


def test_adapters_with_new_tokens_are_not_exported_alone(
    grown: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, _ = grown
    lora = {"type": "lora", "targets": ["language_model"], "r": 2}
    config = write_config(
        tmp_path, training_args={"max_steps": 1}, model_args={"model_name_or_path": str(small), "adapters": lora}
    )
    assert main(["train", str(config), "--output_dir", str(tmp_path / "lora")]) == 0
    capsys.readouterr()
    assert run("export", tmp_path / "lora", tmp_path / "no", "--format", "adapter") == 1
    error = capsys.readouterr().err
    assert "expected no tokens beside those of the base, found " in error
    # but merged, and then without these tokens
    assert run("export", tmp_path / "lora", tmp_path / "out", "--original-vocabulary") == 0
    assert load_llava(str(tmp_path / "out")).get_input_embeddings().num_embeddings == WORDS


def test_a_single_layer_is_exported_by_the_name_of_a_linear_connector(tmp_path: Path) -> None:
    for name in ("mlp1x_gelu", "linear"):
        save_own(tmp_path / name, make(connector=name))
        assert run("export", tmp_path / name, tmp_path / f"{name}-out") == 0


@pytest.mark.slow
def test_adapters_of_a_linear_connector_answer_as_the_merged_model(tmp_path: Path) -> None:
    """Its exported form has an identity behind it, which PEFT's file holds too."""
    export_transformers_llava(make(connector="linear"), make_tokenizer(), str(tmp_path / "base"))
    base = {"type": "llava", "model_name_or_path": str(tmp_path / "base")}
    save_adapters(tmp_path / "lora", base, make_tokenizer(), ["language_model", "connector"])
    save_adapters(tmp_path / "full", base, make_tokenizer(), ["language_model"], ["connector"])
    for name in ("lora", "full"):
        assert run("export", tmp_path / name, tmp_path / f"{name}-peft", "--format", "adapter") == 0
        names = load_file(tmp_path / f"{name}-peft" / "adapter_model.safetensors")
        assert any(".multi_modal_projector.linear_1." in tensor for tensor in names)
        assert run("export", tmp_path / name, tmp_path / f"{name}-whole") == 0


def save_adapters(folder: Path, base: dict[str, Any], tokenizer: Any, targets: list[str], unfrozen: Any = ()) -> Any:
    """LoRA on a base, as a run leaves it; the model."""
    model = MODELS.make(base, tokenizer=tokenizer)
    inject_adapters(
        model, read_adapters({"type": "lora", "targets": targets, "r": 2, "unfrozen": unfrozen}), as_base(base)
    )
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save_adapted(model, str(folder))
    tokenizer.save_pretrained(folder)
    record_prompt_format(folder, base["type"], {})
    return model


@pytest.fixture(scope="module")
def chained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    """LoRA on an OpenFlamingo of parts and a chain of files, named from its own folder; and the model."""
    folder, words = tmp_path_factory.mktemp("chained"), flamingo_tokenizer()
    source = make_flamingo(seed=3)
    save_clip(source, folder / "clip")
    plain = type(source.language_model)(source.language_model.config)  # has cross-attention, which its folder has not
    plain.save_pretrained(folder / "lm")
    first, second = reference_state(make_flamingo(seed=4)), reference_state(source)
    torch.save(first, folder / "a.pt")
    torch.save({name: second[name] for name in second if name.startswith("perceiver.")}, folder / "b.pt")
    base = {
        **{"type": "openflamingo", "vision_tower": "clip", "language_model": "lm", "checkpoint": "a.pt,b.pt"},
        **{"cross_attn_every_n_layers": 1, "perceiver": source.config.perceiver},
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        model = save_adapters(folder / "lora", base, words, ["language_model", "cross_attention"], ["perceiver"])
    return folder, model


@pytest.mark.slow
def test_adapters_on_a_chain_of_files_are_loaded_merged_and_exported(
    chained: tuple[Path, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, model = chained
    chain = [str(folder / "a.pt"), str(folder / "b.pt")]
    assert json.loads((folder / "lora" / "adapters.json").read_text())["base"]["checkpoint"] == chain
    assert run("merge", folder / "lora", tmp_path / "merged") == 0
    batch = make_probe(model, flamingo_tokenizer())
    expected = own_logits(model, batch)
    torch.testing.assert_close(own_logits(load_flamingo(str(tmp_path / "merged")), batch), expected)
    assert run("inspect", folder / "lora") == 0
    assert f"checkpoint {','.join(chain)}" in capsys.readouterr().out
    assert run("export", folder / "lora", tmp_path / "no", "--format", "openflamingo") == 1
    assert "tensors); export it with --whole" in capsys.readouterr().err
    assert run("export", folder / "lora", tmp_path / "whole", "--format", "openflamingo", "--whole") == 0
    state = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)
    wanted = reference_state(load_flamingo(str(tmp_path / "merged")), whole=True)
    assert all(state[name].equal(tensor) for name, tensor in wanted.items())
    moved = folder / "elsewhere.pt"
    (folder / "b.pt").rename(moved)
    try:
        assert run("merge", folder / "lora", tmp_path / "again") == 1
        assert f"its base is gone: checkpoint {folder / 'b.pt'}" in capsys.readouterr().err
    finally:
        moved.rename(folder / "b.pt")


@pytest.mark.parametrize(
    ("format", "fault"), grid(["transformers-llava", "openflamingo", "otter", "adapter"], ["tensor", "setting"])
)
def test_an_export_that_reads_back_otherwise_leaves_nothing(
    format,
    fault,
    adapted: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """As of a format that has no place for a part of the model: a tensor is changed, or a setting of the config."""
    name = {"transformers-llava": "export_transformers_llava", "adapter": "export_adapter"}.get(format)
    name = name or {"openflamingo": "save_reference", "otter": "save_otter"}[format]
    if fault == "setting" and format == "openflamingo":
        pytest.skip("its file holds tensors alone")
    source = adapted[1] if format == "adapter" else tmp_path / "a"
    if format == "transformers-llava":
        save_own(source)
    elif format != "adapter":
        save_own(source, make_flamingo(kind="otter", perceiver=None), flamingo_tokenizer())
    write = getattr(checkpoint, name)

    def spoilt(*args: Any, **options: Any) -> None:
        write(*args, **options)
        place = Path(args[-1])
        if fault == "setting":
            spoil_setting(place)
        else:
            spoil_tensor(place)

    monkeypatch.setattr(checkpoint, name, spoilt)
    assert run("export", source, tmp_path / "out", "--format", format) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the output was deleted" in error
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def spoil_setting(folder: Path) -> None:
    """Of the language model's norms, or of the low-rank matrices."""
    path = next(path for name in ("adapter_config.json", "config.json") if (path := folder / name).is_file())
    found = json.loads(path.read_text())
    if "lora_alpha" in found:
        found["lora_alpha"] *= 2
    else:
        found["text_config"]["rms_norm_eps"] = 0.5
    path.write_text(json.dumps(found))


def spoil_tensor(place: Path) -> None:
    if place.suffix == ".pt":
        state = torch.load(place, weights_only=True)
        torch.save({name: tensor + 0.5 for name, tensor in state.items()}, place)
        return
    path = next(place.glob("*.safetensors"))
    state = load_file(path)
    save_file({name: tensor + 0.5 for name, tensor in state.items()}, path, {"format": "pt"})


@pytest.mark.parametrize("command", ["merge", "convert"])
def test_a_folder_that_reads_back_otherwise_leaves_nothing(
    command: str,
    adapted: tuple[Path, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The settings are written last: those of another model, then."""
    source = adapted[1] if command == "merge" else save_own(tmp_path / "a")
    write = MllmLlavaConfig.save_pretrained

    def spoilt(config: Any, folder: Any, **options: Any) -> None:
        write(config, folder, **options)
        spoil_setting(Path(folder)) if command == "merge" else spoil_tensor(Path(folder))

    monkeypatch.setattr(MllmLlavaConfig, "save_pretrained", spoilt)
    assert run(command, source, tmp_path / "out") == 1
    assert "the output was deleted" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "out").exists()


def test_work_that_is_interrupted_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    save_own(tmp_path / "a")
    monkeypatch.setattr(checkpoint, "export_transformers_llava", interrupted)
    assert run("export", tmp_path / "a", tmp_path / "out") == 130
    assert [folder.name for folder in tmp_path.iterdir()] == ["a"]


def test_a_file_is_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert run("export", save_own(tmp_path / "a"), tmp_path / "file") == 1
    assert "expected a new or empty folder, found" in capsys.readouterr().err

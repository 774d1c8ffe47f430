"""LoRA of a model that transformers has, as PEFT loads it over transformers' own; merged, as a plain folder."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from transformers import (
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
)

from mllm.cli import main
from mllm.models.adapters.injection import as_base, inject_adapters, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.prompt_format import record_prompt_format, usual_prompt_format
from mllm.registry import MODELS
from mllm.serve.chat_model import load
from mllm.tokenizer_files import load_tokenizer
from mllm.tokenizer_saving import save_tokenizer
from tests.models.tiny import make_tokenizer
from tests.models.tiny_hf import ask, batch_of, build, save_tiny
from tests.models.tiny_seq2seq import FAMILIES as ENCODER_DECODERS
from tests.models.tiny_seq2seq import make as make_seq2seq
from tests.models.tiny_text import save_text

LORA = {"type": "lora", "targets": ["language_model"], "r": 2}


def adapt(kind: str, base: Path, out: Path, adapters: dict[str, Any], tokens: tuple[str, ...] = ()) -> Any:
    """Adapters over `base` as a run leaves them, changed from what they were at the start; the model."""
    args = {"type": kind, "model_name_or_path": str(base)}
    tokenizer = load_tokenizer(base)
    tokenizer.add_tokens(list(tokens))
    model = MODELS.make(args, tokenizer=tokenizer)
    inject_adapters(model, read_adapters(adapters), as_base(args))
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn_like(parameter))
    save_adapted(model, str(out))
    save_tokenizer(tokenizer, out)
    record_prompt_format(out, kind, {"codec": usual_prompt_format(args).codec})
    return model.eval()


def export(source: Path, out: Path) -> int:
    return main(["checkpoint", "export", str(source), str(out), "--format", "adapter"])


def inputs(base: Path, model: Any) -> dict[str, Any]:
    """Of a question about an image, as the model's own class takes it."""
    batch = batch_of(build(str(base))[1], [ask((40, 24))], answer=False)
    return {"attention_mask": batch.pop("attention_mask"), **model.own_inputs(batch.pop("input_ids"), batch)}


@pytest.mark.parametrize(
    ("family", "adapters", "tied"),
    [
        ("qwen2_5_vl", LORA, None),
        pytest.param("internvl", {**LORA, "unfrozen": ["embeddings"]}, True, marks=pytest.mark.slow),
        pytest.param("qwen3_vl", {**LORA, "type": "rslora", "unfrozen": ["connector"]}, None, marks=pytest.mark.slow),
        pytest.param(
            *("smolvlm", {**LORA, "type": "dora", "targets": ["language_model", "connector"]}, None),
            marks=pytest.mark.slow,
        ),
        pytest.param("paligemma", {**LORA, "unfrozen": ["embeddings"]}, False, marks=pytest.mark.slow),
        pytest.param(
            *("kosmos-2", {**LORA, "targets": ["vision_tower", "language_model"]}, None),
            marks=pytest.mark.slow,
        ),
    ],
)
def test_export_adapter_answers_over_transformers_own_model(
    family: str, adapters: dict[str, Any], tied: bool | None, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = save_tiny(family, tmp_path / "base", tied=tied)
    model = adapt("hf", base, tmp_path / "lora", adapters)
    batch = inputs(base, model)
    with torch.no_grad():
        expected = model(**batch).logits
        plain = AutoModelForImageTextToText.from_pretrained(base).eval()
        assert (plain(**batch).logits - expected).abs().max() > 0.01
        assert export(tmp_path / "lora", tmp_path / "peft") == 0
        said = capsys.readouterr().out
        found = PeftModel.from_pretrained(plain, str(tmp_path / "peft")).eval()(**batch).logits
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
        assert main(["checkpoint", "merge", str(tmp_path / "lora"), str(tmp_path / "whole")]) == 0
        whole = AutoModelForImageTextToText.from_pretrained(tmp_path / "whole").eval()
        torch.testing.assert_close(whole(**batch).logits, expected, rtol=1e-4, atol=1e-4)
    settings = json.loads((tmp_path / "peft" / "adapter_config.json").read_text())
    names = {name for name, _ in plain.named_modules()}
    assert settings["base_model_name_or_path"] == str(base.resolve())
    assert settings["target_modules"]
    own = {name.removeprefix("base_model.model.") for name in names}
    for target in settings["target_modules"]:  # of many names PEFT keeps their common endings
        assert any(f".{name}".replace(".base_layer", "").endswith(f".{target}") for name in own), target
    for other in (settings["modules_to_save"], settings["use_dora"]):
        assert ("vLLM takes no" in said) or not other
    assert AutoImageProcessor.from_pretrained(tmp_path / "whole", backend="pil").to_dict()
    assert AutoTokenizer.from_pretrained(tmp_path / "whole").get_vocab() == load_tokenizer(base).get_vocab()
    assert load(tmp_path / "whole", device="cpu").processor.codec is not None


def test_adapters_alone_are_a_folder_of_peft_as_they_are_saved(tmp_path: Path) -> None:
    base = save_tiny("qwen2_5_vl", tmp_path / "base")
    model = adapt("hf", base, tmp_path / "lora", LORA)
    batch = inputs(base, model)
    with torch.no_grad():
        plain = AutoModelForImageTextToText.from_pretrained(base)
        found = PeftModel.from_pretrained(plain, str(tmp_path / "lora")).eval()(**batch).logits
        torch.testing.assert_close(found, model(**batch).logits, rtol=1e-4, atol=1e-4)
    assert json.loads((tmp_path / "lora" / "adapter_config.json").read_text())["base_model_name_or_path"] == str(base)


def causal_lm(folder: Path) -> Path:
    return save_text(folder, tied=True)


def seq2seq(folder: Path) -> Path:
    make_seq2seq(language_model=ENCODER_DECODERS["flan_t5"]).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


@pytest.mark.parametrize(
    ("make", "auto"),
    [(causal_lm, AutoModelForCausalLM), pytest.param(seq2seq, AutoModelForSeq2SeqLM, marks=pytest.mark.slow)],
)
def test_export_adapter_of_a_model_of_text_has_the_names_of_transformers(
    make: Callable[[Path], Path], auto: Any, tmp_path: Path
) -> None:
    base = make(tmp_path / "base")
    model = adapt(make.__name__, base, tmp_path / "lora", LORA)
    assert export(tmp_path / "lora", tmp_path / "peft") == 0
    plain = auto.from_pretrained(base).eval()
    names = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    assert not any("language_model." in name for name in names)
    batch = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    batch |= {"decoder_input_ids": batch["input_ids"].flip(1)} if make is seq2seq else {}
    with torch.no_grad():
        expected = model.language_model(**batch).logits
        found = PeftModel.from_pretrained(plain, str(tmp_path / "peft")).eval()(**batch).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert main(["checkpoint", "merge", str(tmp_path / "lora"), str(tmp_path / "whole")]) == 0
    with torch.no_grad():
        whole = auto.from_pretrained(tmp_path / "whole").eval()(**batch).logits
    torch.testing.assert_close(whole, expected, rtol=1e-4, atol=1e-4)


def test_export_adapter_refuses_rows_that_the_base_has_not(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny("qwen2_vl", tmp_path / "base")
    adapt("hf", base, tmp_path / "lora", {**LORA, "unfrozen": ["embeddings"]}, tokens=("<new>",))
    assert export(tmp_path / "lora", tmp_path / "peft") == 1
    assert "expected no tokens beside those of the base, found <new>" in capsys.readouterr().err
    assert main(["checkpoint", "merge", str(tmp_path / "lora"), str(tmp_path / "whole")]) == 0


def test_export_adapter_refuses_a_parameter_beside_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny("kosmos-2", tmp_path / "base")
    adapt("hf", base, tmp_path / "lora", {**LORA, "unfrozen": ["connector"]})
    assert export(tmp_path / "lora", tmp_path / "peft") == 1
    assert "a parameter of image_to_text_projection beside its layers was trained in full" in capsys.readouterr().err


def test_export_says_that_a_folder_is_transformers_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = save_tiny("qwen2_vl", tmp_path / "base")
    assert main(["checkpoint", "export", str(base), str(tmp_path / "out")]) == 1
    assert "found type 'hf', whose folders are transformers' own" in capsys.readouterr().err

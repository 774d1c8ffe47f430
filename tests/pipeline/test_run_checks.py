"""The type of a model, as its folder says it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError, ModelError
from mllm.pipeline.run_checks import check_model_args, check_run, typed
from mllm.serve.api.loading import card_of
from mllm.serve.chat_model import load
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import CONFIG, SCENES

QUESTION = ["--prompt", "Where is it?", "--max_new_tokens", "2", "--device", "cpu"]


def test_check_run_reads_when_to_stop() -> None:
    """Before data and weights are loaded."""
    args = RunArguments(use_cpu=True, report_to="none")
    sections = {"model_args": CONFIG["model_args"], "data_args": {}, "early_stopping": {"patience": 0}}
    with pytest.raises(
        ConfigError, match=r"early_stopping\.patience: expected a whole number of at least 1, found int"
    ):
        check_run(sections, args)


@pytest.mark.parametrize(
    ("model_type", "kind"),
    [
        ("qwen2_5_vl", "hf"),
        ("gemma3", "hf"),
        ("llava", "llava"),
        ("llava_next", "llava"),
        ("otter", "otter"),
        ("t5", "seq2seq"),
        ("qwen3", "causal_lm"),
        ("gemma3_text", "causal_lm"),
    ],
)
def test_typed_reads_the_config_of_a_folder(model_type: str, kind: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": model_type}))
    assert typed({"model_name_or_path": str(tmp_path)}) == {"model_name_or_path": str(tmp_path), "type": kind}


def test_typed_follows_what_is_said() -> None:
    assert typed({"type": "llava", "model_name_or_path": "gone"})["type"] == "llava"
    assert typed({"vision_tower": "a"}) == {"vision_tower": "a"}


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "expected a mllm_speech.json or a config.json that names the type of the model, found none"),
        ({"config.json": {"model_type": "bert"}}, "found model_type str 'bert'"),
        (
            {"adapter_config.json": {"base_model_name_or_path": "Qwen/A"}},
            "it holds adapters of PEFT alone: set model_args.model_name_or_path to their base, str 'Qwen/A'",
        ),
    ],
)
def test_typed_says_what_a_folder_lacks(files: dict[str, Any], message: str, tmp_path: Path) -> None:
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    with pytest.raises(ModelError) as caught:
        typed({"model_name_or_path": str(tmp_path)})
    assert message in str(caught.value)


def test_model_args_that_name_no_model_say_how_to_name_one() -> None:
    with pytest.raises(ConfigError) as caught:
        check_model_args({})
    assert str(caught.value) == (
        "model_args: expected type or model_name_or_path, found neither; "
        "name a model's folder, --cfg-options model_args.model_name_or_path=DIR"
    )


def test_an_id_of_a_hub_says_how_to_get_the_folder(capsys: pytest.CaptureFixture[str]) -> None:
    said = "if this is an id of Hugging Face's hub, name the folder that `hf download Qwen/Qwen3-VL-4B-Instruct` prints"
    with pytest.raises(ModelError) as caught:
        typed({"model_name_or_path": "Qwen/Qwen3-VL-4B-Instruct"})
    assert said in str(caught.value)
    assert main(["predict", "--model", "Qwen/Qwen3-VL-4B-Instruct", *QUESTION]) == 1
    assert said in capsys.readouterr().err
    with pytest.raises(ModelError) as caught:
        typed({"model_name_or_path": "tests/gone"})
    assert "hf download" not in str(caught.value)
    with pytest.raises(ModelError, match="put the folder there, or name yours"):
        typed({"model_name_or_path": "checkpoints/gone"})


def test_a_plain_folder_of_transformers_answers_without_further_words(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(save_tiny("qwen2_5_vl", tmp_path / "model"))
    Image.new("RGB", (40, 24), "red").save(tmp_path / "photo.png")
    assert main(["predict", "--model", folder, "--image", str(tmp_path / "photo.png"), *QUESTION]) == 0
    loaded = load(folder, device="cpu")
    card = card_of(loaded, folder, {})
    assert (card["type"], card["codec"], card["template"]) == ("hf", "qwen25_vl", "chat")


@pytest.mark.slow
def test_a_config_needs_no_type(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(save_tiny("qwen2_5_vl", tmp_path / "model"))
    config = tmp_path / "config.py"
    sections = {
        "training_args": dict(CONFIG["training_args"], max_steps=1),
        "model_args": {"model_name_or_path": folder},
        "data_args": {"train": dict(SCENES, count=4)},
    }
    config.write_text("\n".join(f"{name} = {values!r}" for name, values in sections.items()))
    assert main(["train", str(config), "--output_dir", str(tmp_path / "out")]) == 0
    assert main(["data", "show", str(config), "--out", str(tmp_path / "page.html")]) == 0
    assert main(["model", "show", str(config)]) == 0
    assert "Qwen2_5_VLForConditionalGeneration" in capsys.readouterr().out
    assert json.loads((tmp_path / "out" / "mllm_speech.json").read_text())["type"] == "hf"

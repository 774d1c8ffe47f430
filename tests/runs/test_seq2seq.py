"""A text-to-text model on the whole path: trained, resumed, scored, with adapters on an 8-bit base."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.cli import main
from tests.pipeline.tiny import CONFIG, STAND_INS, losses, save_stand_in

PAIRS = [("Where is the red circle?", "left"), ("Where is the blue square?", "right")]
STEPS: dict[str, Any] = {"max_steps": 60, "save_strategy": "steps", "save_steps": 30, "per_device_train_batch_size": 2}
STEPS |= {"lr_scheduler_type": "constant"}
MODEL = {"type": "seq2seq", "tokenizer": {"vocab_size": 400}, **STAND_INS["seq2seq"]}


def config_of(folder: Path, *, training: dict[str, Any] | None = None, **model_args: Any) -> str:
    data = folder / "pairs.jsonl"
    lines = [json.dumps({"instruction": question, "output": answer}) for question, answer in PAIRS]
    data.write_text("\n".join(lines), encoding="utf-8")
    texts = {"type": "TextOnly", "filename": str(data)}
    sets = {"train": texts, "validation": texts, "test": texts, "multitest": {"again": {"cfg": texts}}}
    sections = {
        "training_args": {**CONFIG["training_args"], **STEPS, "learning_rate": 1e-2, **(training or {})},
        "model_args": {**MODEL, **model_args},
        "data_args": {**sets, "compute_metric": "ExactMatch", "gen_kwargs": {"max_new_tokens": 8}},
    }
    path = folder / "texts.py"
    path.write_text("\n".join(f"{name} = {value!r}" for name, value in sections.items()), encoding="utf-8")
    return str(path)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config, out = config_of(folder), folder / "out"
    assert main(["train", config, "--do_eval", "True", "--do_predict", "True", "--output_dir", str(out)]) == 0
    return out


def test_it_learns_the_answers(trained: Path) -> None:
    for prefix in ("eval", "test", "multitest_again"):
        results = json.loads((trained / f"{prefix}_results.json").read_text())
        assert (results[f"{prefix}_exact_match"], results[f"{prefix}_count"]) == (1.0, 2)
    assert json.loads((trained / "eval_results.json").read_text())["eval_loss"] < 0.1
    lines = (trained / "test_extra_prediction.jsonl").read_text().splitlines()
    assert [json.loads(line)["text"] for line in lines] == ["left", "right"]


def test_a_resumed_run_repeats_the_losses_and_its_folder_evaluates(
    trained: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config, out = config_of(tmp_path), tmp_path / "out"
    shutil.copytree(trained / "checkpoint-30", out / "checkpoint-30")
    assert main(["train", config, "--output_dir", str(out), "--resume_from_checkpoint", "auto"]) == 0
    assert "missing keys" not in caplog.text
    last = list(range(31, 61))
    assert [losses(out)[step] for step in last] == pytest.approx([losses(trained)[step] for step in last], abs=1e-4)
    chosen = ["--cfg-options", f"model_args.model_name_or_path={out}", "--output_dir", str(tmp_path / "eval")]
    assert main(["eval", config, *chosen]) == 0
    assert json.loads((tmp_path / "eval" / "eval_results.json").read_text())["eval_exact_match"] == 1.0


@pytest.mark.slow
def test_adapters_on_eight_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_stand_in(tmp_path / "base", "seq2seq")
    adapters = {"type": "lora", "targets": [r"\.(q|v)$"], "r": 4}
    quantized = {"model_name_or_path": str(tmp_path / "base"), "quantization": {"type": "bitsandbytes", "bits": 8}}
    config = config_of(
        tmp_path, training={"max_steps": 3, "bf16": True}, **quantized, language_model=None, adapters=adapters
    )
    out = tmp_path / "out"
    assert main(["train", config, "--do_eval", "True", "--output_dir", str(out)]) == 0
    chosen = ["--cfg-options", f"model_args.model_name_or_path={out}", "--output_dir", str(tmp_path / "eval")]
    assert main(["eval", config, *chosen]) == 0
    scores = [json.loads((folder / "eval_results.json").read_text()) for folder in (out, tmp_path / "eval")]
    assert scores[0]["eval_loss"] == pytest.approx(scores[1]["eval_loss"], abs=1e-6)


def test_an_image_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    line = {"image": "a.png", "conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A."}]}
    (tmp_path / "seen.jsonl").write_text(json.dumps(line), encoding="utf-8")
    config = config_of(tmp_path)
    seen = {"type": "Instruct", "filename": str(tmp_path / "seen.jsonl"), "image_folder": str(tmp_path)}
    options = [f"data_args.train.{name}={value}" for name, value in seen.items()]
    assert main(["train", config, "--cfg-options", *options, "--output_dir", str(tmp_path / "out")]) == 1
    assert "seen.jsonl:1: expected text alone, found 1 image(s)" in capsys.readouterr().err

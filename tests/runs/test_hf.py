"""Native models through the command line: trained, resumed, evaluated from their folder; LoRA, merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

from mllm.cli import main
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import CONFIG, SCENES, losses

LORA = {"type": "lora", "targets": ["language_model"], "r": 4, "unfrozen": ["connector"]}


def write_config(path: Path, **model_args: Any) -> str:
    data = dict(
        train=dict(SCENES, count=12),
        validation=dict(SCENES, count=5, seed=1),
        test=dict(SCENES, count=3, seed=2),
        compute_metric=dict(type="REC"),
        gen_kwargs=dict(max_new_tokens=4),
    )
    training = dict(CONFIG["training_args"], max_steps=4, save_strategy="steps", save_steps=2)
    sections = {"training_args": training, "model_args": dict(model_args, type="hf"), "data_args": data}
    path.write_text("\n".join(f"{name} = {values!r}" for name, values in sections.items()), encoding="utf-8")
    return str(path)


def results(folder: Path) -> dict[str, float]:
    found = json.loads((folder / "eval_results.json").read_text())
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


@pytest.mark.parametrize(
    ("family", "adapters"), [pytest.param("qwen2_5_vl", None, marks=pytest.mark.slow), ("smolvlm", LORA)]
)
def test_trained_resumed_evaluated_and_predicted(family: str, adapters: dict[str, Any] | None, tmp_path: Path) -> None:
    base = save_tiny(family, tmp_path / "base")
    more = {} if adapters is None else {"adapters": adapters}
    config = write_config(tmp_path / "tiny.py", model_name_or_path=str(base), **more)
    out, cut, again = tmp_path / "out", tmp_path / "cut", tmp_path / "again"
    assert main(["train", config, "--do_eval", "True", "--output_dir", str(out)]) == 0

    shutil.copytree(out / "checkpoint-2", cut / "checkpoint-2")
    assert main(["train", config, "--output_dir", str(cut), "--resume_from_checkpoint", "auto"]) == 0
    assert losses(cut) == pytest.approx(losses(out), abs=1e-6)
    name = "model.safetensors" if adapters is None else "adapter_model.safetensors"
    for key, tensor in load_file(cut / name).items():
        assert tensor.equal(load_file(out / name)[key]), key

    whole = out
    if adapters is not None:
        whole = tmp_path / "merged"
        assert main(["checkpoint", "merge", str(out), str(whole)]) == 0
    for folder in {out, whole}:
        chosen = ["--cfg-options", f"model_args.model_name_or_path={folder}"]
        assert main(["eval", str(out / "config.py"), *chosen, "--output_dir", str(again / folder.name)]) == 0
        assert results(again / folder.name) == pytest.approx(results(out), abs=1e-5)
    assert (whole / "preprocessor_config.json").is_file()
    assert type(AutoModelForImageTextToText.from_pretrained(whole)).__module__.startswith("transformers.")

    chosen = ["--cfg-options", f"model_args.model_name_or_path={out}"]
    assert main(["predict", config, *chosen, "--output_dir", str(tmp_path / "predictions")]) == 0
    lines = (tmp_path / "predictions" / "test_extra_prediction.jsonl").read_text().splitlines()
    assert len(lines) == 3

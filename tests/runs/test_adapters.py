"""Adapters through the command line: trained, resumed, evaluated from their folder, merged."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from mllm.cli import main
from tests.marks import slow_but
from tests.pipeline.tiny import losses, save_stand_in, write_config

LORA: dict[str, Any] = {
    "type": "lora",
    "targets": ["language_model"],
    "r": 4,
    "dropout": 0.1,
    "unfrozen": ["connector"],
}
STEPS = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2, "per_device_train_batch_size": 8}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("base")
    save_stand_in(folder)
    return folder


def config_of(folder: Path, base: Path | None, **model_args: Any) -> str:
    named = {"model_name_or_path": str(base)} if base else {}
    return str(write_config(folder, training_args=STEPS, model_args={"adapters": LORA, **named, **model_args}))


def results(folder: Path, prefix: str = "eval") -> dict[str, float]:
    found = json.loads((folder / f"{prefix}_results.json").read_text())
    return {name: found[f"{prefix}_{name}"] for name in ("loss", "mean_iou", "count")}


@pytest.fixture(scope="module")
def trained(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    config = config_of(folder, base)
    assert main(["train", config, "--do_eval", "True", "--output_dir", str(folder / "out")]) == 0
    return folder / "out"


def test_a_checkpoint_holds_the_adapters_and_not_the_base(trained: Path) -> None:
    for folder in (trained, trained / "checkpoint-2"):
        names = {path.name for path in folder.iterdir()}
        assert {"adapters.json", "adapter_config.json", "adapter_model.safetensors", "tokenizer.json"} <= names
        assert "model.safetensors" not in names
        parts = {name.split(".")[0] for name in load_file(folder / "trained_in_full.safetensors")}
        assert parts == {"connector"}


def test_what_is_trained_is_listed_and_untrained_new_tokens_are_named(trained: Path) -> None:
    log = (trained / "train.log").read_text()
    assert "what is trained:\npart" in log
    assert "new tokens (" in log
    assert "set adapters.unfrozen=['embeddings'] to train them" in log


@pytest.mark.parametrize("from_parts", slow_but([False], [False, True]))
def test_a_resumed_run_has_the_losses_of_an_uninterrupted_one(
    from_parts: bool, base: Path, trained: Path, tmp_path: Path
) -> None:
    config = config_of(tmp_path, None if from_parts else base)
    whole, cut = trained, tmp_path / "cut"
    if from_parts:  # random weights: the checkpoint holds all of them
        whole = tmp_path / "whole"
        assert main(["train", config, "--output_dir", str(whole)]) == 0
    shutil.copytree(whole / "checkpoint-2", cut / "checkpoint-2")
    assert main(["train", config, "--output_dir", str(cut), "--resume_from_checkpoint", "auto"]) == 0
    assert losses(cut) == pytest.approx(losses(whole), abs=1e-6)
    for name, tensor in load_file(cut / "adapter_model.safetensors").items():
        assert tensor.equal(load_file(whole / "adapter_model.safetensors")[name]), name


def test_the_folder_evaluates_as_the_run_did_and_so_does_the_merged_model(trained: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    assert main(["checkpoint", "merge", str(trained), str(merged)]) == 0
    assert (merged / "model.safetensors").is_file()
    for number, folder in enumerate((trained, merged)):
        out = tmp_path / str(number)
        chosen = ["--cfg-options", f"model_args.model_name_or_path={folder}"]
        assert main(["eval", str(trained / "config.py"), *chosen, "--output_dir", str(out)]) == 0
        assert results(out) == pytest.approx(results(trained), abs=1e-5)


def test_training_goes_on_from_a_folder_of_adapters(trained: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, trained)
    assert main(["train", config, "--output_dir", str(tmp_path / "on"), "--do_eval", "True"]) == 0
    again = tmp_path / "again"
    chosen = ["--cfg-options", f"model_args.model_name_or_path={tmp_path / 'on'}"]
    assert main(["eval", config, *chosen, "--output_dir", str(again)]) == 0
    assert results(again) == pytest.approx(results(tmp_path / "on"), abs=1e-6)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["checkpoint", "merge", "BASE", "OUT"], "expected adapters to merge, found none"),
        (["checkpoint", "convert", "TRAINED", "OUT"], "mllm checkpoint merge"),
        (["train", "CONFIG", "--cfg-options", "model_args.adapters.r=2"], "continue with those of the folder"),
        (
            ["train", "CONFIG", "--cfg-options", "model_args.learning_rate_groups.conector=1"],
            "did you mean 'connector'",
        ),
        (["train", "CONFIG", "--cfg-options", "model_args.learning_rate_groups=3"], "expected a dict"),
    ],
)
def test_what_a_user_can_mend(
    command: list[str],
    message: str,
    base: Path,
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    names = {"BASE": base, "TRAINED": trained, "OUT": tmp_path / "out", "CONFIG": config_of(tmp_path, trained)}
    assert main([str(names.get(word, word)) for word in command]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.slow
def test_a_quantised_base_is_trained_evaluated_and_merged(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_stand_in(tmp_path / "base")
    config = config_of(tmp_path, tmp_path / "base", quantization={"type": "bitsandbytes", "bits": 4})
    out = tmp_path / "out"
    assert main(["train", config, "--do_eval", "True", "--output_dir", str(out)]) == 0
    chosen = ["--cfg-options", f"model_args.model_name_or_path={out}"]
    assert main(["eval", config, *chosen, "--output_dir", str(tmp_path / "eval")]) == 0
    assert results(tmp_path / "eval") == pytest.approx(results(out), abs=1e-6)
    assert main(["checkpoint", "merge", str(out), str(tmp_path / "merged")]) == 0


@pytest.mark.slow
def test_a_quantised_model_without_adapters_saves_what_it_trains(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes")
    save_stand_in(tmp_path / "base")
    changes = {"adapters": None, "quantization": {"type": "bitsandbytes"}, "freeze": ["vision_tower", "language_model"]}
    config = config_of(tmp_path, tmp_path / "base", **changes)
    assert main(["train", config, "--output_dir", str(tmp_path / "out")]) == 0
    assert not (tmp_path / "out" / "adapter_model.safetensors").exists()
    chosen = ["--cfg-options", f"model_args.model_name_or_path={tmp_path / 'out'}"]
    assert main(["eval", config, *chosen, "--output_dir", str(tmp_path / "eval")]) == 0

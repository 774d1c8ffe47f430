"""Evaluation during training: its files, the choice of the best model, early stopping; training does not notice."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mllm.cli import main
from mllm.pipeline import trainer
from mllm.pipeline.best_model import random_state_kept
from mllm.pipeline.evaluate import mean_losses
from tests.marks import slow_but
from tests.models.tiny_hf import save_tiny
from tests.pipeline.tiny import CONFIG, SCENES, losses, write_config

DROPOUT = dict(CONFIG["model_args"]["language_model"], attention_dropout=0.3)
SAMPLED = dict(max_new_tokens=4, do_sample=True, top_k=5)


def train(folder: Path, out: str, *flags: str, **sections: dict[str, Any]) -> Path:
    """The output folder of a run."""
    config = write_config(folder, **sections)
    assert main(["train", str(config), "--output_dir", str(folder / out), *flags]) == 0
    return folder / out


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


def evaluations(folder: Path, score: str = "eval_loss") -> dict[int, float]:
    return losses(folder, score)


def test_each_evaluation_leaves_its_files_and_its_scores_in_the_log(tmp_path: Path) -> None:
    out = train(tmp_path, "out", "--eval_strategy", "steps", "--eval_steps", "2")
    for step in (2, 4):
        results = json.loads((out / f"eval-{step}" / "eval_results.json").read_text())
        assert results["eval_count"] == 7
        assert len((out / f"eval-{step}" / "eval_extra_prediction.jsonl").read_text().splitlines()) == 7
        assert "<html" in (out / f"eval-{step}" / "eval_report.html").read_text()
        for score in ("eval_loss", "eval_acc@0.5"):
            assert evaluations(out, score)[step] == results[score]
    assert list(evaluations(out)) == [2, 4]
    assert sorted(path.name for path in out.glob("eval*")) == ["eval-2", "eval-4"]


@pytest.mark.slow
def test_do_eval_evaluates_the_saved_model_as_well(tmp_path: Path) -> None:
    out = train(tmp_path, "out", "--eval_strategy", "epoch", "--do_eval", "--max_steps", "10")
    assert json.loads((out / "eval_results.json").read_text())["eval_count"] == 7
    assert sorted(path.name for path in out.glob("eval-*")) == ["eval-10"]


@pytest.mark.parametrize("kind", slow_but(["llava"], ["llava", "qwen2_vl"]))
def test_training_goes_on_as_without_evaluation(tmp_path: Path, kind: str) -> None:
    """Dropout draws the same numbers after answers were sampled, in the second epoch as well."""
    (tmp_path / "texts.jsonl").write_text('{"instruction": "Count.", "output": "[1, 2]"}\n' * 3, encoding="utf-8")
    texts = dict(type="TextOnly", filename=str(tmp_path / "texts.jsonl"))
    train_set = dict(type="ConcatDataset", datasets=[dict(SCENES, count=5), texts])
    model_args: dict[str, Any] = dict(language_model=DROPOUT)
    if kind != "llava":
        folder = save_tiny(kind, tmp_path / "base", attention_dropout=0.3)
        none = dict.fromkeys(("vision_tower", "connector", "language_model", "feature_layer", "codec", "template"))
        model_args = {**none, "type": "hf", "model_name_or_path": str(folder)}
    sections = dict(
        model_args=model_args,
        data_args=dict(train=train_set, gen_kwargs=SAMPLED),
        training_args=dict(per_device_train_batch_size=2, max_steps=7),
    )
    plain = train(tmp_path, "plain", **sections)
    flags = ["--eval_strategy", "steps", "--eval_steps", "1", "--eval_on_start"]
    evaluated = train(tmp_path, "evaluated", *flags, **sections)
    assert len(list(evaluated.glob("eval-*"))) == 8
    assert losses(evaluated) == losses(plain)
    for name, tensor in weights(plain).items():
        assert torch.equal(weights(evaluated)[name], tensor), name


def test_random_state_kept() -> None:
    def seed() -> None:
        torch.manual_seed(0)
        random.seed(0)
        np.random.seed(0)

    def draw() -> list[float]:
        return [random.random(), float(np.random.rand()), float(torch.rand(()))]

    seed()
    first = draw()
    seed()
    with random_state_kept(torch.device("cpu")):
        draw()
    assert draw() == first


@pytest.mark.slow
def test_evaluation_may_begin_late(tmp_path: Path) -> None:
    out = train(tmp_path, "out", *["--eval_strategy", "steps", "--eval_steps", "1", "--eval_delay", "3"])
    assert list(evaluations(out)) == [3, 4]


@pytest.mark.parametrize("adapters", slow_but([None], [None, dict(type="lora", targets=["language_model"], r=2)]))
def test_the_best_model_is_the_one_saved(tmp_path: Path, adapters: Any) -> None:
    """By the score and the direction that are asked for: here the worst loss, which the first step has."""
    flags = "--eval_strategy steps --eval_steps 1 --save_strategy steps --save_steps 1 --load_best_model_at_end"
    flags += " --metric_for_best_model loss --greater_is_better True --learning_rate 0.02"
    out = train(tmp_path, "out", *flags.split(), model_args=dict(adapters=adapters) if adapters else {})
    found = evaluations(out)
    assert max(found, key=lambda step: found[step]) == 1
    name = "adapter_model.safetensors" if adapters else "model.safetensors"
    best, last, saved = (load_file(out / folder / name) for folder in ("checkpoint-1", "checkpoint-4", "."))
    assert all(torch.equal(saved[name], best[name]) for name in best)
    assert not all(torch.equal(last[name], best[name]) for name in best)


def test_only_the_best_is_kept(tmp_path: Path) -> None:
    flags = "--eval_strategy steps --eval_steps 1 --save_strategy best"  # by the loss, where nothing else is said
    out = train(tmp_path, "out", *flags.split(), "--learning_rate", "1e-30")
    assert [path.name for path in out.glob("checkpoint-*")] == ["checkpoint-1"]  # no later one is better


STOPPING = "--eval_strategy steps --eval_steps 1 --save_strategy steps --save_steps 1 --learning_rate 1e-30"


@pytest.mark.parametrize(("patience", "steps"), slow_but([(2, 3)], [(1, 2), (2, 3)]))
def test_early_stopping(tmp_path: Path, patience: int, steps: int) -> None:
    """Without a learning rate no evaluation is better than the first."""
    rule = f"early_stopping.patience={patience}"
    out = train(tmp_path, "out", *STOPPING.split(), "--cfg-options", rule)
    assert list(evaluations(out)) == list(range(1, steps + 1))


@pytest.mark.slow
def test_early_stopping_by_an_accuracy_and_a_threshold(tmp_path: Path) -> None:
    """Every loss is lower than the one before, but not by enough."""
    flags = "--eval_strategy steps --eval_steps 1 --learning_rate 0.001 --cfg-options early_stopping.patience=2"
    out = train(tmp_path, "out", *flags.split(), "early_stopping.threshold=100.0")
    assert list(evaluations(out)) == [1, 2, 3]
    assert sorted(evaluations(out).values(), reverse=True) == list(evaluations(out).values())


@pytest.mark.slow
def test_a_resumed_run_keeps_the_count_and_obeys_a_new_rule(tmp_path: Path) -> None:
    flags = [*STOPPING.split(), "--max_steps", "10", "--cfg-options"]
    out = train(tmp_path, "out", *flags, "early_stopping.patience=2")
    assert list(evaluations(out)) == [1, 2, 3]
    on = tmp_path / "on"
    assert main(["train", str(tmp_path / "tiny.py"), "--output_dir", str(on), "--resume_from_checkpoint",
                 str(out / "checkpoint-3"), *flags, "early_stopping.patience=5"]) == 0  # fmt: skip
    assert list(evaluations(on)) == [1, 2, 3, 4, 5, 6]  # 5 without improvement, 3 of them new


@pytest.mark.slow
def test_a_plateau_of_a_score_lowers_the_learning_rate(tmp_path: Path) -> None:
    flags = "--eval_strategy steps --eval_steps 1 --lr_scheduler_type reduce_lr_on_plateau"
    arguments = ["--lr_scheduler_kwargs", '{"patience": 0, "factor": 0.5}', "--metric_for_best_model", "count"]
    out = train(tmp_path, "out", *flags.split(), *arguments)
    history = json.loads((out / "trainer_state.json").read_text())["log_history"]
    rates = [entry["learning_rate"] for entry in history if "learning_rate" in entry]
    assert rates == pytest.approx([1e-3, 1e-3, 0.5e-3, 0.25e-3])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            "--eval_strategy steps --cfg-options data_args.validation=None",
            "data_args.validation: expected the dataset of evaluation during training (eval_strategy, eval_on_start)",
        ),
        (
            "--eval_on_start --cfg-options data_args.validation=None",
            "data_args.validation: expected the dataset of evaluation",
        ),
        (
            "--cfg-options early_stopping.patience=2",
            "early_stopping: expected training_args.eval_strategy 'steps' or 'epoch', found 'no'",
        ),
        (
            "--eval_strategy steps --metric_for_best_model acc@0.55",
            "training_args.metric_for_best_model: expected a score of data_args.compute_metric, or loss, "
            "found str 'acc@0.55'; did you mean 'acc@0.5'",
        ),
        (
            "--eval_strategy steps --metric_for_best_model acc@0.5 --predict_with_generate False",
            "found str 'acc@0.5'",
        ),
        ("--eval_strategy epoch --cfg-options early_stopping.patience=0", "early_stopping.patience: expected a whole"),
        ("--eval_strategy epoch --cfg-options early_stopping.patient=1", "early_stopping.patient: unknown name"),
        (
            "--load_best_model_at_end",
            "training_args.load_best_model_at_end: expected training_args.eval_strategy 'steps' or 'epoch', found 'no'",
        ),
        (
            "--save_strategy best --metric_for_best_model loss",
            "training_args.save_strategy='best': expected training_args.eval_strategy 'steps' or 'epoch', found 'no'",
        ),
        ("--load_best_model_at_end --eval_strategy epoch --save_strategy steps", "training_args: "),
        ("--eval_strategy steps --eval_delay 5", "training_args.eval_delay: expected at most 4, the steps of the run"),
    ],
)
def test_what_cannot_be_evaluated_is_refused_at_start(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: str, said: str
) -> None:
    out = tmp_path / "out"
    assert main(["train", str(write_config(tmp_path)), "--output_dir", str(out), *flags.split()]) == 1
    assert said in capsys.readouterr().err
    assert not list(out.glob("checkpoint-*"))


@pytest.mark.slow
def test_evaluation_alone_ignores_what_training_would_evaluate(trained: Path, tmp_path: Path) -> None:
    flags = ["--eval_strategy", "steps", "--cfg-options", f"model_args.model_name_or_path={trained}"]
    config = str(write_config(tmp_path))
    out = ["--output_dir", str(tmp_path / "out")]
    assert main(["predict", config, *out, *flags, "data_args.validation=None", "early_stopping.patience=3"]) == 0
    assert main(["eval", config, *out, *flags]) == 0


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(tmp_path_factory.mktemp("trained"), "out", "--max_steps", "1")


def test_an_evaluation_that_a_signal_cut_is_made_up_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the last step, which is the best: the run that goes on ends with its weights."""
    flags = "--eval_strategy steps --eval_steps 2 --save_strategy steps --save_steps 2 --load_best_model_at_end"
    whole = train(tmp_path, "whole", *flags.split())

    def cut(*given: Any) -> Any:
        if (tmp_path / "out" / "checkpoint-2").exists():
            signal.raise_signal(signal.SIGTERM)
        return mean_losses(*given)

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "mean_losses", cut)
        words = ["train", str(tmp_path / "tiny.py"), "--output_dir", str(tmp_path / "out"), *flags.split()]
        assert main(words) == 143
        state = (tmp_path / "out" / "checkpoint-4" / "rng_state.pth").read_bytes()
        assert main([*words, "--resume_from_checkpoint", "auto"]) == 143  # while it makes up for it
        assert (tmp_path / "out" / "checkpoint-4" / "rng_state.pth").read_bytes() == state
    on = train(tmp_path, "out", *flags.split(), "--resume_from_checkpoint", "auto")
    assert evaluations(on) == evaluations(whole)
    assert all(torch.equal(tensor, weights(on)[name]) for name, tensor in weights(whole).items())

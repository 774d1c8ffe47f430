"""Training by rewards: whole runs, and how they go on."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mllm.pipeline.finetune import main
from tests.pipeline.rewarded import LENGTH, history, with_a_broken_image, write_rewarded
from tests.pipeline.tiny import save_stand_in

REUSED = dict(num_iterations=2, steps_per_generation=2, beta=0.1)


def run(config: Path, out: Path, *flags: str) -> list[dict[str, float]]:
    assert main([str(config), "--do_train", "--output_dir", str(out), *flags]) == 0
    return history(out)


@pytest.mark.parametrize(
    ("reward_args", "accumulated"),
    [
        pytest.param({}, 1, id="plain", marks=pytest.mark.slow),
        pytest.param(dict(beta=0.1, loss_type="grpo"), 2, id="accumulated", marks=pytest.mark.slow),
        pytest.param(REUSED, 1, id="reused"),
    ],
)
def test_a_run_that_was_cut_goes_on_with_the_same_rewards_and_losses(
    reward_args: dict[str, Any], accumulated: int, tmp_path: Path
) -> None:
    """Also in the midst of answers that are used again, which only the checkpoint can know."""
    saved = dict(max_steps=5, save_strategy="steps", save_steps=3, gradient_accumulation_steps=accumulated)
    config = write_rewarded(tmp_path, reward_args, training_args=saved)
    whole = run(config, tmp_path / "whole")
    shutil.copytree(tmp_path / "whole" / "checkpoint-3", tmp_path / "cut" / "checkpoint-3")
    assert (tmp_path / "cut" / "checkpoint-3" / "rollouts-0.pt").exists() == (reward_args == REUSED)
    assert run(config, tmp_path / "cut", "--resume_from_checkpoint", "auto") == whole
    assert [entry["step"] for entry in whole] == [1, 2, 3, 4, 5]
    assert len({entry["grad_norm"] for entry in whole}) == 5


def test_each_page_of_answers_says_the_mean_reward_of_its_own(tmp_path: Path) -> None:
    config = write_rewarded(tmp_path, dict(log_completions_steps=1))
    log = run(config, tmp_path / "out", "--max_steps", "2")
    for entry in log:
        page = tmp_path / "out" / "rollouts" / f"step-{entry['step']:06}.html"
        assert f"mean reward of this sampling: {entry['reward']:.4g}" in page.read_text()
    assert log[0]["reward"] != log[1]["reward"]


def test_packing_and_sharing_change_no_reward_and_no_gradient(tmp_path: Path) -> None:
    found = []
    for packing, share in (("shared", True), ("none", False), ("rows", True)):
        data = dict(collator_kwargs=dict(packing=packing), train=dict(type="Scenes", size=32, count=24, objects=[2, 3]))
        config = write_rewarded(tmp_path / packing, dict(share_prefix=share), data_args=data)
        found.append(
            run(config, tmp_path / packing / "out", "--max_steps", "2", "--train_sampling_strategy", "sequential")
        )
    for name in ("reward", "rewards/length/std", "completions/mean_length", "entropy", "grad_norm", "loss"):
        values = torch.tensor([[entry[name] for entry in log] for log in found])
        torch.testing.assert_close(values, values[:1].expand_as(values), rtol=1e-4, atol=1e-5)
    assert found[0][0]["grad_norm"] > 0


def test_equal_answers_are_read_once_and_change_no_reward_and_no_gradient(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two tokens among the likeliest two there are at most four answers: many of eight are the same."""
    found = []
    for name in ("once", "each"):
        if name == "each":
            monkeypatch.setattr("mllm.pipeline.policy_trainer.firsts", lambda some: torch.arange(sum(map(len, some))))
        config = write_rewarded(tmp_path / name, dict(num_generations=8, max_completion_length=2, top_k=2, beta=0.1))
        found.append(run(config, tmp_path / name / "out", "--max_steps", "2", "--learning_rate", "0.01"))
    once, each = found
    for entry, other in zip(once, each, strict=True):
        assert entry["sharing"] > 1.1 * other["sharing"]
        assert entry["grad_norm"] > 0
        for name in ("reward", "entropy", "kl", "grad_norm", "loss", "completions/mean_length"):
            assert entry[name] == pytest.approx(other[name], rel=1e-4, abs=1e-6), name


def test_the_reference_of_fresh_adapters_is_the_model_without_them(tmp_path: Path) -> None:
    save_stand_in(tmp_path / "base")
    lora = dict(type="lora", targets=["language_model"], r=4)
    model = dict(model_name_or_path=str(tmp_path / "base"), adapters=lora)
    config = write_rewarded(tmp_path, dict(beta=0.5), model_args=model)
    log = run(config, tmp_path / "out", "--max_steps", "3", "--learning_rate", "0.01")
    assert log[0]["kl"] == 0
    assert log[2]["kl"] > 0


@pytest.mark.slow
def test_a_reward_is_learned(tmp_path: Path) -> None:
    """Short answers: within a few steps a model from random weights ends its answers early."""
    reward_args = dict(rewards=dict(length=dict(LENGTH, over=8)), num_generations=8, max_completion_length=12)
    training = dict(max_steps=25, learning_rate=2e-2, per_device_train_batch_size=4, lr_scheduler_type="constant")
    config = write_rewarded(tmp_path, reward_args, training_args=training)
    log = run(config, tmp_path / "out")
    first, last = (sum(entry["reward"] for entry in part) / 5 for part in (log[:5], log[-5:]))
    assert first < -0.05
    assert last > first / 4


def test_answers_that_were_cut_off_are_not_learned_from(tmp_path: Path) -> None:
    """With one token at most nearly all are cut off: the step has a reward and no gradient."""
    reward_args = dict(max_completion_length=1, mask_truncated_completions=True)
    log = run(write_rewarded(tmp_path, reward_args), tmp_path / "out", "--max_steps", "2")
    assert [entry["completions/clipped_ratio"] for entry in log] == [1.0, 1.0]
    assert [entry["grad_norm"] for entry in log] == [0.0, 0.0]


def test_an_answer_ends_where_the_table_of_positions_does(tmp_path: Path) -> None:
    """What is said at the last position could not be read again, nor learned."""
    language_model = dict(model_type="gpt2", n_embd=16, n_layer=2, n_head=4, n_positions=32)
    reward_args = dict(max_completion_length=64)
    config = write_rewarded(tmp_path, reward_args, model_args=dict(language_model=language_model))
    (entry,) = run(config, tmp_path / "out", "--max_steps", "1")
    assert entry["completions/max_length"] < 32
    assert entry["completions/clipped_ratio"] > 0
    assert entry["grad_norm"] > 0


def test_an_image_that_is_passed_over_is_counted(tmp_path: Path) -> None:
    """Another item is asked in its place, and answered with its own truth."""
    log = run(write_rewarded(tmp_path, data_args=with_a_broken_image(tmp_path)), tmp_path / "out", "--max_steps", "2")
    assert sum(entry.get("skipped_images", 0) for entry in log) >= 1
    assert "broken.png" in (tmp_path / "out" / "train.log").read_text()


def test_a_reward_that_raises_ends_the_run_and_names_the_item(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    reward_args = dict(rewards=dict(vqa=dict(type="MetricScore", metric="ChoiceAccuracy")))
    config = write_rewarded(tmp_path, reward_args)
    assert main([str(config), "--do_train", "--output_dir", str(tmp_path / "out")]) == 1
    assert "scenes seed 0:" in (said := capsys.readouterr().err)
    assert "reward 'vqa'" in said

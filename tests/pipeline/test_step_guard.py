"""A loss, gradient or weight that is not finite ends training before it does harm, and is named."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from mllm.cli import main
from mllm.errors import RunError
from mllm.models.checkpoints.finite import non_finite
from mllm.models.llava.model import Llava
from mllm.pipeline.guarded_trainer import GuardedTrainer
from mllm.pipeline.manifest import MANIFEST
from mllm.pipeline.step_guard import DEAD_STEPS, MAX_NAMED_ITEMS, StepGuard
from tests.marks import slow_but
from tests.pipeline.tiny import write_config

NAN, INF = float("nan"), float("inf")


def guard(allowed: int = 0) -> StepGuard:
    return StepGuard(allowed=allowed, keys=lambda indices: [f"a.jsonl:{index}" for index in indices])


def step(watch: StepGuard, loss: float = 1.0, norm: Any = 1.0, scale: float | None = None, number: int = 7) -> bool:
    watch.saw(torch.tensor(0.5), torch.tensor([1, 2]))
    watch.saw(torch.tensor(loss), torch.tensor([3]))
    return watch.check(number, norm, scale, kept=lambda: "KEPT")


def test_check_lets_finite_steps_pass() -> None:
    watch = guard()
    assert step(watch)
    assert step(watch, norm=None)
    assert step(watch, norm=torch.tensor(1e30))
    assert watch.logged(0.5) == {}


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_check_names_step_value_and_items(value: float) -> None:
    with pytest.raises(RunError) as caught:
        step(guard(), loss=value)
    items = "items of the step, those with that loss first: a.jsonl:3, a.jsonl:1, a.jsonl:2"
    assert str(caught.value) == f"training diverged at step 7: loss {value}; {items}; KEPT"
    assert caught.value.kind == "diverged"
    with pytest.raises(RunError) as caught:
        step(guard(), norm=torch.tensor(value))
    items = "items of the step: a.jsonl:1, a.jsonl:2, a.jsonl:3"
    assert str(caught.value) == f"training diverged at step 7: gradient norm {value}; {items}; KEPT"


def test_check_bounds_the_message_and_logs_every_item(caplog: pytest.LogCaptureFixture) -> None:
    watch = guard()
    watch.saw(torch.tensor(NAN), torch.arange(MAX_NAMED_ITEMS + 5))
    with pytest.raises(RunError, match=f"a.jsonl:{MAX_NAMED_ITEMS - 1} and 5 more, all of them in train.log; $"):
        watch.check(1, 1.0, None, kept=lambda: "")
    assert f"a.jsonl:{MAX_NAMED_ITEMS + 4}" in caplog.text


def test_check_leaves_out_as_many_steps_in_a_row_as_are_allowed() -> None:
    watch = guard(allowed=2)
    assert [step(watch, norm=norm) for norm in (1, NAN, INF, 1, NAN)] == [True, False, False, True, False]
    assert not step(watch, loss=NAN)
    with pytest.raises(RunError, match="diverged at step 7"):
        step(watch, loss=NAN)


@pytest.mark.parametrize(("scale", "passes"), [(65536.0, True), (2.0, True), (1.0, False), (0.5, False)])
def test_check_leaves_overflow_to_the_scaler_of_float16_while_it_has_room(scale: float, passes: bool) -> None:
    if passes:
        assert step(guard(), norm=INF, scale=scale)
    else:
        with pytest.raises(RunError):
            step(guard(), norm=INF, scale=scale)
    with pytest.raises(RunError):
        step(guard(), loss=NAN, norm=INF, scale=scale)


def test_check_stops_a_training_without_gradients() -> None:
    watch = guard()
    for _ in range(DEAD_STEPS - 1):
        assert step(watch, loss=3.0, norm=0.0)
    with pytest.raises(RunError) as caught:
        step(watch, loss=3.0, norm=torch.tensor(0.0), number=9)
    said = str(caught.value)
    assert said.startswith(
        f"training is dead at step 9: the last {DEAD_STEPS} steps had a loss (now 3.5) and gradients"
    )
    assert said.endswith("; KEPT")
    assert caught.value.kind == "diverged"


def test_check_takes_no_harmless_step_for_a_dead_one() -> None:
    def unlabelled(watch: StepGuard) -> None:
        watch.saw(torch.tensor(0.0), torch.tensor([1]))
        assert watch.check(7, 0.0, None, kept=lambda: "")

    watch = guard()
    for _ in range(3 * DEAD_STEPS):
        unlabelled(watch)  # nothing to learn in these
        assert step(watch, norm=None)  # not known
        assert step(watch, norm=1e-30)
    for _ in range(2 * DEAD_STEPS):
        for _ in range(DEAD_STEPS - 1):
            assert step(watch, norm=0.0)
        assert step(watch, norm=1e-6)
    watch.begin()
    assert step(watch, norm=0.0)
    unlabelled(watch)
    assert step(watch, norm=0.0)
    with pytest.raises(RunError, match="training is dead"):
        step(watch, norm=0.0)


def test_training_whose_rate_kills_every_gradient_is_no_success(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write_config(tmp_path, training_args={"max_steps": 12, "learning_rate": 1e6, "max_grad_norm": 1.0})
    assert main(["train", str(config), "--output_dir", str(tmp_path / "out")]) == 1
    last = capsys.readouterr().err.splitlines()[-1]
    assert re.match(r"RunError: training (is dead|diverged) at step \d+: ", last)
    assert not list((tmp_path / "out").glob("*.safetensors"))


def test_logged_means_the_steps_that_were_finite() -> None:
    watch = guard(allowed=9)
    losses = [2.0, NAN, 4.0, INF]
    logged = 0.0
    for loss in losses:
        logged += float(watch.saw(torch.tensor(loss), torch.tensor([0])))
        watch.check(1, 1.0, None, kept=lambda: "")
    assert watch.logged(logged / len(losses)) == {"loss": 3.0, "left_out_steps": 2.0}
    watch.saw(torch.tensor(NAN), torch.tensor([0]))
    watch.check(1, 1.0, None, kept=lambda: "")
    assert math.isnan(watch.logged(0.0)["loss"])


def spoil(monkeypatch: pytest.MonkeyPatch, at: Callable[[int], bool], how: Callable[[Any], Any]) -> None:
    """Change the loss of the forward passes in training that `at` chooses, counted from 1."""
    forward = Llava.forward
    count = 0

    def spoilt(self: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal count
        output = forward(self, *args, **kwargs)
        if self.training:
            count += 1
            if at(count):
                output.loss = how(output.loss)
        return output

    monkeypatch.setattr(Llava, "forward", spoilt)


class Overflow(torch.autograd.Function):
    """A finite loss whose gradient is infinite."""

    @staticmethod
    def forward(ctx: Any, loss: Any) -> Any:
        return loss.clone()

    @staticmethod
    def backward(ctx: Any, gradient: Any) -> Any:
        return gradient * INF


WAYS: dict[str, Callable[[Any], Any]] = {
    "loss nan": lambda loss: loss * NAN,
    "loss inf": lambda loss: loss + INF,
    "gradient": Overflow.apply,
}


def train(folder: Path, *words: str, **training: Any) -> int:
    settings = {"max_steps": 4, "save_strategy": "steps", "save_steps": 1, "per_device_train_batch_size": 2, **training}
    config = write_config(folder, training_args=settings)
    return main(["train", str(config), "--output_dir", str(folder / "out"), *words])


@pytest.mark.parametrize(
    ("way", "clip"), slow_but([("loss nan", "0"), ("gradient", "1")], [*product(WAYS, ("0", "1"))])
)
def test_a_diverging_run_stops_with_its_last_good_checkpoint(
    way: str, clip: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch, lambda count: count == 6, WAYS[way])  # the second half of step 3
    assert train(tmp_path, "--gradient_accumulation_steps", "2", "--max_grad_norm", clip) == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "RunError" in line]
    value = {"loss nan": "loss nan", "loss inf": "loss inf"}.get(way, "gradient norm (inf|nan)")
    kept = f"{tmp_path / 'out' / 'checkpoint-2'} is kept: resume"
    assert re.match(rf"RunError: training diverged at step 3: {value}; items of the step(.*); {kept}", line)
    assert len(set(re.findall(r"scenes seed 0:\d+", line))) == 4
    assert line.endswith("--resume_from_checkpoint auto")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names.isdisjoint({"model.safetensors", "checkpoint-3", MANIFEST})
    assert not non_finite(load_file(tmp_path / "out" / "checkpoint-2" / "model.safetensors").items())


def test_a_run_that_diverges_at_once_has_nothing_to_keep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch, lambda count: True, WAYS["loss nan"])
    assert train(tmp_path) == 1
    error = capsys.readouterr().err
    assert "diverged at step 1: loss nan; items of the step: " in error
    assert "; no checkpoint was written before\n" in error
    assert "RunError: training diverged at step 1: loss nan" in (tmp_path / "out" / "train.log").read_text()


def test_steps_that_are_left_out_change_nothing_and_are_logged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoil(monkeypatch, lambda count: count in (2, 3), WAYS["loss nan"])
    assert train(tmp_path, "--max_nonfinite_steps", "2", "--weight_decay", "0.1") == 0
    first, third = (load_file(tmp_path / "out" / f"checkpoint-{step}" / "model.safetensors") for step in (1, 3))
    assert all(first[name].equal(tensor) for name, tensor in third.items())
    last = load_file(tmp_path / "out" / "model.safetensors")
    assert not all(last[name].equal(tensor) for name, tensor in third.items())
    log = json.loads((tmp_path / "out" / "trainer_state.json").read_text())["log_history"]
    losses = {entry["step"]: entry["loss"] for entry in log if "loss" in entry}
    assert [math.isnan(losses[step]) for step in (1, 2, 3, 4)] == [False, True, True, False]
    assert [entry.get("left_out_steps") for entry in log if "loss" in entry] == [None, 1, 1, None]


def test_one_step_more_than_allowed_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(monkeypatch, lambda count: count >= 2, WAYS["gradient"])
    assert train(tmp_path, "--max_nonfinite_steps", "1") == 1
    assert "diverged at step 3" in capsys.readouterr().err


@pytest.mark.parametrize("saving", ["steps", "no"])
def test_weights_that_overflow_in_the_last_step_are_not_saved(
    saving: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Loss and gradient are finite, the update is not."""
    words = ["--learning_rate", "1e38", "--optim", "sgd", "--lr_scheduler_type", "constant", "--max_grad_norm", "0"]
    assert train(tmp_path, *words, "--max_steps", "1", "--save_strategy", saving, "--weight_decay", "1e3") == 1
    error = capsys.readouterr().err
    assert "training diverged: at step 1 these weights are nan or infinite: " in error
    assert not list((tmp_path / "out").rglob("*.safetensors"))


def test_training_does_not_begin_from_weights_that_are_not_finite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(tmp_path, max_steps=2, save_steps=2) == 0
    wanted = tmp_path / "out" / "checkpoint-2"
    (wanted / MANIFEST).unlink()  # as of an earlier version, which saved such weights
    poison(wanted / "model.safetensors")
    words = ["--resume_from_checkpoint", str(wanted), "--output_dir", str(tmp_path / "new"), "--max_steps", "4"]
    assert main(["train", str(tmp_path / "tiny.py"), *words]) == 1
    assert "these weights are nan or infinite: connector" in capsys.readouterr().err
    assert not list((tmp_path / "new").rglob("*.safetensors"))


def poison(path: Path) -> None:
    state = {name: tensor.clone() for name, tensor in load_file(path).items()}
    next(tensor for name, tensor in state.items() if name.startswith("connector")).view(-1)[0] = NAN
    path.unlink()
    save_file(state, path, {"format": "pt"})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a config and of the model of a step, in `out`."""
    folder = tmp_path_factory.mktemp("trained")
    assert train(folder, max_steps=1, save_strategy="no") == 0
    return folder


@pytest.mark.parametrize("command", ["train", "eval", "predict"])
def test_a_model_that_is_not_finite_is_refused_by_every_command(
    command: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(trained, tmp_path, dirs_exist_ok=True)
    poison(tmp_path / "out" / "model.safetensors")
    words = ["--output_dir", str(tmp_path / "x"), "--cfg-options", f"model_args.model_name_or_path={tmp_path / 'out'}"]
    assert main([command, str(tmp_path / "tiny.py"), *words]) == 1
    assert "expected finite weights, found nan or infinity in connector" in capsys.readouterr().err
    asked = ["predict", "--model", str(tmp_path / "out"), "--prompt", "Where?"]
    assert main(asked) == 1


def test_an_evaluation_whose_loss_is_not_finite_is_an_error(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    forward = Llava.forward

    def overflowing(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = forward(self, *args, **kwargs)
        if output.loss is not None:
            output.loss = output.loss * NAN
        return output

    monkeypatch.setattr(Llava, "forward", overflowing)
    words = ["--output_dir", str(tmp_path / "x"), "--cfg-options", f"model_args.model_name_or_path={trained / 'out'}"]
    assert main(["eval", str(trained / "tiny.py"), *words]) == 1
    assert "RunError: eval: the loss is nan" in capsys.readouterr().err
    assert not (tmp_path / "x" / "eval_results.json").exists()


def test_a_loss_scale_survives_overflow_in_float16() -> None:
    """What the guard lets pass is left out by torch's scaler, and the scale recovers."""
    model, scaler = nn.Linear(2, 1), torch.amp.GradScaler("cpu", init_scale=4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    before = model.weight.detach().clone()
    scaler.scale(model(torch.ones(1, 2)).sum() * INF).backward()
    scaler.unscale_(optimizer)
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    assert step(guard(), norm=norm, scale=scaler.get_scale())
    scaler.step(optimizer)
    scaler.update()
    assert model.weight.equal(before)
    assert scaler.get_scale() == 2.0


@pytest.mark.parametrize(("float16", "dynamic", "scale"), [(True, True, 4.0), (True, False, None), (False, True, None)])
def test_deepspeeds_loss_scale_counts_where_an_overflow_lowers_it(
    float16: bool, dynamic: bool, scale: float | None
) -> None:
    engine = SimpleNamespace(
        fp16_enabled=lambda: float16, dynamic_loss_scale=lambda: dynamic, optimizer=SimpleNamespace(cur_scale=4.0)
    )
    trainer: Any = SimpleNamespace(is_deepspeed_enabled=True, deepspeed=engine)
    assert GuardedTrainer._loss_scale(trainer) == scale


def test_an_evaluation_during_training_that_is_not_finite_names_step_and_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--optim", "sgd", "--max_grad_norm", "0", "--lr_scheduler_type", "constant_with_warmup"]
    words += ["--warmup_steps", "1", "--learning_rate", "1e30"]  # none at the first step
    words += ["--eval_strategy", "steps", "--eval_steps", "1", "--prediction_loss_only"]
    assert train(tmp_path, *words, "--max_steps", "8") == 1
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "RunError" in line]
    match = re.search(r"eval: the loss is (?:nan|inf): .*, after step 2 of training; (\S+) is kept", line)
    assert match, line
    assert match[1] == str(tmp_path / "out" / "checkpoint-1")

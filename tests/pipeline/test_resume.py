"""Where a run begins: afresh, from the newest whole checkpoint, or not at all."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from mllm.cli import main
from mllm.config.command_line import parse
from mllm.config.config import load
from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError
from mllm.pipeline import resume
from mllm.pipeline.manifest import MANIFEST, faults, read_manifest, write_manifest
from mllm.pipeline.resume import Start, checkpoints, describe_changes, describe_run, find_start
from tests.pipeline.checkpoints import make
from tests.pipeline.tiny import losses, write_config

STEPS: dict[str, Any] = {"max_steps": 4, "save_strategy": "steps", "save_steps": 2}


def arguments(folder: Path, **given: Any) -> RunArguments:
    return RunArguments(output_dir=str(folder), use_cpu=True, report_to="none", **{"max_steps": 8, **given})


def start(folder: Path, **given: Any) -> Start:
    return find_start(arguments(folder, **given))


def test_find_start_is_afresh_in_a_new_folder(tmp_path: Path) -> None:
    assert start(tmp_path / "new") == Start()
    found = start(tmp_path / "new", resume_from_checkpoint="auto")
    assert found == Start(notes=(f"{tmp_path / 'new'} holds no checkpoint: training starts afresh",))


def test_find_start_refuses_an_empty_checkpoint_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="resume_from_checkpoint: expected 'auto' or a folder, found ''"):
        start(tmp_path, resume_from_checkpoint="")


def test_find_start_auto_takes_the_newest_whole_checkpoint_and_says_what_it_passes_over(tmp_path: Path) -> None:
    for step in (2, 10, 12):
        make(tmp_path / f"checkpoint-{step}")
    (tmp_path / "checkpoint-12" / "optimizer.pt").write_bytes(b"")
    (tmp_path / "checkpoint-x").mkdir()
    (tmp_path / "checkpoint-14").symlink_to(tmp_path / "gone")
    (tmp_path / "checkpoint-16").write_text("")
    found = start(tmp_path, resume_from_checkpoint="auto")
    assert found.checkpoint == tmp_path / "checkpoint-10"
    assert found.notes[0] == f"{tmp_path / 'checkpoint-16'} is passed over: no trainer_state.json"
    assert found.notes[1].startswith(f"{tmp_path / 'checkpoint-12'} is passed over: optimizer.pt has 0 bytes instead")
    assert found.notes[2] == f"going on from {tmp_path / 'checkpoint-10'}"


def test_find_start_goes_by_time_where_a_run_went_back(tmp_path: Path) -> None:
    """checkpoint-6 is of what was abandoned when the run went back to checkpoint-2."""
    for step in (2, 6, 4):
        make(tmp_path / f"checkpoint-{step}")
    assert [path.name for path in checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-6", "checkpoint-4"]
    assert start(tmp_path, resume_from_checkpoint="auto").checkpoint == tmp_path / "checkpoint-4"


def test_find_start_takes_checkpoints_of_earlier_versions_and_says_so(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint-2", whole=False)
    found = start(tmp_path, resume_from_checkpoint="auto")
    assert found.checkpoint == tmp_path / "checkpoint-2"
    assert "has no manifest, since an earlier version wrote it" in found.notes[0]


@pytest.mark.parametrize("wanted", ["checkpoint-2", "gone", "auto"])
def test_find_start_refuses_a_checkpoint_that_is_not_whole(wanted: str, tmp_path: Path) -> None:
    make(tmp_path / "checkpoint-2")
    (tmp_path / "checkpoint-2" / "scheduler.pt").unlink()
    if wanted == "auto":  # nothing could be gone on from, and something is there
        with pytest.raises(
            ConfigError, match=r"checkpoint-2 is passed over: scheduler\.pt is missing; .*choose another"
        ):
            start(tmp_path, resume_from_checkpoint="auto")
    else:
        with pytest.raises(
            ConfigError, match=r"expected a whole checkpoint, found (scheduler.pt is missing|no such folder)"
        ):
            start(tmp_path, resume_from_checkpoint=str(tmp_path / wanted))


def test_find_start_begins_afresh_where_a_run_died_in_its_first_checkpoint(tmp_path: Path) -> None:
    make(tmp_path / "checkpoint-2", whole=False)
    (tmp_path / "checkpoint-2" / "trainer_state.json").unlink()
    found = start(tmp_path, resume_from_checkpoint="auto")
    assert found.checkpoint is None
    assert "passed over: no trainer_state.json" in found.notes[0]
    assert start(tmp_path) == Start()


@pytest.mark.parametrize("file", ["checkpoint-2", "model.safetensors", "pytorch_model.bin", MANIFEST])
def test_find_start_does_not_overwrite_unasked(file: str, tmp_path: Path) -> None:
    if file == "checkpoint-2":
        make(tmp_path / file)
    else:
        (tmp_path / file).write_text("{}")
    with pytest.raises(ConfigError, match=r"expected a new output_dir, found .*--overwrite_output_dir"):
        start(tmp_path)
    assert start(tmp_path, overwrite_output_dir=True) == Start()
    with pytest.raises(ConfigError, match="set only one of them"):
        start(tmp_path, overwrite_output_dir=True, resume_from_checkpoint="auto")


def test_find_start_from_elsewhere_wants_a_new_output_dir(tmp_path: Path) -> None:
    wanted = make(tmp_path / "checkpoint-2")
    assert start(tmp_path / "new", resume_from_checkpoint=str(wanted)).checkpoint == wanted
    (tmp_path / "other").mkdir()
    make(tmp_path / "other" / "checkpoint-9")
    with pytest.raises(ConfigError, match="found checkpoint-9"):
        start(tmp_path / "other", resume_from_checkpoint=str(wanted))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a config, and of the outputs of its run."""
    folder = tmp_path_factory.mktemp("finished")
    config = write_config(folder, training_args=STEPS)
    assert main(["train", str(config), "--output_dir", str(folder / "out")]) == 0
    return folder


@pytest.fixture
def copy(finished: Path, tmp_path: Path) -> Path:
    shutil.copytree(finished / "out", tmp_path / "out")
    return tmp_path / "out"


def train(folder: Path, out: Path, *words: str) -> int:
    return main(["train", str(folder / "tiny.py"), "--output_dir", str(out), *words])


AUTO = ["--resume_from_checkpoint", "auto"]


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_finished_run_says_so_and_does_nothing(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(copy)
    assert train(finished, copy, *AUTO) == 0
    assert f"{copy}: the run has already finished at step 4; there is nothing left to do" in capsys.readouterr().err
    after = everything(copy)
    del before[str(copy / "train.log")], after[str(copy / "train.log")]
    assert after == before
    assert train(finished, copy) == 1
    assert "expected a new output_dir" in capsys.readouterr().err
    assert train(finished, copy, "--resume_from_checkpoint", str(copy / "checkpoint-4")) == 0
    assert f"{copy}: the run has already finished at step 4; there is nothing left to do" in capsys.readouterr().err
    assert train(finished, copy, "--resume_from_checkpoint", str(copy / "checkpoint-2")) == 1
    assert (
        "checkpoint-2: expected a checkpoint of step 4, at which its run has finished, found step 2"
        in capsys.readouterr().err
    )


def test_a_finished_run_evaluates_what_it_has_not(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(finished, copy, *AUTO, "--do_eval") == 0
    assert "only evaluation is left" in capsys.readouterr().err
    trained = json.loads((copy / "eval_results.json").read_text())
    loaded = ["--cfg-options", f"model_args.model_name_or_path={copy}"]
    assert main(["eval", str(finished / "tiny.py"), "--output_dir", str(copy / "again"), *loaded]) == 0
    assert json.loads((copy / "again" / "eval_results.json").read_text()) == trained
    capsys.readouterr()
    assert train(finished, copy, *AUTO, "--do_eval") == 0
    assert "there is nothing left to do" in capsys.readouterr().err
    assert train(finished, copy, *AUTO, "--do_eval", "--do_predict") == 0  # of which the first is done
    assert (copy / "test_results.json").is_file()
    assert json.loads((copy / "eval_results.json").read_text()) == trained


def test_a_finished_run_made_longer_is_the_longer_run(finished: Path, copy: Path, tmp_path: Path) -> None:
    """As one that was interrupted: the learning rate follows the longer schedule from there on."""
    assert train(finished, copy, *AUTO, "--max_steps", "6") == 0
    state = json.loads((copy / "trainer_state.json").read_text())
    rates = {entry["step"]: entry["learning_rate"] for entry in state["log_history"] if "loss" in entry}
    assert rates == pytest.approx({1: 1e-3, 2: 7.5e-4, 3: 5e-4, 4: 2.5e-4, 5: 1e-3 / 3, 6: 1e-3 / 6})
    assert faults(copy / "checkpoint-6") == []
    assert train(finished, copy, *AUTO, "--max_steps", "6") == 0
    assert json.loads((copy / "trainer_state.json").read_text()) == state


def test_a_finished_run_without_checkpoints_cannot_be_made_longer(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in copy.glob("checkpoint-*"):
        shutil.rmtree(path)
    assert train(finished, copy, *AUTO) == 0
    assert train(finished, copy, *AUTO, "--max_steps", "6") == 1
    assert "found a model; choose another --output_dir" in capsys.readouterr().err


def test_a_run_of_an_earlier_version_is_finished_too(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in copy.rglob(MANIFEST):
        path.unlink()
    assert train(finished, copy, *AUTO) == 0
    assert "has already finished at step 4" in capsys.readouterr().err


def test_a_run_that_died_before_its_model_was_whole_writes_it_without_a_step_more(finished: Path, copy: Path) -> None:
    model = load_file(finished / "out" / "model.safetensors")
    (copy / MANIFEST).unlink()
    (copy / "trainer_state.json").unlink()
    (copy / "model.safetensors").write_bytes(b"half")
    assert train(finished, copy, *AUTO) == 0
    again = load_file(copy / "model.safetensors")
    assert all(again[name].equal(tensor) for name, tensor in model.items())
    assert json.loads((copy / "trainer_state.json").read_text())["global_step"] == 4


def test_overwrite_output_dir_trains_anew_and_leaves_nothing_of_the_earlier_run(finished: Path, copy: Path) -> None:
    left = {"eval_results.json", "report.html", "test_about.json.partial", "test_extra_prediction.jsonl.partial.old"}
    left |= {"test_results.json.partial", "test_report.html.partial"}
    for name in left:
        (copy / name).write_text("{}")
    folders = {"eval_report_files", "test_report_files.partial"}
    for name in folders:
        (copy / name).mkdir()
        (copy / name / "000.js").write_text("")
    (copy / "model-00001-of-00002.safetensors").write_bytes(b"")
    (copy / "model.safetensors.index.json").write_text("{}")
    (copy / "mine.txt").write_text("kept")
    assert train(finished, copy, "--overwrite_output_dir", "--max_steps", "1", "--save_steps", "1") == 0
    names = {path.name for path in copy.iterdir()}
    assert {"checkpoint-1", "model.safetensors", MANIFEST, "mine.txt"} <= names
    assert not names & {"checkpoint-2", "checkpoint-4", "model.safetensors.index.json", *left, *folders}
    assert not any(name.startswith("model-0000") for name in names)


def test_overwrite_output_dir_keeps_what_the_run_begins_from(
    finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = everything(copy)
    for source in (copy, copy / "checkpoint-2"):
        words = ["--overwrite_output_dir", "--cfg-options", f"model_args.model_name_or_path={source}"]
        assert train(finished, copy, *words) == 1
        assert (
            f"expected an output folder without {source}, which this run starts from, found" in capsys.readouterr().err
        )
    after = everything(copy)
    for name in ("train.log", "config.py"):
        before.pop(str(copy / name))
        after.pop(str(copy / name))
    assert after == before


KILLED = """
import os, signal, sys
from mllm.pipeline import guarded_trainer
from mllm.cli import main
whole = guarded_trainer.GuardedTrainer._save_rng_state
def save(self, folder):
    if self.state.global_step == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(self, folder)
guarded_trainer.GuardedTrainer._save_rng_state = save
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_a_killed_run_continues_with_the_losses_of_an_uninterrupted_one(tmp_path: Path) -> None:
    """Killed while it writes checkpoint-4, which is then incomplete: it goes on from checkpoint-2, in mid-epoch."""
    settings = {**STEPS, "max_steps": 6, "per_device_train_batch_size": 16, "dataloader_num_workers": 1}
    write_config(tmp_path, training_args=settings)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert train(tmp_path, whole) == 0
    command = [sys.executable, "-c", KILLED, "train", str(tmp_path / "tiny.py"), "--output_dir", str(killed)]
    result = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False, capture_output=True)
    assert result.returncode == -signal.SIGKILL, result.stderr.decode()
    assert (killed / "checkpoint-4").is_dir()
    assert start(killed, resume_from_checkpoint="auto").checkpoint == killed / "checkpoint-2"
    assert train(tmp_path, killed, *AUTO) == 0
    assert losses(killed) == losses(whole)
    assert faults(killed / "checkpoint-4") == []


@pytest.mark.parametrize("file", ["optimizer.pt", "model.safetensors"])
def test_a_run_falls_back_from_a_truncated_checkpoint(
    file: str, finished: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (copy / MANIFEST).unlink()
    (copy / "trainer_state.json").unlink()
    (copy / "model.safetensors").unlink()
    with (copy / "checkpoint-4" / file).open("r+b") as opened:
        opened.truncate(5000)
    assert train(finished, copy, *AUTO) == 0
    assert f"checkpoint-4 is passed over: {file} has 5000 bytes instead of" in capsys.readouterr().err
    assert losses(copy) == losses(finished / "out")


def test_a_checkpoint_of_the_model_alone_is_not_gone_on_from(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_config(tmp_path, training_args={**STEPS, "save_only_model": True})
    assert train(tmp_path, tmp_path / "out") == 0
    wanted = str(tmp_path / "out" / "checkpoint-2")
    assert train(tmp_path, tmp_path / "new", "--resume_from_checkpoint", wanted) == 1
    assert "expected a whole checkpoint, found no optimizer; no scheduler; no rng_state.pth" in capsys.readouterr().err


def described(config: Path, *words: str, items: int = 40) -> dict[str, Any]:
    cfg, args = load(parse([str(config), *words]))
    return describe_run(cfg.to_dict(), args, items)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--per_device_train_batch_size", "2"], "samples of a step: expected 4, found int '2'"),
        (["--gradient_accumulation_steps", "2"], "samples of a step: expected 4, found int '8'"),
        (["--seed", "1"], "seed: expected 0, found int '1'"),
        (["--data_seed", "1"], "seed: expected 0, found int '1'"),
        (["--train_sampling_strategy", "sequential"], "train_sampling_strategy: expected random"),
        (["--cfg-options", "data_args.collator_kwargs.packing=rows"], "data_args.collator_kwargs: expected {'packing'"),
    ],
)
def test_compare_refuses_another_order_of_the_data(words: list[str], message: str, finished: Path) -> None:
    now = described(finished / "tiny.py", *words)
    with pytest.raises(ConfigError) as caught:
        describe_changes(finished / "out" / "checkpoint-2", now, skips_data=True)
    assert message in str(caught.value)
    assert describe_changes(finished / "out" / "checkpoint-2", now, skips_data=False)


def test_compare_refuses_another_number_of_items(finished: Path) -> None:
    with pytest.raises(ConfigError, match=r"items of data_args.train: expected 40, found int '39'"):
        describe_changes(finished / "out" / "checkpoint-2", described(finished / "tiny.py", items=39), skips_data=True)


def test_compare_names_what_else_has_changed(finished: Path) -> None:
    same = described(finished / "tiny.py", "--output_dir", "x", "--max_steps", "9", "--resume_from_checkpoint", "auto")
    assert describe_changes(finished / "out" / "checkpoint-2", same, skips_data=True) == []
    words = ["--learning_rate", "0.5", "--gradient_accumulation_steps", "2", "--per_device_train_batch_size", "2"]
    words += ["--cfg-options", "model_args.codec.bins=33", "data_args.train.objects=[1,2]"]
    assert describe_changes(
        finished / "out" / "checkpoint-2", described(finished / "tiny.py", *words), skips_data=True
    ) == [
        "data_args.train.objects: list '[1, 2]' instead of list '[2, 3]'",
        "model_args.codec.bins: int '33' instead of int '17'",
        "training_args.gradient_accumulation_steps: int '2' instead of nothing",
        "training_args.learning_rate: float '0.5' instead of float '0.001'",
        "training_args.per_device_train_batch_size: int '2' instead of int '4'",
    ]


def test_an_edited_training_file_is_named(finished: Path, tmp_path: Path) -> None:
    """describe() and compare(): as many lines as before, one of which was mended."""
    file = tmp_path / "train.jsonl"
    cfg, args = load(parse([str(finished / "tiny.py"), "--do_train", *AUTO]))
    sections = {**cfg.to_dict(), "data_args": {"train": {"filename": str(file), "answer": "x" * 400}}}
    said: list[list[str]] = []
    for text in ("a\nb\n", "a\nc\n"):
        file.write_text(text)
        described = describe_run(sections, args, 2)
        if text == "a\nb\n":
            write_manifest(make(tmp_path / "checkpoint-2", whole=False), **described)
        said.append(describe_changes(tmp_path / "checkpoint-2", described, skips_data=True))
    assert said == [[], [f"{file} has another content: lines are taken by their number, as if it had not"]]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_an_optimizer_that_is_not_finite_is_refused(
    value: float, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An infinite second moment would keep its weight as it is for ever, and nothing would say so."""
    broken = tmp_path / "checkpoint-2"
    shutil.copytree(finished / "out" / "checkpoint-2", broken)
    state = torch.load(broken / "optimizer.pt", weights_only=True)
    state["state"][0]["exp_avg_sq"].view(-1)[0] = value
    torch.save(state, broken / "optimizer.pt")
    (broken / MANIFEST).unlink()
    assert train(finished, tmp_path / "out", "--resume_from_checkpoint", str(broken)) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.endswith("its optimizer: expected finite numbers, found nan or infinity in exp_avg_sq")


def test_a_lower_learning_rate_counts_when_going_on(finished: Path, tmp_path: Path) -> None:
    wanted = str(finished / "out" / "checkpoint-2")
    out = tmp_path / "out"
    assert train(finished, out, "--resume_from_checkpoint", wanted, "--learning_rate", "1e-4") == 0
    state = json.loads((out / "trainer_state.json").read_text())
    assert [entry["learning_rate"] for entry in state["log_history"] if "loss" in entry] == pytest.approx(
        [1e-3, 7.5e-4, 5e-5, 2.5e-5]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["model_args.codec.bins=33"], "expected the vocabulary of the checkpoint, found another"),
        (["model_args.language_model.hidden_size=32"], "does not fit this run: Error(s) in loading state_dict"),
        (["training_args.optim=sgd"], "its optimizer is of another kind, without dampening"),
        (["model_args.connector=mlp2x_gelu"], "expected a checkpoint of this model, found"),
        (["model_args.freeze=['vision_tower']"], "does not fit this run: loaded state dict"),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    options: list[str], message: str, finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = str(finished / "out" / "checkpoint-2")
    words = ["--resume_from_checkpoint", wanted, "--cfg-options", *options]
    assert train(finished, tmp_path / "out", *words) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith(f"ModelError: resume_from_checkpoint {wanted}: ")
    assert message in error


def test_rotation_deletes_the_oldest_only_when_a_new_one_is_whole(tmp_path: Path) -> None:
    write_config(tmp_path, training_args={**STEPS, "save_steps": 1, "save_total_limit": 2})
    assert train(tmp_path, tmp_path / "out") == 0
    assert [path.name for path in checkpoints(tmp_path / "out")] == ["checkpoint-3", "checkpoint-4"]
    for path in checkpoints(tmp_path / "out"):
        assert faults(path) == []
        manifest = read_manifest(path)
        assert manifest is not None
        assert manifest["ranks"] == 1


def test_losses_are_those_of_an_uninterrupted_run_bit_by_bit(finished: Path, tmp_path: Path) -> None:
    wanted = str(finished / "out" / "checkpoint-2")
    assert train(finished, tmp_path / "out", "--resume_from_checkpoint", wanted) == 0
    assert losses(tmp_path / "out") == losses(finished / "out")
    ours, theirs = (load_file(folder / "out" / "model.safetensors") for folder in (tmp_path, finished))
    assert all(torch.equal(ours[name], tensor) for name, tensor in theirs.items())


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["/usr/bin/python3", "/venv/bin/mllm", "train", "a b.py"],
            "mllm train 'a b.py' --resume_from_checkpoint auto",
        ),
        (
            ["python", "-m", "mllm.cli", "train", "a.py", "--overwrite_output_dir", "--seed", "1"],
            "python -m mllm.cli train a.py --seed 1 --resume_from_checkpoint auto",
        ),
        (
            ["/x/python", "/x/accelerate", "launch", "f.py", "a.py", "--resume_from_checkpoint=c-2", "--fp16"],
            "accelerate launch f.py a.py --fp16 --resume_from_checkpoint auto",
        ),
        (
            ["mllm", "train", "a.py", "--resume-from-checkpoint", "c-2", "--overwrite_output_dir", "True", "--fp16"],
            "mllm train a.py --fp16 --resume_from_checkpoint auto",
        ),
    ],
)
def test_resume_command(words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resume, "started_with", lambda: words)
    assert resume.resume_command() == expected


def test_started_with_is_the_command_of_this_process_or_of_its_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    own = resume.started_with.__wrapped__()
    assert Path(own[0]).name.startswith("python")
    monkeypatch.setenv("LOCAL_RANK", "0")
    assert resume.started_with.__wrapped__() != own

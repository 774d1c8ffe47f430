"""However a launched run ends, all its processes end, with one line that says why and nothing half done."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from mllm.pipeline.manifest import faults, read_manifest
from mllm.pipeline.resume import newest_whole
from tests.launch.launching import KINDS, LAUNCH, ON_CPU, ROOT, launch
from tests.pipeline.tiny import losses, write_config

TRAINING: dict[str, Any] = {
    "max_steps": 60,
    "save_strategy": "steps",
    "save_steps": 1000,
    "per_device_train_batch_size": 2,
    "dataloader_num_workers": 1,
}


@dataclass
class Launched:
    """A run under way."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()

    @property
    def ranks(self) -> list[psutil.Process]:
        return [
            child for child in psutil.Process(self.process.pid).children() if "ending.py" in " ".join(child.cmdline())
        ]

    def statuses(self) -> list[int]:
        return [int(path.read_text()) for path in sorted(self.folder.glob("status*"))]


@contextmanager
def launched(kind: str, folder: Path, way: str, *words: str, until: str) -> Generator[Launched, None, None]:
    """A run that has said `until`; all of it is gone afterwards."""
    command = [sys.executable, "-m", "accelerate.commands.launch", *LAUNCH[kind], "tests/launch/ending.py", str(folder)]
    command += [way, *words, *ON_CPU.get(kind, [])]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "DS_ACCELERATOR": "cpu"}
    with (folder / "said").open("wb") as said:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=said, stderr=said)
    run = Launched(process, folder)
    everybody: list[psutil.Process] = []
    deadline = time.monotonic() + 300
    try:
        while not re.search(until, run.said) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        if process.poll() is None:
            everybody = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        assert re.search(until, run.said), run.said
        yield run
        process.wait(timeout=60)
        _, alive = psutil.wait_procs(everybody, timeout=30)
        assert not alive, run.said
    finally:
        for each in everybody:
            if each.is_running():
                each.kill()


STEP = "'epoch'"


def config(folder: Path, **training: Any) -> str:
    data = {"validation": {"type": "Scenes", "size": 32, "objects": [2, 3], "count": 300, "seed": 1}}
    return str(write_config(folder, training_args={**TRAINING, **training}, data_args=data))


def words(folder: Path, **training: Any) -> list[str]:
    return [config(folder, **training), "--do_train", "True", "--output_dir", str(folder / "out")]


@pytest.mark.slow
def test_sigterm_of_the_launcher_lets_all_ranks_finish_the_step(tmp_path: Path) -> None:
    with launched("ddp", tmp_path, "slow", *words(tmp_path), until=STEP) as run:
        run.process.terminate()
    assert run.statuses() == [143, 143]
    step = int(
        re.findall(r"rank 0: checkpoint-(\d+) is written; continue with: .*--resume_from_checkpoint auto", run.said)[0]
    )
    checkpoint = tmp_path / "out" / f"checkpoint-{step}"
    assert faults(checkpoint) == []
    manifest = read_manifest(checkpoint)
    assert manifest is not None
    assert {"rng_state_0.pth", "rng_state_1.pth"} <= set(manifest["files"])
    assert "Traceback" not in run.said.partition("Traceback")[0]
    assert not (tmp_path / "out" / "run.lock").exists()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_interrupted_run_continues_as_if_it_had_not_been(kind: str, tmp_path: Path) -> None:
    """Every rank gets Ctrl-C, one of them alone gets the next signal."""
    given = words(tmp_path, max_steps=16)
    with launched(kind, tmp_path, "slow", *given, until=STEP) as run:
        run.process.send_signal(signal.SIGINT)
    assert run.statuses() == [130, 130]
    again = [*given, "--resume_from_checkpoint", "auto"]
    with launched(kind, tmp_path, "slow", *again, until=STEP) as run:
        run.ranks[1].send_signal(signal.SIGUSR1)
    assert set(run.statuses()) <= {138, 130}  # the launcher ends the slower one after the first
    assert newest_whole(tmp_path / "out") is not None
    launch(*LAUNCH[kind], "tests/launch/runs.py", json.dumps([[*again, *ON_CPU.get(kind, [])]]))
    whole = [*given[:-1], str(tmp_path / "whole")]
    launch(*LAUNCH[kind], "tests/launch/runs.py", json.dumps([[*whole, *ON_CPU.get(kind, [])]]))
    assert losses(tmp_path / "out") == losses(tmp_path / "whole")


@pytest.mark.slow
def test_ranks_end_with_their_launcher(tmp_path: Path) -> None:
    with launched("ddp", tmp_path, "slow", *words(tmp_path), until=STEP) as run:
        run.process.kill()
    assert run.statuses() == [143, 143]
    assert newest_whole(tmp_path / "out") is not None
    assert "accelerate.commands.launch" in re.findall(r"continue with: (.*)", run.said)[0]


@pytest.mark.slow
def test_what_nobody_foresaw_is_one_line_and_ends_all(tmp_path: Path) -> None:
    with launched("ddp", tmp_path, "unforeseen", *words(tmp_path), until="unexpected error"):
        pass
    said = (tmp_path / "said").read_text()
    log = tmp_path / "out" / "train.log"
    place = r"mllm/pipeline/trainer.py:\d+"
    assert re.search(rf"^rank 1: unexpected error in {place}: KeyError: 'unforeseen'; details in {log}$", said, re.M)
    assert "Traceback (most recent call last)" in log.read_text()
    assert (tmp_path / "status1").read_text() == "1"
    assert "ending.py FAILED" in said  # by the launcher


@pytest.mark.slow
def test_a_rank_that_disappears_ends_the_others(tmp_path: Path) -> None:
    with launched("ddp", tmp_path, "exits", *words(tmp_path), until="FAILED"):
        pass
    assert not list((tmp_path / "out").glob("checkpoint-*"))


@pytest.mark.slow
@pytest.mark.parametrize("way", ["nan", "overflow"])
@pytest.mark.parametrize("kind", KINDS)
def test_all_ranks_stop_at_the_step_where_one_diverges(kind: str, way: str, tmp_path: Path) -> None:
    given = words(tmp_path, save_steps=1)
    with launched(kind, tmp_path, way, *given, until="diverged"):
        pass
    said = (tmp_path / "said").read_text()
    (line,) = [line for line in said.splitlines() if "diverged" in line]
    what = {"nan": "loss nan; items of the step, those with that loss first: ", "overflow": r"gradient norm \S+; items"}
    assert re.match(f"rank 0: RunError: training diverged at step 3: {what[way]}", line)
    assert len(set(re.findall(r"scenes seed 0:\d+", line))) == 4
    assert f"{tmp_path / 'out' / 'checkpoint-2'} is kept" in line
    assert [int(path.read_text()) for path in sorted(tmp_path.glob("status*"))] == [1, 1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_all_ranks_stop_once_no_gradient_is_left(kind: str, tmp_path: Path) -> None:
    with launched(kind, tmp_path, "dead", *words(tmp_path, save_steps=1), until="dead"):
        pass
    said = (tmp_path / "said").read_text()
    (line,) = [line for line in said.splitlines() if "is dead" in line]
    assert re.match(r"rank 0: RunError: training is dead at step 5: the last 3 steps had a loss \(now ", line)
    assert f"{tmp_path / 'out' / 'checkpoint-4'} is kept" in line
    assert [int(path.read_text()) for path in sorted(tmp_path.glob("status*"))] == [1, 1]


@pytest.mark.slow
def test_an_evaluation_whose_ranks_were_killed_goes_on_to_the_same_files(tmp_path: Path) -> None:
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps([words(tmp_path, max_steps=1)]))
    given = [config(tmp_path), "--do_eval", "True", "--prediction_loss_only", "False"]
    given += ["--cfg-options", f"model_args.model_name_or_path={tmp_path / 'out'}"]
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    partial = cut / "eval_extra_prediction.jsonl.partial"
    with launched("ddp", tmp_path, "slow", *given, "--output_dir", str(cut), until="eval.*item") as run:
        while not (partial.exists() and partial.read_text().count("\n") > 5):
            time.sleep(0.05)
        for rank in run.ranks:
            rank.send_signal(signal.SIGKILL)
    assert run.statuses() == []
    lines = partial.read_bytes().splitlines(keepends=True)
    kept = len([line for line in lines if line.endswith(b"\n")])
    assert 5 < kept < 300
    again = [*given, "--output_dir", str(cut), "--resume", "True"]
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps([again, [*given, "--output_dir", str(whole)]]))
    assert f"continuing after {kept} of 300 answers" in (cut / "train.log").read_text()
    name = "eval_extra_prediction.jsonl"
    assert (cut / name).read_bytes() == (whole / name).read_bytes()
    found = [json.loads((folder / "eval_results.json").read_text()) for folder in (cut, whole)]
    timed = ("eval_runtime", "eval_samples_per_second")
    assert [{key: each[key] for key in each if key not in timed} for each in found] == [
        {key: found[1][key] for key in found[1] if key not in timed}
    ] * 2
    assert not partial.exists()


@pytest.mark.slow
def test_an_interrupted_evaluation_keeps_its_answers(tmp_path: Path) -> None:
    out = tmp_path / "out"
    launch(*LAUNCH["ddp"], "tests/launch/runs.py", json.dumps([words(tmp_path, max_steps=1)]))
    given = [config(tmp_path), "--do_eval", "True", "--output_dir", str(out)]
    given += ["--cfg-options", f"model_args.model_name_or_path={out}"]
    with launched("ddp", tmp_path, "slow", *given, until="eval.*item") as run:
        partial = out / "eval_extra_prediction.jsonl.partial"
        while not (partial.exists() and partial.read_text()):
            time.sleep(0.05)
        run.process.terminate()
    assert run.statuses() == [143, 143]
    assert f"answers are in {partial}" in run.said
    lines = [json.loads(line) for line in partial.read_text().splitlines()]
    assert [line["index"] for line in lines] == list(range(len(lines)))
    assert not (out / "eval_extra_prediction.jsonl").exists()

"""Every file that a command reads, broken in every way: one line says which, or the command does as always."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fuzz import breaking, whole
from tests.fuzz.commands import Outcome, run

FOLDER = ("config.json", "generation_config.json", "mllm_speech.json", "tokenizer.json", "tokenizer_config.json")
SAMPLE = 2
"""Tries that the fast test makes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A command that reads files; `{out}` is where it may write."""

    argv: Sequence[str]
    reads: Sequence[str]
    writes: str = ""
    """The result by which two runs are compared, beside what they print."""


MODEL = tuple(f"out/{name}" for name in (*FOLDER, "model.safetensors"))
ADAPTERS = tuple(f"lora/{name}" for name in (*FOLDER, "adapter_config.json", "adapter_model.safetensors"))
STATE = tuple(
    f"out/checkpoint-2/{name}"
    for name in (*FOLDER, "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")
)
DATA = ("rec.jsonl", "photos/a.jpg", "questions.json")
ASK = ("--image", "photos/a.jpg", "--prompt", "Where is the dog?", "--max_new_tokens", "4", "--device", "cpu")
COMMANDS = {
    "train": Command(argv=["train", "train.py", "--output_dir", "new"], reads=("train.py", *DATA)),
    "train, resumed": Command(
        argv=["train", "train.py", "--max_steps", "3", "--resume_from_checkpoint", "out/checkpoint-2"],
        reads=(*STATE, "out/checkpoint-2/manifest.json"),
    ),
    "train, going on": Command(
        argv=["train", "train.py", "--max_steps", "3", "--resume_from_checkpoint", "auto"],
        reads=(*STATE, "out/checkpoint-2/manifest.json", "out/config.py", "out/manifest.json"),
    ),
    "train, adapters": Command(argv=["train", "lora.py", "--output_dir", "new"], reads=MODEL),
    "train, captions": Command(argv=["train", "shards.py", "--output_dir", "new"], reads=("photos.tar",)),
    "eval": Command(argv=["eval", "eval.py"], reads=(*MODEL, *DATA, "eval.py")),
    "predict": Command(argv=["predict", "eval.py"], reads=(*MODEL, *DATA)),
    "ask": Command(argv=["predict", "--model", "out", *ASK], reads=(*MODEL, "photos/a.jpg")),
    "ask, adapters": Command(argv=["predict", "--model", "lora", *ASK], reads=(*ADAPTERS, *MODEL)),
    "data check": Command(argv=["data", "check", "train.py"], reads=("train.py", *DATA)),
    "data check, decoded": Command(argv=["data", "check", "--decode", "eval.py"], reads=(*MODEL[:-1], *DATA)),
    "data check, captions": Command(argv=["data", "check", "shards.py"], reads=("photos.tar",)),
    "data show": Command(argv=["data", "show", "--text", "eval.py"], reads=(*MODEL[:-1], *DATA)),
    "data dedup": Command(argv=["data", "dedup", "train.py"], reads=DATA),
    "model show": Command(argv=["model", "show", "eval.py"], reads=MODEL),
    "checkpoint inspect": Command(argv=["checkpoint", "inspect", "out"], reads=MODEL),
    "checkpoint inspect, adapters": Command(argv=["checkpoint", "inspect", "lora"], reads=ADAPTERS),
    "checkpoint diff": Command(argv=["checkpoint", "diff", "out", "out/checkpoint-2"], reads=(*MODEL, *STATE[:6])),
    "checkpoint convert": Command(argv=["checkpoint", "convert", "out", "new"], reads=MODEL, writes="new"),
    "checkpoint export": Command(argv=["checkpoint", "export", "out", "new"], reads=MODEL, writes="new"),
    "checkpoint merge": Command(argv=["checkpoint", "merge", "lora", "new"], reads=(*ADAPTERS, *MODEL), writes="new"),
    "score": Command(argv=["score", "first.jsonl"], reads=("first.jsonl",)),
    "score, joined": Command(
        argv=["score", "first.jsonl", "--data", "eval.py", "--split", "validation"],
        reads=("first.jsonl", "rec.jsonl", "questions.json", "eval.py"),
    ),
    "compare": Command(
        argv=["compare", "first.jsonl", "second.jsonl", "--output_dir", "new"],
        reads=("first.jsonl", "second.jsonl"),
        writes="new",
    ),
    "regions convert, typed": Command(
        argv=["regions", "convert", "--from", "shikra", "--to", "typed", "words.jsonl", "new.jsonl"],
        reads=("words.jsonl", "photos/a.jpg"),
        writes="new.jsonl",
    ),
    "regions convert": Command(
        argv=["regions", "convert", "--from", "shikra", "--to", "qwen3_vl", "words.jsonl", "new.jsonl"],
        reads=("words.jsonl", "photos/a.jpg"),
        writes="new.jsonl",
    ),
}
TRIES = [(name, file, way) for name, command in COMMANDS.items() for file in command.reads for way in breaking.WAYS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    whole.make(folder, tmp_path_factory.mktemp("scratch"))
    return folder


@pytest.fixture(scope="module")
def usual() -> dict[str, Outcome]:
    """What each command does where nothing is broken, once it was asked for."""
    return {}


def test_commands_hold_a_sample_of_broken_files(folder: Path, usual: dict[str, Outcome], tmp_path: Path) -> None:
    assert_held(random.Random(0).sample(TRIES, SAMPLE), folder, usual, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_commands_hold_every_broken_file(name: str, folder: Path, usual: dict[str, Outcome], tmp_path: Path) -> None:
    assert_held([found for found in TRIES if found[0] == name], folder, usual, tmp_path)


def assert_held(tries: Sequence[tuple[str, str, str]], folder: Path, usual: dict[str, Outcome], scratch: Path) -> None:
    faults = list(filter(None, (fault(*found, folder, usual, scratch) for found in tries)))
    print(f"{len(tries)} tries, {len(tries) - len(faults)} held, {len(faults)} failed")
    assert not faults, "\n".join(faults)


def fault(name: str, file: str, way: str, folder: Path, usual: dict[str, Outcome], scratch: Path) -> str:
    """What is wrong with what a command did of a broken file; "" where nothing is."""
    command = COMMANDS[name]
    if name not in usual:
        usual[name] = run(command.argv, whole.copied(folder, scratch / "folder"), scratch)
        assert usual[name].status == 0, usual[name].error
    work = whole.copied(folder, scratch / "folder")
    if breaking.WAYS[way](work / file) is False:
        return ""
    outcome = run(command.argv, work, scratch)
    places = [file, Path(file).name, str(Path(file).parent)]
    if file.endswith(".py"):  # of a config that lacks something the key is named
        places += ["model_args", "data_args"]
    said = "" if outcome.status == 0 else outcome.fault(*places)
    named = Path(file).name in outcome.out and re.search("not (be )?read|passed over", outcome.out)
    if outcome.status == 0 and comparable(outcome) != comparable(usual[name]) and not named:
        said = "another result"
    if outcome.status != 0 and command.writes and (work / command.writes).exists():
        said = f"leaves {command.writes}"
    return f"{name}: {file} {way}: {said}\n{outcome.error[-500:]}" if said else ""


def comparable(outcome: Outcome) -> list[str]:
    """What a command printed, but for what depends on the clock."""
    return [line for line in outcome.out.splitlines() if "runtime" not in line and "_per_second" not in line]

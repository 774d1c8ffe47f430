"""Every key of every config, and every training argument, with values that it cannot have: one line names the key."""

from __future__ import annotations

import copy
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mllm.config.config import read
from mllm.config.training_fields import training_fields
from tests import stand_ins
from tests.fuzz import values
from tests.fuzz.commands import Outcome, run
from tests.fuzz.values import TEXT, Place
from tests.pipeline.tiny import CONFIG

ROOT = Path(__file__).parents[2]
CONFIGS = sorted((ROOT / "config").glob("*.py"))
SAMPLE = 3
"""Tries that the fast test makes."""
FREE = ("image_folder", "project", "system", "run_name", "output_dir", "logging_dir", "prompt_before", "name")
"""Keys under which any text has a meaning; of a folder of images that is not there the first image is an error."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    config: Mapping[str, Any]
    place: Place
    value: Any

    def __str__(self) -> str:
        return f"{values.dotted(self.place)} = {str(self.value)[:60]!r}"


def tries(config: Mapping[str, Any]) -> Iterator[Try]:
    for place, value in values.places(config):
        yield from (Try(config=config, place=place, value=bad) for bad in values.wrong(value) if not may_be(place, bad))


def may_be(place: Place, value: Any) -> bool:
    """Whether what is wrong elsewhere is right here."""
    key = place[-1]
    if key in ("do_train", "do_eval", "do_predict"):  # the command says so itself
        return True
    if isinstance(value, str):
        return key in FREE
    if key in ("alpha", "num_train_epochs") and value == 1.5:  # numbers that some write as whole ones
        return True
    return key == "seed" and "data_args" in place and value == -7


def training_tries() -> Iterator[Try]:
    for field in training_fields().values():
        default = field.default if field.default.__class__ in (bool, int, float, str) else None
        if type(default) is int and "float" in str(field.type):
            default = float(default)
        for bad in values.wrong(default):
            if bad != default and not may_be((field.name,), bad):
                yield Try(config=CONFIG, place=("training_args", field.name), value=bad)


def stood_in(path: Path, folder: Path) -> dict[str, Any]:
    """The config of a file, with tiny stand-ins for the checkpoints and files that it names."""
    cfg = read(path).to_dict()
    folder.mkdir(parents=True, exist_ok=True)
    stand_ins.save_image(folder / "a.jpg")
    data = stand_ins.data(cfg["data_args"], folder, folder)
    data["gen_kwargs"] = {**data.get("gen_kwargs", {}), "max_new_tokens": 2}
    model = stand_ins.model_parts(cfg["model_args"], folder / "checkpoints")
    model.pop("quantization", None)  # some libraries that few machines have
    training = {**cfg["training_args"], "gradient_accumulation_steps": 1, "dataloader_num_workers": 0}
    return {"training_args": training, "model_args": model, "data_args": data}


def test_a_sample_of_wrong_values_is_refused(tmp_path: Path) -> None:
    every = [*tries(CONFIG), *training_tries()]
    assert_refused(random.Random(0).sample(every, SAMPLE), tmp_path)


@pytest.mark.slow
def test_every_wrong_training_argument_is_refused(tmp_path: Path) -> None:
    assert_refused(list(training_tries()), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_wrong_value_is_refused(
    path: Path, seen: set[object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    new: list[Try] = []
    for found in tries(stood_in(path, tmp_path / "files")):
        keys = tuple(key for key in found.place if isinstance(key, str))
        model = found.config["model_args"]["type"] if keys[0] == "model_args" else ""
        if (alike := (model, keys, repr(found.value)[:60])) not in seen:
            seen.add(alike)
            new.append(found)
    assert_refused(new, tmp_path)


@pytest.fixture(scope="module")
def seen() -> set[object]:
    """Tries of other configs, which need not be made again."""
    return set()


def assert_refused(tries: Sequence[Try], scratch: Path) -> None:
    faults = [f"{found}: {why}" for found in tries if (why := fault(found, scratch))]
    print(f"{len(tries)} tries, {len(tries) - len(faults)} held, {len(faults)} failed")
    assert not faults, "\n".join(faults)


def fault(found: Try, scratch: Path) -> str:
    """What is wrong with what a run says of the value; "" where nothing is."""
    config = copy.deepcopy(dict(found.config))
    small = {"max_steps": 1, "per_device_train_batch_size": 2, "disable_tqdm": True, "report_to": "none"}
    config["training_args"] |= {**small, "use_cpu": True, "save_strategy": "no", "output_dir": str(scratch / "out")}
    config["training_args"]["overwrite_output_dir"] = True
    if "warmup_steps" not in found.place:
        config["training_args"].pop("warmup_steps", None)  # the only step would be at the rate 0
    path = scratch / "wrong.py"
    path.write_text(written(values.put(config, found.place, found.value)), encoding="utf-8")
    outcome = run(["train" if found.config["data_args"].get("train") else "predict", str(path)], Path.cwd(), scratch)
    if outcome.status == 0:
        return "" if replaced(found, outcome) else "is taken"
    key = next(key for key in reversed(found.place) if isinstance(key, str))
    shown = [repr(found.value)[1:-1]] if found.value == TEXT else []
    why = outcome.fault(key, *shown)
    return f"{why}\n{outcome.error[-500:]}" if why else ""


def replaced(found: Try, outcome: Outcome) -> bool:
    """Whether the run says that it does not use the key, since the folder of the whole model answers it."""
    if found.place[0] != "model_args" or not found.config["model_args"].get("model_name_or_path"):
        return False
    said = [line for line in outcome.lines if "replaces the config's" in line or "is not used" in line]
    return any(re.search(rf"\b{found.place[1]}\b", line) for line in said)


def written(config: Mapping[str, Any]) -> str:
    """The config as a file, in which numbers that have no literal are expressions."""
    text = "\n".join(f"{name} = {section!r}" for name, section in config.items())
    return re.sub(
        r"\b(nan|inf)\b(?=[,\]})\n]|$)", lambda match: {"inf": "1e999", "nan": "(1e999 - 1e999)"}[match[0]], text
    )


def test_values_are_written_as_they_are() -> None:
    names: dict[str, Any] = {}
    exec(written({"a": [math.nan, math.inf, "nan"], "b": math.inf}), names)  # noqa: S102, the test's own text
    assert math.isnan(names["a"][0])
    assert (names["a"][1:], names["b"]) == ([math.inf, "nan"], math.inf)

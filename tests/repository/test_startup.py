"""What commands import: `--help` and mistakes in a config answer at once, since they wait for no large library.

All are run in turn in one process, which starts with nothing imported: one that imports a library is told by that.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PHOTOS = "config/rec_llava_tiny_coco.py"
LARGE = ("torch", "transformers", "accelerate", "peft", "mmengine", "matplotlib", "datasketch", "scipy", "datatrove")
WALK = """
import contextlib, io, json, runpy, sys

import mllm

def look(run):
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            status = run()
        except SystemExit as end:
            status = end.code
    return {"status": status, "out": out.getvalue(), "error": error.getvalue(), "imported": sorted(sys.modules)}

found = {"mllm": look(lambda: 0)}
config, scripts, mistakes, data = json.loads(sys.argv[1])

from typer.main import get_command

from mllm import cli

def commands(command):
    yield []
    for name, inner in getattr(command, "commands", {}).items():
        yield from ([name, *more] for more in commands(inner))

helps = {}
for words in (*commands(get_command(cli.app)), ["predict", "--model", "x"]):
    helps[" ".join(words)] = look(lambda: cli.main([*words, "--help"]))
for script in scripts:
    sys.argv = [script, "--help"]
    helps[script] = look(lambda: runpy.run_path(script, run_name="__main__"))
found["helps"] = helps
found["list"] = look(lambda: cli.main(["list"]))
for each in mistakes:
    each[:] = [config if word == "CONFIG" else word for word in each]
found["mistakes"] = [look(lambda: cli.main(words)) for words in mistakes]
found["data"] = [look(lambda: cli.main(["data", *words])) for words in data]
json.dump(found, sys.stdout)
"""
SCRIPTS = ["mllm/pipeline/finetune.py", "mllm/pipeline/finetune_mem.py"]
SCRIPTS += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tools" / "convert").glob("*.py"))]
MISTAKES = [
    (["train", "CONFIG", "--lerning_rate", "1"], "unknown flag --lerning_rate; did you mean '--learning_rate'"),
    (["eval", "CONFIG", "--max_steps", "many"], "--max_steps: expected a whole number, found str 'many'"),
    (
        ["train", "CONFIG", "--cfg-options", "training_args.max_steps=ten"],
        "max_steps: expected a whole number of at least -1, found str 'ten'",
    ),
    (
        ["predict", "CONFIG", "--cfg-options", "data_arg.train=1"],
        "data_arg: unknown name (constants are UPPERCASE); did you mean 'data_args'",
    ),
    (["train", "gone.py"], "gone.py: no such file"),
    (["--", "train", "gone.py"], "gone.py: no such file"),
    (["data", "chek"], "mllm data: No such command 'chek'. Did you mean 'check'?"),
    (
        ["data", "check", "CONFIG", "--cfg-options", "training_args.sed=1"],
        "training_args.sed: unknown argument; did you mean 'seed'",
    ),
]
DATA = [
    (["dedup", PHOTOS], ["torch", "transformers"]),  # the one that needs least is first
    (["check", PHOTOS, "--stand-in"], ["torch"]),
    (["check", PHOTOS, "--stand-in", "--decode", "--cfg-options", "model_args.type=otter"], ["torch"]),
    (["check", "config/flan_t5_small_fp32.py", "--stand-in"], ["torch"]),
    (["show", "config/rec_smolvlm.py", "--stand-in", "--text"], ["torch"]),
]


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What each command said, and what was imported after it."""
    config = tmp_path_factory.mktemp("config") / "run.py"
    config.write_text("training_args = dict(use_cpu=True)\n")
    given = [str(config), SCRIPTS, [words for words, _ in MISTAKES], [words for words, _ in DATA]]
    command = [sys.executable, "-c", WALK, json.dumps(given)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_import_mllm_is_light(walked: dict[str, Any]) -> None:
    """`mllm.load` is imported when it is asked for."""
    assert [name for name in walked["mllm"]["imported"] if name.startswith("mllm.") or name == "torch"] == []


def test_no_help_imports_a_large_library(walked: dict[str, Any]) -> None:
    assert len(SCRIPTS) > 15
    assert len(walked["helps"]) - len(SCRIPTS) >= 16  # 5 of training and asking, 4 of data, 6 of checkpoints, ...
    for words, said in walked["helps"].items():
        assert "usage: " in said["out"].lower(), words
        found = {*LARGE, "pydantic"} & {*said["imported"]}
        assert not found, f"{words} --help imports {found}"


def test_list_imports_nothing_that_it_lists(walked: dict[str, Any]) -> None:
    assert "mllm/dataset/sets/rec.py" in walked["list"]["out"]
    assert not {"torch", "transformers", "mllm.dataset.sets.rec"} & {*walked["list"]["imported"]}


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_in_a_config_is_found_before_torch_is_imported(number: int, walked: dict[str, Any]) -> None:
    said = walked["mistakes"][number]
    assert said["status"] in (1, 2)
    assert not {"torch", "transformers"} & {*said["imported"]}
    assert MISTAKES[number][1] in said["error"]
    assert len(said["error"].splitlines()) == 1


@pytest.mark.parametrize("number", range(len(DATA)), ids=[" ".join(words) for words, _ in DATA])
def test_data_are_read_without_torch_where_no_model_is_asked(number: int, walked: dict[str, Any]) -> None:
    said = walked["data"][number]
    assert not {*DATA[number][1]} & {*said["imported"]}
    assert "Error" not in said["error"] or "no such file" in said["error"]  # some configs name data that are not here
    assert said["out"]

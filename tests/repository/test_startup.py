"""What commands import: `--help` and mistakes in a config answer at once, since they wait for no large library."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PHOTOS = "config/rec_llava_tiny_coco.py"
LARGE = ("torch", "transformers", "accelerate", "peft", "mmengine", "matplotlib", "datasketch", "scipy", "datatrove")
WALK = """
import contextlib, io, runpy, sys
from importlib import import_module

from typer.main import get_command

from mllm import cli

LARGE = {large!r}


def check(words, run):
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        run()
    assert "Usage: " in out.getvalue() or "usage: " in out.getvalue(), words
    found = [name for name in (*LARGE, "pydantic") if name in sys.modules]
    assert not found, f"{{words}} --help imports {{found}}"


def commands(command):
    yield []
    for name, inner in getattr(command, "commands", {{}}).items():
        yield from ([name, *more] for more in commands(inner))


lines = [*commands(get_command(cli.app)), ["predict", "--model", "x"]]
for words in lines:
    check(words, lambda: cli.main([*words, "--help"]))
for script in {scripts!r}:
    sys.argv = [script, "--help"]
    check(script, lambda: runpy.run_path(script, run_name="__main__"))
print(len(lines))
"""


def run(code: str, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def test_no_help_imports_a_large_library() -> None:
    scripts = ["mllm/pipeline/finetune.py", "mllm/pipeline/finetune_mem.py"]
    scripts += [str(path.relative_to(ROOT)) for path in sorted((ROOT / "tools" / "convert").glob("*.py"))]
    assert len(scripts) > 15
    done = run(WALK.format(large=LARGE, scripts=scripts))
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.splitlines()[-1]) >= 16  # 5 of training and asking, 4 of data, 6 of checkpoints, ...


@pytest.mark.parametrize(
    ("words", "message"),
    [
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
        (
            ["data", "check", "CONFIG", "--cfg-options", "training_args.sed=1"],
            "training_args.sed: unknown argument; did you mean 'seed'",
        ),
    ],
)
def test_a_mistake_in_a_config_is_found_before_torch_is_imported(
    words: list[str], message: str, tmp_path: Path
) -> None:
    config = tmp_path / "run.py"
    config.write_text("training_args = dict(use_cpu=True)\n")
    code = (
        "import sys; from mllm.cli import main; status = main(sys.argv[1:]); "
        "print(status, [name for name in ('torch', 'transformers') if name in sys.modules])"
    )
    done = run(code, *(str(config) if word == "CONFIG" else word for word in words))
    assert done.stdout in ("1 []\n", "2 []\n"), done.stdout + done.stderr
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_import_mllm_is_light() -> None:
    """`mllm.load` is imported when it is asked for."""
    done = run("import sys, mllm; print([name for name in sys.modules if name.startswith('mllm.') or name == 'torch'])")
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.parametrize(
    ("words", "unneeded"),
    [
        (["check", PHOTOS, "--stand-in"], ["torch"]),
        (["check", PHOTOS, "--stand-in", "--decode", "--cfg-options", "model_args.type=otter"], ["torch"]),
        (["check", "config/flan_t5_small_fp32.py", "--stand-in"], ["torch"]),
        (["show", "config/rec_smolvlm.py", "--stand-in", "--text"], ["torch"]),
        (["dedup", PHOTOS], ["torch", "transformers"]),
    ],
)
def test_data_are_read_without_torch_where_no_model_is_asked(words: list[str], unneeded: list[str]) -> None:
    code = (
        "import sys; from mllm.cli import main; main(['data', *sys.argv[2:]]); "
        "print([name for name in sys.argv[1].split() if name in sys.modules])"
    )
    done = run(code, " ".join(unneeded), *words)
    assert done.stdout.endswith("\n[]\n"), done.stdout + done.stderr
    assert "Error" not in done.stderr or "no such file" in done.stderr  # some configs name data that are not here

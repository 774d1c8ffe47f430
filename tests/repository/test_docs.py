"""README and docs: what they show runs, and what they name exists.

Blocks behind `<!-- file: NAME -->` are written to a folder, those behind `<!-- run -->` are run there, in the order of
README.md, docs/chat.md, docs/few_shot.md and docs/extending.md. What Python blocks bind holds in those that follow.
All other shell blocks are checked word by word: commands, options, scripts, configs. They are not run: they need a
real model (launch, adapters, checkpoints, models), annotation files (convert, data), a cluster, GPUs, or minutes of
measuring (performance).
"""

from __future__ import annotations

import ast
import inspect
import os
import pydoc
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.cli import main
from mllm.commands.model.published import PUBLISHED_MODELS
from mllm.config.config import read
from mllm.pipeline.finetune import main as finetune
from mllm.registry import CODECS, CONNECTORS, METRICS, MODELS, TEMPLATES, Registry

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
WALK = "".join(PAGES[page] for page in ("README.md", "docs/chat.md", "docs/few_shot.md", "docs/extending.md"))
BLOCK = re.compile(
    r"<!-- (?:file: (?P<file>\S+)|part of: (?P<part>\S+)|(?P<run>run)) -->\n```(?P<language>\w+)\n(?P<text>.*?)```",
    re.DOTALL,
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def shell_lines(text: str) -> Iterator[str]:
    """The commands of all shell blocks, continued lines joined and comments left out."""
    for language, block in FENCE.findall(text):
        if language == "bash":
            for line in block.replace("\\\n", " ").splitlines():
                command = re.sub(r"\s+#.*", "", line).strip()
                if command and not command.startswith("#"):
                    yield command


COMMANDS = [(page, line) for page, text in PAGES.items() for line in shell_lines(text)]


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files of the docs, the repository's config/ and examples/, and a demo trained for two steps."""
    folder = tmp_path_factory.mktemp("workplace")
    for name in ("config", "examples"):
        (folder / name).symlink_to(ROOT / name)
    before = Path.cwd()
    os.chdir(folder)
    try:
        few = [f"data_args.train.datasets.{number}.count=200" for number in (0, 1)]
        options = ["--max_steps", "2", "--do_eval", "False", "--cfg-options", *few]
        assert finetune(["config/demo_scenes.py", *options]) == 0
    finally:
        os.chdir(before)
    return folder


def run_blocks(folder: Path, *, max_steps: str = r"\g<0>") -> None:
    """Write and run the blocks of `WALK` in `folder`, which is the working directory.

    Trainings are as long as the pages say, or have as many steps as `max_steps` says."""
    names: dict[str, Any] = {}
    for block in BLOCK.finditer(WALK):
        text = block["text"]
        if block["file"]:
            (folder / block["file"]).write_text(re.sub(r"max_steps=\d+", max_steps, text), encoding="utf-8")
        elif block["part"]:
            assert text in (folder / block["part"]).read_text(encoding="utf-8")
        elif block["language"] == "python":
            exec(compile(text, "README.md", "exec"), names)  # noqa: S102, our own text
        else:
            for line in text.splitlines():
                words = shlex.split(line, comments=True)
                if words[0] == "mllm":
                    assert main(words[1:]) == 0, line
                else:
                    subprocess.run(words, check=True)


def test_blocks_run_in_the_order_of_the_pages(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As the pages have them, but for trainings of two steps, and a 7B model of three layers for `mllm model show`."""
    for part in ("vision_tower", "language_model"):
        monkeypatch.setitem(PUBLISHED_MODELS["llava-v1-7b"][part], "num_hidden_layers", 3)
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(str(workplace))
    run_blocks(workplace, max_steps="max_steps=2")
    assert (workplace / "mine" / "answer.png").exists()
    for name in ("results.json", "extra_prediction.jsonl", "report.html"):
        assert (workplace / "mine" / "eval" / f"eval_{name}").exists()
    assert '"test_answered"' in (workplace / "mine" / "custom_out" / "test_results.json").read_text()


@pytest.mark.slow
def test_own_data_ends_in_the_score_that_readme_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import json

    for name in ("config", "examples", "accelerate_config", "mllm"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--config_file", "accelerate_config/cpu.yaml"]
    subprocess.run([*launch, "mllm/pipeline/finetune.py", "config/demo_scenes.py"], check=True)
    run_blocks(tmp_path)
    scores = json.loads((tmp_path / "mine" / "eval" / "eval_results.json").read_text())
    assert scores["eval_acc@0.5"] >= 5 / 7


def test_percent_reads_what_it_writes(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (text,) = [block["text"] for block in BLOCK.finditer(WALK) if block["file"] == "my_codec.py"]
    (workplace / "my_codec.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(workplace))
    import my_codec  # noqa: F401  # pyright: ignore

    codec = CODECS.make("percent")

    @given(st.tuples(*[st.floats(0, 1)] * 4).map(lambda c: (min(c[::2]), min(c[1::2]), max(c[::2]), max(c[1::2]))))
    def check(box: tuple[float, float, float, float]) -> None:
        (reading,) = codec.read(f"It is {codec.write_boxes([box], (9, 9))}.", (9, 9))
        assert reading.boxes[0] == pytest.approx(box, abs=codec.error((9, 9)))

    check()
    assert codec.read("(1 2 x)", (9, 9))[0].failure == "malformed"


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=[f"{page}: {line[:60]}" for page, line in COMMANDS])
def test_command_names_what_exists(page: str, line: str) -> None:
    words = [word for word in shlex.split(line) if not re.fullmatch(r"[A-Z_]+=\w+", word)]  # VARIABLE=1 in front
    for word in words:
        if re.match(r"(config|accelerate_config|tools|examples|tests|mllm)/", word):
            assert (ROOT / word).exists(), word
        if word.startswith("config/") and word.endswith(".py"):
            read(ROOT / word)
    match words:
        case ["make", *targets]:
            assert all(re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE) for target in targets)
        case ["python", script, *options]:
            source = (ROOT / script).read_text(encoding="utf-8") + (ROOT / "mllm/convert/conversion.py").read_text()
            assert all(option.split("=")[0].strip("[]") in source for option in options if "--" in option)
        case _:
            assert words[0] in ("mllm", "accelerate", "sbatch", "cp", "source", "pre-commit", "pytest", "pip"), line


def command_of(words: list[str]) -> tuple[str, ...]:
    """The command in a line that begins with `mllm`: one word, or two where the first is a group."""
    groups = ("data", "checkpoint", "model", "regions")
    return tuple(words[1:3]) if words[1] in groups else (words[1],)


MLLM_LINES = [shlex.split(line) for _, line in COMMANDS if line.startswith("mllm ")]
MLLM_COMMANDS = sorted({command_of(words) for words in MLLM_LINES if not words[1].startswith("-")})


@pytest.mark.parametrize("command", MLLM_COMMANDS, ids=" ".join)
def test_mllm_command_has_the_options_that_the_pages_use(
    command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # wide enough that nothing is cut
    monkeypatch.setenv("TERM", "dumb")
    assert main([*command, "--help"]) == 0
    main([*command, "--help-all"])  # which commands without arguments of the Trainer do not have
    if command == ("predict",):
        main(["predict", "--model", "x", "--help"])
    known = capsys.readouterr().out
    for words in MLLM_LINES:
        if command_of(words) == command:
            options = {word.strip("[]").split("=")[0] for word in words if word.strip("[").startswith("--")}
            missing = {option for option in options if not re.search(rf"{option}\b", known)}
            assert not missing, words


def slug(heading: str) -> str:
    """The anchor that GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", re.sub(r"[`*]", "", heading).strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    text = re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL)
    for target in LINK.findall(text):
        if target.startswith(("http://", "https://")):
            continue
        path, _, anchor = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in map(slug, headings), target


@pytest.mark.parametrize("page", PAGES)
def test_python_blocks_parse(page: str) -> None:
    for language, text in FENCE.findall(PAGES[page]):
        if language == "python":
            ast.parse(text)


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("model_args.type", MODELS),
        ("model_args.codec", CODECS),
        ("model_args.template", TEMPLATES),
        ("model_args.connector", CONNECTORS),
        ("data_args.compute_metric", METRICS),
    ],
)
def test_config_page_names_all_that_is_registered(key: str, registry: Registry) -> None:
    (row,) = [line for line in PAGES["docs/config.md"].splitlines() if line.startswith(f"| `{key}`")]
    own = {name for name in registry.names() if registry.find(name).__module__.startswith("mllm.")}
    assert own <= set(re.findall(r"`([^`]+)`", row))


def test_docstrings_of_the_api_page_name_arguments_that_exist() -> None:
    """`make docs` refuses others, with packages that the tests do not have."""
    unknown: list[str] = []
    names = re.findall(r"^::: (\S+)$", PAGES["docs/api.md"], re.MULTILINE)
    for name in names:
        owner = pydoc.locate(name)
        members = [member for _, member in inspect.getmembers(owner, inspect.isfunction)]
        for function in (owner, *members) if inspect.isroutine(owner) else members:
            section = (inspect.getdoc(function) or "").partition("Args:\n")[2].partition("\n\n")[0]
            arguments = re.findall(r"^    (\S[^:]*):", section, re.MULTILINE)
            known = inspect.signature(function).parameters
            unknown += [f"{name}: {argument}" for argument in arguments if argument not in known]
    assert names
    assert unknown == []


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def defined(source: str) -> set[str]:
    """The classes, functions and methods (`Class.method`) that a module defines."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        if isinstance(node, (ast.ClassDef, *FUNCTIONS)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{child.name}" for child in node.body if isinstance(child, FUNCTIONS)}
    return names


PLACES = re.findall(r"`(mllm/[\w/]+\.py): ([\w.]+)`", PAGES["docs/architecture.md"])
PATHS = re.findall(r"`((?:mllm|tests|tools|docs|config)/[\w/.]*)`", PAGES["docs/architecture.md"])


@pytest.mark.parametrize(("file", "name"), sorted(set(PLACES)))
def test_architecture_names_functions_that_exist(file: str, name: str) -> None:
    assert name in defined((ROOT / file).read_text(encoding="utf-8"))


def test_architecture_names_paths_that_exist() -> None:
    assert len(PLACES) > 30
    assert [path for path in PATHS if not (ROOT / path).exists()] == []


def test_architecture_names_every_room() -> None:
    table = PAGES["docs/architecture.md"].split("## Rooms")[1].split("## ")[0]
    rooms = {path.stem for path in (ROOT / "mllm").iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    assert {room for room in rooms if f"`mllm/{room}/`" not in table} == set()


def test_architecture_shows_the_floors_of_pyproject() -> None:
    import tomllib

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = iter([layer.replace("mllm.", "") for layer in contracts[0]["layers"]])
    shown = PAGES["docs/architecture.md"].split("## What may import what")[1].split("```")[1]
    assert [floor for floor in shown.strip().splitlines() if floor not in layers] == []  # in this order

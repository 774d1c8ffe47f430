"""The README's files and commands, as they stand there: what it shows works."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mllm.cli import main
from mllm.registry import CONNECTORS, METRICS, MODELS, REGIONS, TEMPLATES, Registry

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"<!-- (?:file: (?P<file>\S+)|run) -->\n```\w+\n(?P<text>.*?)```", re.DOTALL)


@pytest.fixture(scope="module")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the README's files, the repository's config/, and a picture."""
    folder = tmp_path_factory.mktemp("workplace")
    (folder / "config").symlink_to(ROOT / "config")
    for block in BLOCK.finditer(README):
        if block["file"]:
            path = folder / block["file"]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block["text"], encoding="utf-8")
    (folder / "mine" / "images").mkdir()
    Image.new("RGB", (240, 200), "brown").save(folder / "mine" / "images" / "dog.jpg")
    return folder


def test_commands_run_in_the_order_of_the_readme(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(workplace)
    monkeypatch.syspath_prepend(str(workplace))
    commands = [
        shlex.split(line)
        for block in BLOCK.finditer(README)
        if not block["file"]
        for line in block["text"].splitlines()
    ]
    assert [command[:2] for command in commands] == [
        ["mllm", "train"],
        ["mllm", "eval"],
        ["mllm", "predict"],
        ["mllm", "predict"],
        ["mllm", "predict"],
    ]
    for command in commands:
        assert main(command[1:]) == 0, command
    assert (workplace / "mine" / "answer.png").exists()
    for name in ("results.json", "extra_prediction.jsonl", "report.html"):
        assert (workplace / "mine" / "eval" / f"eval_{name}").exists()
    assert '"test_answered"' in (workplace / "mine" / "custom_out" / "test_results.json").read_text()


def test_the_example_codec_reads_what_it_writes(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(workplace))
    import my_codec  # noqa: F401  # pyright: ignore

    codec = REGIONS.make("percent")

    @given(st.tuples(*[st.floats(0, 1)] * 4).map(lambda c: (min(c[::2]), min(c[1::2]), max(c[::2]), max(c[1::2]))))
    def check(box: tuple[float, float, float, float]) -> None:
        (reading,) = codec.read(f"It is {codec.write_boxes([box], (9, 9))}.", (9, 9))
        assert reading.boxes[0] == pytest.approx(box, abs=codec.error((9, 9)))

    check()
    assert codec.read("(1 2 x)", (9, 9))[0].failure == "malformed"


def test_the_file_tree_names_what_exists() -> None:
    tree = README.split("## The code")[1].split("```")[1]
    path: list[str] = []
    for line in tree.strip().splitlines():
        depth = (len(line) - len(line.lstrip())) // 2
        path = [*path[:depth], line.split()[0]]
        for name in line.strip().split("   ")[0].split():
            assert ROOT.joinpath(*path[:-1], name).exists(), name


@pytest.mark.parametrize(
    ("key", "registry"),
    [
        ("model_args.type", MODELS),
        ("model_args.codec", REGIONS),
        ("model_args.template", TEMPLATES),
        ("model_args.connector", CONNECTORS),
        ("data_args.compute_metric", METRICS),
    ],
)
def test_the_config_table_names_all_that_is_registered(key: str, registry: Registry) -> None:
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{key}`")]
    own = {name for name in registry.names() if registry.find(name).__module__.startswith("mllm.")}
    assert own <= set(re.findall(r"`([^`]+)`", row))

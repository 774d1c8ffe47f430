"""Config files on disk: what is read, what is refused, and where the mistake is said to be."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm.config.files import bases, chain, read_file, write_file
from mllm.errors import ConfigError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.py").write_text("A = dict(x=1)\nmodel_args = dict(type='a', parts=dict(p=1, q=2))\n")
    return tmp_path


def write(folder: Path, text: str, name: str = "leaf.py") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def test_a_leaf_changes_its_base(folder: Path) -> None:
    leaf = write(folder, "_base_ = 'base.py'\nmodel_args = dict(parts=dict(p=3))\n")
    assert read_file(leaf) == {"model_args": {"type": "a", "parts": {"p": 3, "q": 2}}}


def test_delete_replaces_instead(folder: Path) -> None:
    leaf = write(
        folder,
        "_base_ = 'base.py'\nmodel_args = dict(parts=dict(_delete_=True, r=1), new=dict(_delete_=True, s=1))\n",
    )
    assert read_file(leaf) == {"model_args": {"type": "a", "parts": {"r": 1}, "new": {"s": 1}}}


def test_constants_and_what_python_brings_are_left_out(folder: Path) -> None:
    leaf = write(
        folder,
        "import os\nfrom math import floor, pi as PI\nfrom pathlib import Path\nfrom collections import OrderedDict\n"
        "NAME = 'x'\ndef f(): return [n for n in range(2)]\nmodel_args = OrderedDict(a=f(), b=os.sep)\n",
    )
    assert read_file(leaf) == {"model_args": {"a": [0, 1], "b": "/"}}


def test_environment_variables(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leaf = write(folder, "model_args = dict(root='{{$MLLM_TEST_ROOT:data}}/coco')\n")
    assert read_file(leaf) == {"model_args": {"root": "data/coco"}}
    monkeypatch.setenv("MLLM_TEST_ROOT", "/disk")
    assert read_file(leaf) == {"model_args": {"root": "/disk/coco"}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a = 1\nmodel_args = dict(a=1\n", r"leaf\.py:2: SyntaxError: '\(' was never closed"),
        ("_base_ = 'base.py'\n\nmodel_args = dict(a=UNKNOWN)\n", r"leaf\.py:3: NameError: name 'UNKNOWN'"),
        ("_base_ = 'base.py'\nmodel_args = dict(a=_base_.B)\n", r"leaf\.py:2: AttributeError: .* 'B'"),
        ("model_args = dict(a={}['x y'])\n", r"leaf\.py:1: KeyError: x y$"),
        ("def f():\n    return 1 / 0\nmodel_args = f()\n", r"leaf\.py:2: ZeroDivisionError"),
        ("import json\nmodel_args = json.loads('{')\n", r"leaf\.py:2: JSONDecodeError"),
        ("_base_ = 'base.py'\nmodel_args = dict(type=dict(b=1))\n", r"leaf\.py: TypeError: type=.* is a dict in the"),
        ("_base_ = 'missing.py'\n", r"missing\.py \(the _base_ of .*leaf\.py\): no such file"),
        ("_base_ = ['ba' + 'se.py']\n", r"leaf\.py:1: _base_: expected a file name or a list of them, as literals"),
        (
            "_base_ = 'leaf.py'\n",
            r"leaf\.py: _base_: expected files that do not lead back to this one, found .*leaf\.py -> .*leaf\.py",
        ),
        ("_base_ = 'loop.py'\n", r"loop\.py \(the _base_ of .*leaf\.py\): no such file"),
        ("_base_ = ['base.py', 'twin.py']\n", r"leaf\.py: KeyError: Duplicate key is not allowed among bases"),
        ("import torch\n", r"leaf\.py:1: expected imports from .*, found 'torch'; .* custom_imports"),
        ("\nfrom mllm.types import Box\n", r"leaf\.py:2: expected imports from .*, found 'mllm.types'"),
        ("from . import base\n", r"leaf\.py:1: expected imports from .*, found '\.'"),
        ("_base_ = 'imports.py'\n", r"imports\.py:1: expected imports from .*, found 'torch'"),
        (
            "model_args = dict(a=[len])\n",
            r"model_args\.a\.0: expected numbers, .*, found <built-in function len> of type builtin_function_or_method",
        ),
        (
            "model_args = dict(a={1, 2})\n",
            r"model_args\.a: expected numbers, texts, lists or dicts, found \{1, 2\} of type set",
        ),
        (
            "model_args = {(1, 2): 3}\n",
            r"model_args: expected keys that are texts or numbers, found \(1, 2\) of type tuple",
        ),
        (
            "model_args = dict(a=['x\\0y'])\n",
            r"model_args\.a\.0: expected a text without null characters, found str 'x\\x00y'",
        ),
        ("filename = 'x'\n", r"leaf\.py: KeyError: filename is reserved"),
    ],
)
def test_a_mistake_is_told_with_its_place(folder: Path, text: str, message: str) -> None:
    write(folder, "model_args = {}\n", "twin.py")
    write(folder, "import torch\n", "imports.py")
    (folder / "loop.py").symlink_to("loop.py")
    with pytest.raises(ConfigError, match=message):
        read_file(write(folder, text))


def test_a_mistake_in_a_base_is_told_there(folder: Path) -> None:
    write(folder, "A = 1\nB = A.b\n", "wrong.py")
    with pytest.raises(ConfigError, match=r"wrong\.py:2: AttributeError"):
        read_file(write(folder, "_base_ = ['base.py', 'wrong.py']\n"))


def test_which_files_are_read(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"config file .*none\.py: no such file"):
        read_file(folder / "none.py")
    with pytest.raises(ConfigError, match=r"config\.yaml: expected a Python file"):
        read_file(folder / "config.yaml")
    (folder / "latin.py").write_bytes(b"# caf\xe9\n")
    with pytest.raises(ConfigError, match=r"latin\.py: expected UTF-8 text"):
        read_file(folder / "latin.py")
    leaf = write(folder, "_base_ = ['base.py']\n")
    assert bases(leaf) == [folder / "base.py"]
    assert chain(leaf) == [leaf, folder / "base.py"]


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")) | st.sampled_from(["{{", "a\n'"])
scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=12,
)


@settings(max_examples=10)
@given(values)
def test_what_is_written_is_read_back(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.mktemp("written") / "config.py"
    model_args = {"value": value}
    write_file({"model_args": model_args}, path, header="made by a test\nof two lines")
    assert repr(read_file(path)) == repr({"model_args": model_args})


def test_write_file_replaces_a_pipe(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "config.py")
    write_file({"number": 7}, tmp_path / "config.py", header="made by a test")
    assert read_file(tmp_path / "config.py") == {"number": 7}
    assert [path.name for path in tmp_path.iterdir()] == ["config.py"]

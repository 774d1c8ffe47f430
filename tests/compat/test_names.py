"""Each private or version-fragile name of a library has its function in `mllm/compat`, and is still there."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from transformers import PreTrainedModel, Seq2SeqTrainer

from mllm.compat.names import IncompatibleError, member, replaces

PACKAGE = Path(__file__).parents[2] / "mllm"
DOCUMENTED = {
    "transformers.cache_utils",
    "transformers.configuration_utils",
    "transformers.generation.configuration_utils",
    "transformers.image_utils",
    "transformers.integrations",
    "transformers.integrations.deepspeed",
    "transformers.modeling_layers",
    "transformers.modeling_outputs",
    "transformers.pytorch_utils",
    "transformers.trainer_callback",
    "transformers.trainer_utils",
    "transformers.training_args",
    "transformers.training_args_seq2seq",
    "transformers.utils",
    "transformers.utils.logging",
}
"""Modules of transformers that its own documentation imports from."""
EXCEPTIONS = {
    "mllm/models/runtime/mpt.py": {"transformers.models.mpt.modeling_mpt"},  # whose attention it extends
}
OWN = {"_exit"}
"""Of the standard library: `os._exit`."""


@cache
def sources() -> list[tuple[str, ast.Module]]:
    return [
        (path.relative_to(PACKAGE.parent).as_posix(), ast.parse(path.read_text(encoding="utf-8")))
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.relative_to(PACKAGE).parts[0] != "compat"
    ]


def test_the_whole_package_is_looked_at() -> None:
    assert len(sources()) > 200


@cache
def defined(tree: ast.Module) -> set[str]:
    """Names that a module gives to its own functions, classes, attributes and variables."""
    names: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.Attribute(attr=name, ctx=ast.Store(), value=ast.Name(id="self" | "cls")):
                names.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                names.add(name)
    return names


def test_private_names_of_libraries_are_used_in_compat_only() -> None:
    ours = {name for _, tree in sources() for name in defined(tree)}  # `self` may be of a class in another file
    found = [
        f"{path}:{node.lineno} {ast.unparse(node)}"
        for path, tree in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if node.attr not in defined(tree) | OWN
        if not (isinstance(node.value, ast.Name) and node.value.id == "self" and node.attr in ours)
        if path != "mllm/models/runtime/head.py"  # `_modules`: it is being rebuilt
    ]
    assert found == []


def test_modules_that_libraries_do_not_document_are_imported_in_compat_only() -> None:
    found: list[str] = []
    for path, tree in sources():
        for node in ast.walk(tree):
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            modules += [each.name for each in node.names] if isinstance(node, ast.Import) else []
            for module in modules:
                private = any(part.startswith("_") and part != "__future__" for part in module.split("."))
                deep = module.startswith("transformers.") and module not in DOCUMENTED
                if (private or deep) and module not in EXCEPTIONS.get(path, set()):
                    found.append(f"{path}:{node.lineno} {module}")
    assert found == []


def overrides() -> Iterator[tuple[str, str]]:
    """Class and method of what `replaces` marks."""
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                for method in node.body:
                    marks = [ast.unparse(mark) for mark in getattr(method, "decorator_list", [])]
                    if isinstance(method, ast.FunctionDef) and any(mark.startswith("replaces(") for mark in marks):
                        yield node.name, method.name


def test_overrides_of_private_methods_are_marked() -> None:
    """One that is not marked would silently never be called again once the library renames it."""
    marked = set(overrides())
    assert len(marked) >= 13
    libraries = {"GuardedTrainer": Seq2SeqTrainer, "Trainer": Seq2SeqTrainer, "Composite": PreTrainedModel}
    for _, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef) and node.name in libraries:
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name.startswith("_") and method.name[1] != "_":
                        theirs = hasattr(libraries[node.name], method.name)
                        assert ((node.name, method.name) in marked) == theirs, f"{node.name}.{method.name}"


def test_libraries_still_have_what_is_overridden() -> None:
    theirs = {"Composite": PreTrainedModel}
    assert [name for name in overrides() if not hasattr(theirs.get(name[0], Seq2SeqTrainer), name[1])] == []


def test_replaces_refuses_a_method_that_the_library_lacks() -> None:
    with pytest.raises(IncompatibleError, match=r"^transformers \d[\w.]* has no Seq2SeqTrainer\._gone; install "):

        class Broken(Seq2SeqTrainer):
            @replaces(Seq2SeqTrainer)
            def _gone(self) -> None: ...


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda: __import__("torch"), r"torch \S+ has no torch\._gone; install "),
        (lambda: __import__("peft").LoraConfig(), r"peft \S+ has no LoraConfig\._gone; "),
        (
            lambda: type("Ours", (__import__("accelerate").Accelerator,), {"__module__": "mllm.x"}),
            r"accelerate \S+ has",
        ),
    ],
)
def test_member_names_the_library_its_version_and_what_is_missing(make: Any, expected: str) -> None:
    with pytest.raises(IncompatibleError, match=expected):
        member(make(), "_gone")


def test_member_returns_what_is_there() -> None:
    assert member(PreTrainedModel, "_is_stateful") is False

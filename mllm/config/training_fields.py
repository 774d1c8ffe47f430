"""The fields of `RunArguments` and of transformers' `Seq2SeqTrainingArguments` below it, read from their source.

Importing transformers takes seconds, which `--help` and a misspelt argument need not wait for. What is read is the
source of the installed version, so it cannot go stale; `tests/config/test_training_fields.py` compares it with the
class itself.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, make_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

ROOT = ("mllm.config.run_arguments", "RunArguments")
_TYPES: dict[str, object] = {
    **{kind.__name__: kind for kind in (bool, int, float, str, list, dict, Path)},
    **{"Any": Any, "Literal": Literal},
}


class Computed:
    """What the source computes when it is imported, so that it is not known here."""


COMPUTED = Computed()


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingField:
    """A field that the constructor takes.

    Attributes:
        type: its annotation; an Enum has the members of the real one, a dataclass only the name.
        default: `COMPUTED` where it is no literal.
        metadata: what `HfArgumentParser` reads: help, choices, nargs, const; without those that are no literals.
    """

    name: str
    type: Any
    default: Any
    metadata: dict[str, Any]


def members_of(annotation: object) -> tuple[Any, ...]:
    """The types of a union; of `Enum | str` only the enum, whose values are the texts it means."""
    members = get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)
    return tuple(m for m in members if m is not str or not any(map(is_enum, members)))


def is_enum(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


@cache
def training_fields() -> dict[str, TrainingField]:
    """All fields by name, in the order of the dataclass."""
    return {field.name: field for field in _fields_of(*ROOT)}


def _fields_of(module: str, name: str) -> Iterator[TrainingField]:
    """The fields of a dataclass, those of its bases first."""
    place, node = _class(module, name)
    for base in node.bases:
        yield from _fields_of(place, ast.unparse(base))
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            given = _arguments(statement.value)
            if given.get("init", True):
                yield TrainingField(
                    name=statement.target.id,
                    type=_type(statement.annotation, place),
                    default=given["default"],
                    metadata=given.get("metadata", {}),
                )


def _arguments(value: ast.expr | None) -> dict[str, Any]:
    """What the right side of a field says: `default` always, `init` and `metadata` where they are given."""
    if not (isinstance(value, ast.Call) and ast.unparse(value.func) == "field"):
        return {"default": COMPUTED if value is None else _literal(value)}
    given = {keyword.arg: keyword.value for keyword in value.keywords}
    found: dict[str, Any] = {"default": _literal(given["default"]) if "default" in given else COMPUTED}
    if "default_factory" in given:
        found["default"] = {"list": [], "dict": {}}.get(ast.unparse(given["default_factory"]), COMPUTED)
    if "init" in given:
        found["init"] = _literal(given["init"])
    metadata = given.get("metadata")
    if isinstance(metadata, ast.Dict):
        pairs = {
            _literal(key): _literal(entry) for key, entry in zip(metadata.keys, metadata.values, strict=True) if key
        }
        found["metadata"] = {key: entry for key, entry in pairs.items() if entry is not COMPUTED}
    return found


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return COMPUTED


def _type(node: ast.expr, module: str) -> Any:
    """An annotation as `typing.get_type_hints` would give it."""
    if isinstance(node, ast.Constant):
        return type(None) if node.value is None else _type(ast.parse(str(node.value), mode="eval").body, module)
    if isinstance(node, ast.BinOp):
        return _type(node.left, module) | _type(node.right, module)
    if isinstance(node, ast.Subscript):
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        outer = _type(node.value, module)
        return outer[tuple(_literal(each) if outer is Literal else _type(each, module) for each in inner)]
    name = ast.unparse(node)
    return _TYPES[name] if name in _TYPES else _named(module, name)


@cache
def _named(module: str, name: str) -> Any:
    """A stand-in for a class: an Enum of its values, a dataclass without fields, or a bare class."""
    _, node = _class(module, name)
    if any(ast.unparse(base).endswith("Enum") for base in node.bases):
        members = [
            (statement.targets[0].id, _literal(statement.value))
            for statement in node.body
            if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
        ]
        return Enum(name, members)
    if any(ast.unparse(decorator).startswith("dataclass") for decorator in node.decorator_list):
        return make_dataclass(name, [])
    return type(name, (), {})


def _class(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The module where a class is defined that `module` names, and its definition up to its first method.

    Only these lines are parsed: parsing whole modules takes longer than all else that `--help` does with the fields.
    """
    source = _source(module)
    defined = re.search(rf"^(?:@.*\n)*class {name}\b.*\n(?:(?! +(?:def |@)).*\n)*?(?=\S| +(?:def |@)|\Z)", source, re.M)
    if defined:
        (node,) = ast.parse(defined[0]).body
        assert isinstance(node, ast.ClassDef)
        return module, node
    for dots, origin, names in re.findall(r"^ *from (\.*)([\w.]*) import (\([^)]*\)|.*)", source, re.M):
        if re.search(rf"\b{name}\s*(?:,|\)|#|$)", names, re.M):
            package = module.split(".")[: -len(dots)] if dots else []
            return _class(".".join((*package, origin) if origin else package), name)
    raise AssertionError(f"{module} neither defines nor imports {name}")


@cache
def _source(module: str) -> str:
    """The source of a module, none of which is imported."""
    package, *parts = module.split(".")
    spec = importlib.util.find_spec(package)
    folders = spec and spec.submodule_search_locations
    assert folders, f"{package} is installed as a package"
    path = Path(folders[0], *parts)
    path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return path.read_text(encoding="utf-8")

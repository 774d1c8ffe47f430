"""`--cfg-options a.b=c`: single values changed on the command line."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from typing import Any

from mllm.compat.mmengine import read_list, read_scalar
from mllm.errors import ConfigError
from mllm.fields import show

PLACE = "--cfg-options"
"""Where messages say that an option stands, its key behind."""
JSON_WORDS = {"true": True, "false": False, "null": None}


def assign(cfg: Mapping[str, object], option: str) -> dict[str, object]:
    """`cfg` with `a.b.0.c=value` carried out: a number picks from a list, a missing dict is made on the way.

    A dict is merged into a dict, unless it holds `_delete_=True`; everything else replaces what was there.

    Raises:
        ConfigError: no `=`, an index beyond the list, or a step into something that is neither dict nor list.
    """
    path, equals, text = option.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(where=PLACE, expected="key=value, for example training_args.seed=1", found=show(option))
    try:
        return _assign(cfg, path.split("."), value(text), ())
    except ConfigError as error:
        raise error.at(f"{PLACE} {path}") from error


def set_by_option(field: str, options: Sequence[str], before: Mapping[str, object]) -> bool:
    """Whether an option set what stands in `field`, or made it where the config had nothing `before`."""
    for option in options:
        path = option.partition("=")[0]
        if f"{field}.".startswith(f"{path}."):
            return True
        if f"{path}.".startswith(f"{field}.") and not _holds(before, field.split(".")):
            return True
    return False


def _holds(node: object, keys: Sequence[str]) -> bool:
    for key in keys:
        if isinstance(node, (list, tuple)) and key.isdecimal() and int(key) < len(node):
            node = node[int(key)]
        elif isinstance(node, Mapping) and key in node:
            node = node[key]
        else:
            return False
    return True


def value(text: str) -> Any:
    """A Python literal, in which `dict(a=1)` and JSON's `true`, `false`, `null` may stand; else mmengine's short form:
    `true`, `None`, `1e-5`, `a,b`, `[a,b]`, `(1,[x,y])`, bare text.

    In the short form a comma makes a list and the spaces inside lists are lost: put quotes around such a text,
    `key='"one, two"'`.

    Raises:
        ConfigError: a `dict(...)` that is no literal, brackets that do not match or are nested too deep, or commas that
            stand in brackets behind a text.
    """
    if text.lstrip().startswith(("'", '"', "[", "(", "{", "dict(")):
        try:
            return ast.literal_eval(_Spelled().visit(ast.parse(text.strip(), mode="eval")))
        except (SyntaxError, TypeError, ValueError) as error:
            if text.lstrip().startswith("dict("):  # the others may be the short form, such as [a,b]
                expected = "dict(key=value, ...) of numbers, texts in quotes, lists and dicts"
                raise ConfigError(expected=expected, found=show(text)) from error
        except (MemoryError, RecursionError) as error:  # what Python's parser says of it
            raise ConfigError("brackets are nested too deep") from error
    if "," in text or (text[:1], text[-1:]) in (("[", "]"), ("(", ")")):
        try:
            return read_list(text)
        except ValueError as error:
            raise ConfigError(f"{error}; put quotes around a text with commas") from error
    return read_scalar(text)


class _Spelled(ast.NodeTransformer):
    """`dict(a=1)` as the literal that it means, and the words of JSON as Python's."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        keys = [ast.Constant(keyword.arg) for keyword in node.keywords if keyword.arg is not None]
        if not isinstance(node.func, ast.Name) or node.func.id != "dict" or node.args or len(keys) < len(node.keywords):
            return node
        return ast.Dict(keys=list(keys), values=[keyword.value for keyword in node.keywords])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        return ast.Constant(JSON_WORDS[node.id]) if node.id in JSON_WORDS else node


def _assign(node: object, keys: list[str], new: object, done: tuple[str, ...]) -> Any:
    if not keys:
        if not isinstance(node, Mapping) or not isinstance(new, Mapping):
            return new
        from mmengine.config import ConfigDict  # it takes a third of a second

        merged = ConfigDict(node)
        merged.merge(dict(new))
        return merged.to_dict()
    key, *rest = keys
    here = ".".join(done)
    if isinstance(node, (list, tuple)):
        if not key.isdecimal() or int(key) >= len(node):
            raise ConfigError(
                field=here,
                expected=f"an index from 0 to {len(node) - 1}" if node else "a list with entries",
                found=repr(key) if node else "an empty list",
            )
        members = list(node)
        members[int(key)] = _assign(members[int(key)], rest, new, (*done, key))
        return tuple(members) if isinstance(node, tuple) else members
    if node is not None and not isinstance(node, Mapping):
        raise ConfigError(field=here, expected="a dict or a list to change a value in", found=show(node))
    return {**(node or {}), key: _assign((node or {}).get(key), rest, new, (*done, key))}

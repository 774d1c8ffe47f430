"""`--cfg-options a.b=c`: single values changed on the command line."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from mllm.compat.mmengine import read_list, read_scalar
from mllm.errors import ConfigError
from mllm.fields import show


def assign(cfg: Mapping[str, Any], option: str) -> dict[str, Any]:
    """`cfg` with `a.b.0.c=value` carried out: a number picks from a list, a missing dict is made on the way.

    A dict is merged into a dict, unless it holds `_delete_=True`; everything else replaces what was there.

    Raises:
        ConfigError: no `=`, an index beyond the list, or a step into something that is neither dict nor list.
    """
    path, equals, text = option.partition("=")
    if not equals or not all(path.split(".")):
        raise ConfigError(
            where="--cfg-options", expected="key=value, for example training_args.seed=1", found=repr(option)
        )
    return _assign(cfg, path.split("."), value(text), path, ())


def value(text: str) -> Any:
    """A Python literal, else mmengine's short form: `true`, `None`, `1e-5`, `a,b`, `[a,b]`, `(1,[x,y])`, bare text.

    In the short form a comma makes a list and the spaces inside lists are lost: put quotes around such a text,
    `key='"one, two"'`.

    Raises:
        ConfigError: brackets that do not match.
    """
    if text.lstrip().startswith(("'", '"', "[", "(", "{")):
        try:
            return ast.literal_eval(text.strip())
        except (SyntaxError, ValueError):
            pass  # the short form, such as [a,b], or a text that merely begins so
    if "," in text or (text[:1], text[-1:]) in (("[", "]"), ("(", ")")):
        try:
            return read_list(text)
        except ValueError as error:
            raise ConfigError(f"--cfg-options: {error}; put quotes around a text with commas") from error
    return read_scalar(text)


def _assign(node: Any, keys: list[str], new: Any, path: str, done: tuple[str, ...]) -> Any:
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
                where=f"--cfg-options {path}",
                field=here,
                expected=f"an index from 0 to {len(node) - 1}" if node else "a list with entries",
                found=repr(key) if node else "an empty list",
            )
        members = list(node)
        members[int(key)] = _assign(members[int(key)], rest, new, path, (*done, key))
        return tuple(members) if isinstance(node, tuple) else members
    if node is not None and not isinstance(node, Mapping):
        raise ConfigError(
            where=f"--cfg-options {path}",
            field=here,
            expected="a dict or a list to change a value in",
            found=show(node),
        )
    return {**(node or {}), key: _assign((node or {}).get(key), rest, new, path, (*done, key))}

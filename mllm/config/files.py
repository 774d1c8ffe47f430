"""A Python config file together with its `_base_` files <-> one plain dict.

mmengine reads and merges the files. Around it: its errors are told with file and line, an import is refused (it would
silently switch mmengine to another kind of config), and the result holds nothing but numbers, texts, lists, tuples and
dicts, none of them shared, so that it can be changed at one place and written back.
"""

from __future__ import annotations

import ast
import math
import sys
import traceback
from collections.abc import Iterable, Mapping
from enum import Enum
from pathlib import Path, PurePath
from types import BuiltinFunctionType
from typing import Any

from mllm.errors import ConfigError
from mllm.fields import show

DELETE_KEY = "_delete_"
"""mmengine's: what was inherited is dropped, not merged."""

# What running a config file may raise: its own mistakes, and those that mmengine finds when it merges.
MISTAKES = (
    ArithmeticError, AssertionError, AttributeError, ImportError, LookupError, NameError, OSError, RuntimeError,
    SyntaxError, TypeError, ValueError,
)  # fmt: skip


def read_file(path: str | Path) -> dict[str, object]:
    """The names that a config file and its bases define, later ones winning; UPPERCASE constants are left out.

    Raises:
        ConfigError: a file is missing, is not Python, imports a module outside the standard library, fails while it
            runs, or defines something that is not plain data.
    """
    files = {str(file.resolve()): file for file in chain(path)}
    from mmengine.config import Config  # it takes a third of a second

    try:
        # lazy_import=False: with None, a leaf with an import would be read by other rules than its bases
        read = Config.fromfile(str(path), lazy_import=False, import_custom_modules=False, format_python_code=False)
    except MISTAKES as error:
        raise ConfigError(
            message_of(error), where=_place(error, files, Path(path)), field=type(error).__name__
        ) from error
    names = {name: read[name] for name in read}
    return {
        name: to_plain(value, f"{path}: {name}")
        for name, value in names.items()
        # classes and functions are there because the file imported them from the standard library
        if not name.isupper() and not isinstance(value, (type, BuiltinFunctionType))
    }


def chain(path: str | Path) -> list[Path]:
    """The file, then the files it inherits from, depth first.

    Raises:
        ConfigError: as `read_file`, but nothing is run.
    """
    return _chain(Path(path), ())


def bases(path: Path) -> list[Path]:
    """The files that `_base_` names, relative to the file's own folder."""
    for node in _parse(path).body:
        if isinstance(node, ast.Assign) and any(isinstance(t, ast.Name) and t.id == "_base_" for t in node.targets):
            try:
                named = ast.literal_eval(node.value)
            except ValueError:
                named = None
            named = [named] if isinstance(named, str) else named
            if not isinstance(named, (list, tuple)) or not all(isinstance(base, str) for base in named):
                raise ConfigError(
                    where=f"{path}:{node.lineno}",
                    field="_base_",
                    expected="a file name or a list of them, as literals",
                    found=show(ast.unparse(node.value)),
                )
            return [path.parent / base for base in named]
    return []


def _chain(path: Path, children: tuple[Path, ...]) -> list[Path]:
    by = f" (the _base_ of {children[-1]})" if children else ""
    hint = "" if by else "`mllm list configs` lists those that come with mllm"
    if path.suffix != ".py":
        raise ConfigError(hint, where=f"config file {path}{by}", expected="a Python file, *.py", found=repr(path.name))
    if not path.is_file():
        raise ConfigError("; ".join(filter(None, ("no such file", hint))), where=f"config file {path}{by}")
    if path.resolve() in (child.resolve() for child in children):
        raise ConfigError(
            where=str(path),
            field="_base_",
            expected="files that do not lead back to this one",
            found=" -> ".join(map(str, (*children, path))),
        )
    _refuse_imports(path)
    return [path, *(file for base in bases(path) for file in _chain(base, (*children, path)))]


def _parse(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))
    except UnicodeDecodeError as error:
        raise ConfigError(
            where=str(path),
            expected="UTF-8 text",
            found=f"byte 0x{error.object[error.start]:02x} at position {error.start}",
        ) from error
    except (SyntaxError, ValueError) as error:
        line = f":{error.lineno}" if isinstance(error, SyntaxError) else ""
        raise ConfigError(message_of(error), where=f"{path}{line}", field=type(error).__name__) from error


def _refuse_imports(path: Path) -> None:
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = ["." * node.level + (node.module or "")]
        else:
            continue
        for module in modules:
            if module.split(".")[0] not in sys.stdlib_module_names:
                raise ConfigError(
                    "name other config files in _base_, and modules that register components in "
                    "custom_imports = dict(imports=[...])",
                    where=f"{path}:{node.lineno}",
                    expected="imports from Python's standard library only",
                    found=f"'{module}'",
                )


def _place(error: BaseException, files: Mapping[str, Path], path: Path) -> str:
    """`file:line` of the last config file that the error passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename in files]
    return f"{files[frames[-1].filename]}:{frames[-1].lineno}" if frames else str(path)


def message_of(error: BaseException) -> str:
    """What an error says, without the quotes and places that its text may have."""
    if isinstance(error, SyntaxError):
        return error.msg
    # str(KeyError("a b")) is quoted
    return str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)


def to_plain(value: object, where: str) -> Any:
    """A copy made of dicts, lists, tuples and scalars only; paths become texts, enum members their values.

    Raises:
        ConfigError: anything else, named by `where`.
    """
    if isinstance(value, Enum):
        return to_plain(value.value, where)
    if isinstance(value, PurePath):
        return str(value)
    if isinstance(value, Mapping):
        for key in value:
            if key is not None and not isinstance(key, (str, int, float, bool)):
                raise ConfigError(where=where, expected="keys that are texts or numbers", found=_kind(key))
        # mmengine leaves _delete_ in place where there was nothing to delete
        return {key: to_plain(member, f"{where}.{key}") for key, member in value.items() if key != DELETE_KEY}
    if isinstance(value, (list, tuple)):
        members = [to_plain(member, f"{where}.{number}") for number, member in enumerate(value)]
        return tuple(members) if isinstance(value, tuple) else members
    if isinstance(value, str) and "\0" in value:  # no path may have one
        raise ConfigError(where=where, expected="a text without null characters", found=show(value))
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    raise ConfigError(where=where, expected="numbers, texts, lists or dicts", found=_kind(value))


def _kind(value: object) -> str:
    return f"{value!r} of type {type(value).__name__}"


def write_file(names: Mapping[str, object], path: Path, *, header: str) -> None:
    """Write plain `names` as a config file; `header` goes above them as comments."""
    lines = [f"# {line}".rstrip() for line in header.splitlines()]
    lines += [f"{name} = {_literal(value, 0)}" for name, value in names.items()]
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text("\n".join(lines) + "\n", encoding="utf-8")
    partial.replace(path)  # whatever lies there, a pipe for one


def _literal(value: object, depth: int) -> str:
    if isinstance(value, Mapping):
        return _lines("{", (f"{_literal(k, 0)}: {_literal(v, depth + 1)}" for k, v in value.items()), "}", depth)
    if isinstance(value, (list, tuple)):
        left, right = "[]" if isinstance(value, list) else "()"
        members = [_literal(member, depth + 1) for member in value]
        if not any(isinstance(member, (Mapping, list, tuple)) for member in value):
            comma = "," if isinstance(value, tuple) and len(value) == 1 else ""
            return f"{left}{', '.join(members)}{comma}{right}"
        return _lines(left, members, right, depth)
    if isinstance(value, float) and not math.isfinite(value):
        return f"float('{value}')"
    # two braces start one of mmengine's substitutions, also inside a text
    return repr(value).replace("{{", "{\\x7b") if isinstance(value, str) else repr(value)


def _lines(left: str, members: Iterable[str], right: str, depth: int) -> str:
    inner = "".join(f"{'    ' * (depth + 1)}{member},\n" for member in members)
    return f"{left}\n{inner}{'    ' * depth}{right}" if inner else f"{left}{right}"

"""Mutation check: changes one thing at a time in a source file, and runs the file's tests on each change.

    python tools/mutants.py mllm/metrics/rec.py [more files] [--tests tests/metrics tests/test_types.py]

Prints each change that no test notices, and for each file how many changes there were and how many were noticed. What
`tools/mutants.txt` lists is left out: changes that alter nothing anybody can see, each with the reason.

Every change runs in a fork of this process, which has imported the libraries, so that it costs what its tests cost.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.abc
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import hypothesis
import pytest

ROOT = Path(__file__).parent.parent
EXPLAINED = ROOT / "tools" / "mutants.txt"
COMPARE: dict[Any, Any] = {
    **{ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq},
    **{ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In},
}
ARITHMETIC: dict[Any, Any] = {
    **{ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult},
    **{ast.Mod: ast.Mult, ast.Pow: ast.Mult, ast.BitOr: ast.BitAnd, ast.BitAnd: ast.BitOr},
}
LIBRARIES = ("torch", "transformers", "PIL.Image", "mmengine.registry", "numpy", "mllm.registry", "mllm.geometry")
"""Imported once; nothing of our own that a file to be checked lies below."""
UNSEEN = {"annotation", "returns", "decorator_list", "type_params", "exc", "cause", "bases"}
"""Fields of a node that are not changed: types, decorators, and what an error says."""


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What could stand in the place of one node."""
    match node:
        case ast.Compare(ops=[operator]):
            yield ast.Compare(node.left, [COMPARE[type(operator)]()], node.comparators)
        case ast.BoolOp():
            yield ast.BoolOp(ast.Or() if isinstance(node.op, ast.And) else ast.And(), node.values)
        case ast.BinOp() if type(node.op) in ARITHMETIC:
            yield ast.BinOp(node.left, ARITHMETIC[type(node.op)](), node.right)
        case ast.UnaryOp():
            yield node.operand
        case ast.Constant(value=bool(value)):
            yield ast.Constant(not value)
        case ast.Constant(value=int(value) | float(value)):
            yield ast.Constant(value + 1)
        case ast.Constant(value=str(value)) if value and " " not in value:  # prose is not tested word by word
            yield ast.Constant(f"X{value}")
        case ast.If() | ast.While() | ast.IfExp() if isinstance(node.test, ast.Name | ast.Call | ast.Attribute):
            changed = copy.copy(node)
            changed.test = ast.UnaryOp(ast.Not(), node.test)
            yield changed
        case ast.comprehension(ifs=[_, *_]):
            yield ast.comprehension(node.target, node.iter, [], node.is_async)
        case ast.Return(value=ast.expr()) if not isinstance(node.value, ast.Constant):
            yield ast.Return(ast.Constant(None))
        case ast.Break():
            yield ast.Continue()
        case ast.Continue() | ast.Raise() | ast.Expr(value=ast.Call()) | ast.AugAssign():
            yield ast.Pass()


def mutants(tree: ast.Module) -> Iterator[tuple[int, str, str]]:
    """Line, its code and the changed code, of each change in turn; while it is looked at, `tree` is changed."""
    yield from _below(tree, 0)


def _below(owner: ast.AST, line: int) -> Iterator[tuple[int, str, str]]:
    for name, value in ast.iter_fields(owner):
        places = value if isinstance(value, list) else [value]
        for number, node in enumerate(places):
            if name in UNSEEN or not isinstance(node, ast.AST) or _says_nothing(node):
                continue
            at = getattr(node, "lineno", line)
            for changed in changes(node):
                put = partial(places.__setitem__, number) if places is value else partial(setattr, owner, name)
                was, becomes = (ast.unparse(ast.fix_missing_locations(each)) for each in (node, changed))
                put(changed)
                yield at, was.splitlines()[0], becomes.splitlines()[0]
                put(node)
            yield from _below(node, at)


def _says_nothing(node: ast.AST) -> bool:
    """A docstring, an assertion, what an f-string says, or what only a type checker reads."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    return docstring or typing or isinstance(node, ast.JoinedStr | ast.Assert)


class Changed(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Imports one module from a changed tree."""

    def __init__(self, path: Path, code: Any) -> None:
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        self.path, self.code = path, code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return (
            importlib.util.spec_from_file_location(self.name, self.path, loader=self) if fullname == self.name else None
        )

    def exec_module(self, module: Any) -> None:
        exec(self.code, module.__dict__)  # noqa: S102, a changed copy of our own source


def noticed(path: Path, tree: ast.Module, tests: list[str], limit: float) -> bool:
    """Whether the tests fail on the changed module; one that takes longer than `limit` seconds has failed."""
    try:
        code = compile(ast.fix_missing_locations(tree), str(path), "exec")
    except (SyntaxError, ValueError):
        return True
    child = os.fork()
    if child == 0:
        with open(os.devnull, "w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        os.setpgrp()
        sys.meta_path.insert(0, Changed(path, code))
        plugins = [f"-pno:{name}" for name in ("cacheprovider", "anyio", "xdist")]
        os._exit(int(pytest.main([*tests, "-x", "-q", *plugins, "--hypothesis-profile", "mutants"])))
    end = time.monotonic() + limit
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status) != 0
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def explained() -> set[tuple[str, str, str]]:
    """File, code and changed code of the changes that nobody could see."""
    lines = EXPLAINED.read_text().splitlines() if EXPLAINED.exists() else []
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return {(row[0], row[1], row[2]) for row in rows}


def check(path: Path, tests: list[str]) -> None:
    """Print what the tests of a file do not notice."""
    known = explained()
    tree = ast.parse(path.read_text())
    start = time.monotonic()
    if noticed(path, tree, tests, 600):
        sys.exit(f"{path}: its tests fail without a change: {' '.join(tests)}")
    limit = 20 + 5 * (time.monotonic() - start)
    name = str(path.relative_to(ROOT))
    made = killed = 0
    for line, was, becomes in mutants(tree):
        if (name, was, becomes) in known:
            continue
        made += 1
        if noticed(path, tree, tests, limit):
            killed += 1
        else:
            print(f"{name}:{line} | {was} | {becomes}", flush=True)
    print(f"{name}: {killed} of {made} noticed ({killed / max(made, 1):.0%})", flush=True)


def tests_of(path: Path) -> list[str]:
    """The test file that mirrors a source file, or else those of its folder."""
    folder = Path("tests", *path.relative_to(ROOT / "mllm").parts[:-1])
    mirror = folder / f"test_{path.stem}.py"
    return [str(mirror if (ROOT / mirror).exists() else folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Change a source file in many ways, and see which its tests notice.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", default=[], help="test files; by default the mirror of each source file")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # what fails need not be made small
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, derandomize=True, phases=phases)
    for file in args.files:
        check(file.resolve(), args.tests or tests_of(file.resolve()))


if __name__ == "__main__":
    main()

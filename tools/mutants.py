"""Mutation check: changes one thing at a time in a source file, and runs the file's tests on each change.

    python tools/mutants.py mllm/metrics/rec.py [more files] [--tests tests/metrics tests/test_types.py] [--sample 100]

Prints each change that no test notices, and for each file how many changes there were and how many were noticed. What
`tools/mutants.txt` lists is left out: changes that alter nothing anybody can see, each with the reason. `--sample`
tries so many changes of each file, drawn by `--seed`.

Every change runs in a fork: of a process that has loaded the tests, where it is in a function, else of one that has
imported the libraries. So it costs what the tests of its function cost.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import copy
import gc
import importlib.abc
import importlib.util
import json
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import CodeType, FrameType, FunctionType
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
MEMORY = 6 * 2**30
"""Bytes that the tests of a change may take: a loop that does not end may fill a list."""
QUICK = 0.1
"""Seconds of a test that is run though it calls nothing of the file: it may see a constant."""
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
            if name in UNSEEN or not isinstance(node, ast.AST) or _says_nothing(node) or _is_cast_to(owner, node):
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
    """A docstring, an assertion (`strict` of zip is one), what an f-string says, or what only a type checker reads."""
    docstring = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    typing = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    strict = isinstance(node, ast.keyword) and node.arg == "strict"
    return docstring or typing or strict or isinstance(node, ast.JoinedStr | ast.Assert)


def _is_cast_to(owner: ast.AST, node: ast.AST) -> bool:
    """Whether a node is the type that `cast` tells a type checker."""
    return isinstance(owner, ast.Call) and ast.unparse(owner.func) == "cast" and node is owner.args[0]


class Changed(importlib.abc.Loader, importlib.abc.MetaPathFinder):
    """Imports one module from a changed tree."""

    def __init__(self, path: Path, code: CodeType) -> None:
        self.name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        self.path, self.code = path, code

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> Any:
        return (
            importlib.util.spec_from_file_location(self.name, self.path, loader=self) if fullname == self.name else None
        )

    def exec_module(self, module: Any) -> None:
        exec(self.code, module.__dict__)  # noqa: S102, a changed copy of our own source


def compiled(path: Path, tree: ast.Module) -> CodeType | None:
    """The code of a tree; None where Python refuses it."""
    try:
        return compile(ast.fix_missing_locations(tree), str(path), "exec")
    except (SyntaxError, ValueError):
        return None


def apart(work: Callable[[], Any], limit: float) -> Any:
    """What `work` gives in a fork of this process; None where it raises or takes `limit` seconds of processor time."""
    with tempfile.TemporaryFile("w+") as answer:
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                with open(os.devnull, "w") as nowhere:
                    os.dup2(nowhere.fileno(), 1)
                    os.dup2(nowhere.fileno(), 2)
                os.setpgrp()
                seconds = int(time.process_time() + limit) + 1
                resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
                resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
                json.dump(work(), answer)
                answer.flush()
            os._exit(0)
        end = time.monotonic() + 10 * limit  # others may have the processor
        while os.waitpid(child, os.WNOHANG) == (0, 0):
            if time.monotonic() > end:
                os.killpg(child, signal.SIGKILL)
            time.sleep(0.002)
        answer.seek(0)
        text = answer.read()
    return json.loads(text) if text else None


def passes(tests: list[str], folder: str, plugins: Sequence[object] = ()) -> bool:
    """Whether pytest passes, with its files in `folder`."""
    off = [f"-pno:{name}" for name in ("cacheprovider", "anyio", "xdist")]
    args = [*tests, "-x", "-q", *off, "--hypothesis-profile", "mutants", "--basetemp", f"{folder}/tests"]
    return int(pytest.main(args, list(plugins))) == 0


def passes_changed(path: Path, code: CodeType, tests: list[str], folder: str, order: Sequence[int]) -> bool:
    """Whether those of the tests that `order` names pass when they import the changed module."""
    sys.meta_path.insert(0, Changed(path, code))
    return passes(tests, folder, [Chosen(order)])


class Chosen:
    """A pytest plugin that runs some of the tests, in an order of their own."""

    def __init__(self, order: Sequence[int]) -> None:
        self.order = order

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = [items[place] for place in self.order]


def swaps(old: CodeType, new: CodeType, live: Mapping[CodeType, list[FunctionType]]) -> dict[FunctionType, CodeType]:
    """The code that each function would have if the module were the changed one.

    Raises:
        LookupError: more would change than what functions do.
    """
    if old in live and old.co_freevars == new.co_freevars:
        return {} if old == new else dict.fromkeys(live[old], new)
    (was, inside), (becomes, changed) = (
        ([repr(each) for each in code.co_consts if not isinstance(each, CodeType)],
         [each for each in code.co_consts if isinstance(each, CodeType)])
        for code in (old, new)
    )  # fmt: skip
    if (old.co_code, old.co_names, was, len(inside)) != (new.co_code, new.co_names, becomes, len(changed)):
        raise LookupError
    return {key: code for pair in zip(inside, changed, strict=True) for key, code in swaps(*pair, live).items()}


class Loaded:
    """A pytest plugin that tries changes of what functions do, with the tests loaded: it exchanges their code.

    Each change meets the tests that call the function, the fastest first. What runs when the tests are imported cannot
    be exchanged; those changes are for `passes_changed`, and meet the tests that call something of the file, then the
    quick ones.

    Attributes:
        noticed: whether a test noticed a change, by its number; of those that could be tried.
        modules: what the tests import; empty where one fails without a change.
        order: the places of the tests that call something of the file, or are quick.
        seconds: what these take.
    """

    def __init__(self, path: Path, chosen: Sequence[int]) -> None:
        self.path, self.chosen = path, frozenset(chosen)
        self.called: set[tuple[str, int]] = set()
        self.noticed: dict[int, bool] = {}
        self.modules: list[str] = []
        self.order: list[int] = []
        self.seconds = 0.0
        sys.settrace(self._call)

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        watched = apart(partial(self._watch, session), 1000)
        rows, self.modules = watched or ([], [])
        imported_too(self.modules)
        sys.settrace(None)
        if not watched:
            return True
        imported = set(self.called)  # by the modules of the tests, and those that a test is the first to import
        seconds, calls = zip(*rows, strict=True)
        some = [place for place, called in enumerate(calls) if called or seconds[place] < QUICK] or range(len(calls))
        order = self.order = sorted(some, key=lambda place: (not calls[place], seconds[place]))
        self.seconds = sum(seconds[place] for place in order)
        limit = 5 + 3 * self.seconds
        if not apart(partial(_pass, session, session.items, order, {}), limit):  # a test needs those before it
            order.sort()
        live = self._functions()
        tree = ast.parse(self.path.read_text())
        original = compiled(self.path, tree)
        assert original is not None
        for number, _ in enumerate(mutants(tree)):
            changed = compiled(self.path, tree) if number in self.chosen else None
            try:
                codes = swaps(original, changed, live) if changed else {}
            except LookupError:
                continue
            names = {_name(function.__code__) for function in codes}
            chosen = [place for place in order if names & set(map(tuple, calls[place]))]
            noticed = bool(chosen) and not apart(partial(_pass, session, session.items, chosen, codes), limit)
            if noticed or not names & imported:
                self.noticed[number] = noticed
        return True

    def _call(self, frame: FrameType, event: str, arg: object) -> None:
        if frame.f_code.co_filename == str(self.path):
            self.called.add(_name(frame.f_code))

    def _functions(self) -> dict[CodeType, list[FunctionType]]:
        """The functions of the file by their code."""
        found: dict[CodeType, list[FunctionType]] = {}
        gc.unfreeze()
        for each in gc.get_objects():
            if type(each) is FunctionType and each.__code__.co_filename == str(self.path):
                found.setdefault(each.__code__, []).append(each)
        gc.freeze()
        return found

    def _watch(self, session: pytest.Session) -> tuple[list[tuple[float, list[tuple[str, int]]]], list[str]] | None:
        """Seconds of each test, and what it calls of the file; the names of all modules. None where a test fails."""
        rows: list[tuple[float, list[tuple[str, int]]]] = []
        sys.settrace(self._call)
        for item, after in zip(session.items, [*session.items[1:], None], strict=True):
            self.called.clear()
            start = time.process_time()
            item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
            rows.append((time.process_time() - start, list(self.called)))
        return None if session.testsfailed else (rows, list(sys.modules))


def imported_too(modules: Iterable[str], *, but: tuple[str, ...] = ()) -> None:
    """Import what a fork has imported, so that the next ones need not, except for packages of some names."""
    for module in modules:
        if module.partition(".")[0] not in ("__main__", "tests", "conftest", *but):
            with contextlib.suppress(ImportError):
                importlib.import_module(module)
    gc.collect()
    gc.freeze()


def _name(code: CodeType) -> tuple[str, int]:
    return code.co_qualname, code.co_firstlineno


def _pass(
    session: pytest.Session, items: Sequence[pytest.Item], order: Sequence[int], codes: Mapping[FunctionType, CodeType]
) -> bool:
    """Whether the tests pass in this order, with other code in some functions."""
    for function, code in codes.items():
        function.__code__ = code
    for place, after in zip(order, [*order[1:], None], strict=True):
        follows = None if after is None else items[after]
        items[place].config.hook.pytest_runtest_protocol(item=items[place], nextitem=follows)
        if session.testsfailed:
            return False
    return True


def loaded(path: Path, chosen: Sequence[int], tests: list[str], folder: str) -> dict[str, Any]:
    """What is known of the tests, and of the chosen changes, once they are loaded: see the attributes of `Loaded`."""
    plugin = Loaded(path, chosen)
    passes(tests, folder, [plugin])
    return {name: getattr(plugin, name) for name in ("noticed", "modules", "order", "seconds")}


def explained() -> set[tuple[str, str, str]]:
    """File, code and changed code of the changes that nobody could see."""
    lines = EXPLAINED.read_text().splitlines() if EXPLAINED.exists() else []
    rows = [line.split(" | ") for line in lines if line and not line.startswith("#")]
    return {(row[0], row[1], row[2]) for row in rows}


def numbers(tree: ast.Module, known: set[tuple[str, str]], sample: int | None, seed: int) -> list[int]:
    """The numbers of the changes to try: of those that are not known, all or a sample."""
    unknown = [number for number, (_, was, becomes) in enumerate(mutants(tree)) if (was, becomes) not in known]
    if sample is None or sample >= len(unknown):
        return unknown
    return sorted(random.Random(seed).sample(unknown, sample))


def check(path: Path, tests: list[str], folder: str, sample: int | None = None, seed: int = 0) -> None:
    """Print what the tests of a file do not notice."""
    name = str(path.relative_to(ROOT))
    known = {(was, becomes) for file, was, becomes in explained() if file == name}
    tree = ast.parse(path.read_text())
    chosen = numbers(tree, known, sample, seed)
    judged = apart(partial(loaded, path, chosen, tests, folder), 10**6)
    if not judged or not judged["modules"]:
        sys.exit(f"{path}: its tests fail without a change: {' '.join(tests)}")
    imported_too(judged["modules"], but=("mllm",))
    limit = 10 + 3 * judged["seconds"]
    killed = 0
    for number, (line, was, becomes) in enumerate(mutants(tree)):
        if number not in chosen:
            continue
        noticed = judged["noticed"].get(str(number))
        if noticed is None:
            code = compiled(path, tree)
            rest = partial(passes_changed, path, code, tests, folder, judged["order"]) if code else None
            noticed = rest is None or not apart(rest, limit)
        killed += noticed
        if not noticed:
            print(f"{name}:{line} | {was} | {becomes}", flush=True)
    print(f"{name}: {killed} of {len(chosen)} noticed ({killed / max(len(chosen), 1):.0%})", flush=True)


def tests_of(path: Path) -> list[str]:
    """The test file that mirrors a source file, or else those of its folder."""
    folder = Path("tests", *path.relative_to(ROOT / "mllm").parts[:-1])
    mirror = folder / f"test_{path.stem}.py"
    return [str(mirror if (ROOT / mirror).exists() else folder)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Change a source file in many ways, and see which its tests notice.")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--tests", nargs="+", default=[], help="test files; by default the mirror of each source file")
    parser.add_argument("--sample", type=int, metavar="N", help="try N changes of each file; by default all")
    parser.add_argument("--seed", type=int, default=0, help="which changes a sample holds")
    args = parser.parse_args()
    os.chdir(ROOT)
    sys.path.insert(0, str(ROOT))
    phases = [hypothesis.Phase.explicit, hypothesis.Phase.generate]  # what fails need not be made small
    hypothesis.settings.register_profile("mutants", deadline=None, database=None, derandomize=True, phases=phases)
    with tempfile.TemporaryDirectory() as folder:
        for file in args.files:
            check(file.resolve(), args.tests or tests_of(file.resolve()), folder, args.sample, args.seed)


if __name__ == "__main__":
    main()

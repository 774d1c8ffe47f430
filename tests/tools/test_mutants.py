from __future__ import annotations

import ast
from pathlib import Path
from types import CodeType, FunctionType

import pytest

from tools import mutants as tool

SOURCE = """
LIMIT = 3

def close(a, b, *, strict=True):
    '''Whether two numbers are near.'''
    if not strict:
        return True
    return abs(a - b) < LIMIT
"""


def code_of(source: str) -> CodeType:
    code = tool.compiled(Path("close.py"), ast.parse(source))
    assert code is not None
    return code


def test_mutants_changes_one_thing_at_a_time() -> None:
    tree = ast.parse(SOURCE)
    found = [(was, becomes, ast.unparse(tree)) for _, was, becomes in tool.mutants(tree)]
    assert [(was, becomes) for was, becomes, _ in found] == [
        ("3", "4"),
        ("True", "False"),
        ("not strict", "strict"),
        ("True", "False"),
        ("return abs(a - b) < LIMIT", "return None"),
        ("abs(a - b) < LIMIT", "abs(a - b) <= LIMIT"),
        ("a - b", "a + b"),
    ]
    assert len({changed for _, _, changed in found}) == len(found)
    assert ast.unparse(tree) == ast.unparse(ast.parse(SOURCE))


def test_mutants_leaves_out_what_a_test_cannot_see() -> None:
    quiet = '''
"""Words."""
if TYPE_CHECKING:
    from x import y

def f(a: Literal[1]) -> Literal[2]:
    assert a == 1, f"{a + 1}"
    return None
'''
    assert list(tool.mutants(ast.parse(quiet))) == []
    assert list(tool.mutants(ast.parse("a = cast('Matrix', b)"))) == []
    assert [was for _, was, _ in tool.mutants(ast.parse("zip(a, b, strict=True)"))] == ["zip(a, b, strict=True)"]


def test_numbers_are_those_of_the_unknown_changes_or_of_a_sample_of_them() -> None:
    tree = ast.parse(SOURCE)
    known = {("3", "4"), ("True", "False")}
    assert tool.numbers(tree, known, None, 0) == tool.numbers(tree, known, 9, 0) == [2, 4, 5, 6]
    some = tool.numbers(tree, known, 2, 0)
    assert some == tool.numbers(tree, known, 2, 0)
    assert len(some) == 2
    assert len({tuple(tool.numbers(tree, known, 2, seed)) for seed in range(20)}) > 1


def test_swaps_finds_the_function_that_a_change_is_in() -> None:
    code = code_of(SOURCE)
    close = FunctionType(next(each for each in code.co_consts if isinstance(each, CodeType)), {})
    live = {close.__code__: [close]}
    assert tool.swaps(code, code_of(SOURCE), live) == {}
    (changed,) = tool.swaps(code, code_of(SOURCE.replace("a - b", "a + b")), live).items()
    assert changed[0] is close
    assert changed[1] != close.__code__
    for elsewhere in (SOURCE.replace("= 3", "= 4"), SOURCE.replace("*, strict=True", "*, strict=False")):
        with pytest.raises(LookupError):
            tool.swaps(code, code_of(elsewhere), live)


def test_apart_gives_what_work_gives_and_nothing_of_work_that_fails() -> None:
    assert tool.apart(lambda: [1, "a"], 10) == [1, "a"]
    assert tool.apart(lambda: 1 / 0, 10) is None


def test_tests_of_a_file_are_its_mirror_or_those_of_its_folder() -> None:
    root = Path(__file__).parents[2]
    assert tool.tests_of(root / "mllm/metrics/rec.py") == ["tests/metrics/test_rec.py"]
    assert tool.tests_of(root / "mllm/conversation/codecs/shikra.py") == ["tests/conversation/codecs"]

"""`--cfg-options key=value`: values as typed on a command line, and where they go."""

from __future__ import annotations

from typing import Any

import pytest

from mllm.config.options import assign, value
from mllm.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1", 1),
        ("1e-5", 1e-5),
        ("-3", -3),
        ("true", True),
        ("False", False),
        ("None", None),
        ("", ""),
        ("/path with spaces/a.py", "/path with spaces/a.py"),
        ("a=b", "a=b"),
        ("'7'", "7"),
        ('"two, words"', "two, words"),
        ("1,2,3", [1, 2, 3]),
        ("[1,2]", [1, 2]),
        ("(1, 2)", (1, 2)),
        ("[(1,2),[a,true]]", [(1, 2), ["a", True]]),
        ("['x y', (1,)]", ["x y", (1,)]),
        ("{'type': 'REC', 'n': 1}", {"type": "REC", "n": 1}),
        ("[]", []),
        ("{question} please", "{question} please"),
        ("a (b", "a (b"),
        ("(draft", "(draft"),
        ("dict(type='bins',bins=49)", {"type": "bins", "bins": 49}),
        ("dict()", {}),
        ("dict(a=dict(b=[dict(c=1)]), d=true)", {"a": {"b": [{"c": 1}]}, "d": True}),
        ("[dict(a=1), dict(b=null)]", [{"a": 1}, {"b": None}]),
        ('{"keep": false}', {"keep": False}),
        ("dict", "dict"),
        ("dictionary(s)", "dictionary(s)"),
    ],
)
def test_values(text: str, expected: object) -> None:
    found = value(text)
    assert found == expected
    assert type(found) is type(expected)


CFG: dict[str, Any] = {"a": {"b": [{"c": 1}, {"c": 2}], "t": (1, 2), "n": None, "s": "x"}, "l": [1, 2]}


@pytest.mark.parametrize(
    ("option", "path", "expected"),
    [
        ("a.b.1.c=5", "a.b", [{"c": 1}, {"c": 5}]),
        ("a.b.0.d=5", "a.b.0", {"c": 1, "d": 5}),
        ("l.1=7", "l", [1, 7]),
        ("a.t.0=7", "a.t", (7, 2)),
        ("a.b=[]", "a.b", []),
        ("a.n.deep.er=1", "a.n", {"deep": {"er": 1}}),
        ("z.y.x=1", "z", {"y": {"x": 1}}),
        ("a={'s': 'y'}", "a.s", "y"),
        ("a={'s': 'y'}", "a.t", (1, 2)),
        ("a={'_delete_': True, 's': 'y'}", "a", {"s": "y"}),
        ("a.s={'k': 1}", "a.s", {"k": 1}),
    ],
)
def test_assignments(option: str, path: str, expected: object) -> None:
    before = repr(CFG)
    found: Any = assign(CFG, option)
    for key in path.split("."):
        found = found[int(key) if isinstance(found, (list, tuple)) else key]
    assert found == expected
    assert repr(CFG) == before  # the input is left alone


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("a.b", "expected key=value"),
        (".a=1", "expected key=value"),
        ("a.b.2.c=1", "a.b.2.c: a.b: expected an index from 0 to 1, found '2'"),
        ("a.b.first=1", "a.b: expected an index from 0 to 1, found 'first'"),
        ("a.s.k=1", "a.s.k: a.s: expected a dict or a list to change a value in, found str 'x'"),
        (
            "a.s=dict(type='bins' bins=49)",
            r"--cfg-options a.s: expected dict\(key=value, ...\) of .*, found str \"dict",
        ),
        ("a.s=dict(x)", r"expected dict\(key=value"),
        ("a.s=dict(**x)", r"expected dict\(key=value"),
        ("a.s=dict(type=print(1))", r"expected dict\(key=value"),
        ("a.s=bins(1,2)", "a.s: cannot read 'bins.*' as a list; put quotes around a text with commas"),
        ("a.s=[a,b(c,d),e]", "cannot read .* as a list"),
        ("a.s=" + "[" * 3000 + "]" * 3000, "cannot read .* as a list"),
        ("a.s=" + "[a," * 1500 + "]" * 1500, "brackets are nested too deep"),
        ("a.s=one (two, three", "Imbalanced brackets exist in .*; put quotes around"),
    ],
)
def test_mistakes(option: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        assign(CFG, option)

"""The fields read from the source are those of the class itself."""

from __future__ import annotations

import dataclasses
from enum import Enum
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from mllm.config.run_arguments import RunArguments
from mllm.config.training_fields import COMPUTED, training_fields

REAL = {field.name: field for field in dataclasses.fields(RunArguments) if field.init}
HINTS = get_type_hints(RunArguments)


def described(kind: Any) -> Any:
    """An annotation in words: an Enum by its values, another class by its name."""
    if get_args(kind):
        return get_origin(kind) in (list, dict), [described(each) for each in get_args(kind)]
    if isinstance(kind, type) and issubclass(kind, Enum):
        return [member.value for member in kind]
    return (kind.__name__, dataclasses.is_dataclass(kind)) if isinstance(kind, type) else repr(kind)


def test_names_and_their_order() -> None:
    assert list(training_fields()) == list(REAL)


@pytest.mark.parametrize("name", REAL)
def test_type_default_and_metadata(name: str) -> None:
    read, real = training_fields()[name], REAL[name]
    assert described(read.type) == described(HINTS[name])
    if read.default is not COMPUTED:
        default = real.default if real.default is not dataclasses.MISSING else real.default_factory()  # type: ignore[operator, misc]
        assert read.default == default
        assert type(read.default) is type(default)
    assert read.metadata.items() <= real.metadata.items()


def test_what_the_source_computes_is_the_exception() -> None:
    computed = {name for name, field in training_fields().items() if field.default is COMPUTED}
    unread = {name for name, field in training_fields().items() if field.metadata != REAL[name].metadata}
    assert computed == {"optim"}
    assert unread == {"log_level", "log_level_replica"}

"""Private names of libraries: looked up, or replaced, with an error that says which library has changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from mllm.errors import MllmError

Method = TypeVar("Method", bound=Callable[..., Any])
ADVICE = "install the version in requirements.txt, with which the tests run"


class IncompatibleError(MllmError):
    """An installed library lacks a name that this version of mllm needs."""


def member(owner: object, name: str) -> Any:
    """The attribute `name` of a library's module, class or object.

    Raises:
        IncompatibleError: there is none.
    """
    try:
        return getattr(owner, name)
    except AttributeError as error:
        raise IncompatibleError(f"{_library(owner)} has no {_path(owner)}.{name}; {ADVICE}") from error


def replaces(owner: type) -> Callable[[Method], Method]:
    """Decorator of a method that takes the place of a private one of `owner`.

    Without it, a method that the library renames would never be called again, and nobody would hear of it.

    Raises:
        IncompatibleError: when the module is imported, `owner` has no method of this name.
    """

    def check(method: Method) -> Method:
        member(owner, method.__name__)
        return method

    return check


def _library(owner: object) -> str:
    from importlib.metadata import PackageNotFoundError, version  # loads parsers of e-mail: only for an error

    name = _module(owner).partition(".")[0]
    try:
        return f"{name} {version(name)}"
    except PackageNotFoundError:
        return name


def _path(owner: object) -> str:
    kind = owner if isinstance(owner, type) else type(owner)
    return getattr(owner, "__name__", kind.__qualname__)


def _module(owner: Any) -> str:
    """The module of the class where a library defines it: a class of ours may lie between."""
    if not hasattr(owner, "__mro__") and not hasattr(owner, "__dict__"):
        return type(owner).__module__
    if isinstance(owner, type) or not hasattr(owner, "__name__"):
        kinds = (owner if isinstance(owner, type) else type(owner)).__mro__
        foreign = [kind.__module__ for kind in kinds if kind.__module__.partition(".")[0] not in ("mllm", "builtins")]
        return foreign[0] if foreign else kinds[0].__module__
    return owner.__name__

"""The parameters of what a config can build, with their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import cache
from inspect import Parameter
from types import SimpleNamespace
from typing import Any, get_type_hints


@cache
def parameters_of(built: Callable[..., Any]) -> Mapping[str, Parameter]:
    """The named parameters of a dataclass, a class or a function, with their annotations evaluated.

    One that cannot be, as it names what its module imports for the type checker only, says nothing of its values.
    """
    made_by: Any = inspect.unwrap(built.__init__ if isinstance(built, type) else built)
    names = getattr(made_by, "__globals__", {})
    found = inspect.signature(built).parameters.values()
    return {
        parameter.name: parameter.replace(annotation=_evaluated(parameter.annotation, names))
        for parameter in found
        if parameter.kind not in (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)
    }


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is Parameter.empty:
        return Any
    if not isinstance(annotation, str):
        return annotation
    alone = SimpleNamespace(__annotations__={"value": annotation})
    try:
        return get_type_hints(alone, names, include_extras=True)["value"]
    except NameError:
        return Any

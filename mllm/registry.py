"""Names in config files -> classes. A registry imports its own folder on the first look-up.

To add a component, put one file in the folder and decorate the class:

    @DATASETS.register_module()
    class MyDataset: ...

A component outside this package is found once its module is listed in the config's `custom_imports`.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from mmengine.registry import Registry as _Registry

from mllm.errors import ConfigError, nearest

T = TypeVar("T", bound=Callable[..., Any])

SCALARS: dict[str, tuple[str, tuple[type, ...]]] = {
    "bool": ("True or False", (bool,)),
    "int": ("a whole number", (int,)),
    "float": ("a number", (int, float)),
    "str": ("a text", (str,)),
    "None": ("None", (type(None),)),
}
"""What is checked of a component's annotations, and the types that a config may give for each."""


class Registry(_Registry):
    """An mmengine registry whose location is a package: all modules in it are imported at the first look-up."""

    def __init__(self, name: str, *, folder: str) -> None:
        super().__init__(name, scope="mllm", locations=[folder])
        self._families: dict[str, tuple[str, Callable[..., Any]]] = {}

    def import_from_location(self) -> None:
        if self._imported:
            return
        self._imported = True  # before the imports: a module may look up names while it is being imported
        complete = False
        try:
            for location in self._locations:
                package = importlib.import_module(location)
                for module in pkgutil.iter_modules(package.__path__, f"{location}."):
                    importlib.import_module(module.name)
            complete = True
        finally:
            self._imported = complete  # after a failed import the next look-up fails the same way

    def register_module(
        self, name: str | list[str] | None = None, force: bool = False, module: Any = None
    ) -> Callable[[T], T]:
        """Decorator: register the class under its own name, or under `name`.

        mmengine's own, but typed, so that the decorated class keeps its type.

        Raises:
            KeyError: the name is taken, and not by `force`.
        """
        register: Any = super().register_module(name, force, module)
        return register

    def register_family(self, pattern: str, *, example: str) -> Callable[[T], T]:
        """Decorator for names that follow a rule: `pattern` matches them whole, `example` is the one that lists show.

        The function takes the groups of the pattern and returns what a class of that name would be.
        """

        def register(family: T) -> T:
            self._families[example] = (pattern, family)
            return family

        return register

    def names(self) -> list[str]:
        """All registered names; of a family its example."""
        self.import_from_location()
        return sorted({*self.module_dict, *self._families})

    def find(self, name: object) -> Any:
        """The registered class.

        Raises:
            ConfigError: the name is unknown; the message lists the nearest ones.
        """
        names = self.names()
        if isinstance(name, str):
            if name in self.module_dict:
                return self.module_dict[name]
            for pattern, family in self._families.values():
                if match := re.fullmatch(pattern, name):
                    return family(*match.groups())
        raise ConfigError(f"unknown {self.name} type {name!r}; {nearest(str(name), names)}")

    def make(self, cfg: Mapping[str, Any] | str, **given: Any) -> Any:
        """Build `{"type": name, **arguments}` (or just the name); `given` arguments come from the caller's code.

        Raises:
            ConfigError: no or unknown `type`, an argument that the class does not take or misses, or a value that is
                not the number or text that the class asks for.
        """
        if not isinstance(cfg, (str, Mapping)):
            raise ConfigError(f"{self.name}: expected a name or a dict with 'type', found {cfg!r}")
        cfg = {"type": cfg} if isinstance(cfg, str) else dict(cfg)
        if "type" not in cfg:
            raise ConfigError(f"{self.name}: expected a dict with 'type', found {cfg}")
        name = cfg.pop("type")
        built = self.find(name)
        known = inspect.signature(built).parameters
        for argument, value in cfg.items():
            if argument not in known:
                raise ConfigError(f"{self.name} '{name}' has no argument {argument!r}; {nearest(argument, known)}")
            if expected := _mismatch(value, known[argument].annotation):
                raise ConfigError(f"{self.name} '{name}': {argument}: expected {expected}, found {value!r}")
        missing = [
            parameter.name
            for parameter in known.values()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
            and parameter.name not in {*cfg, *given}
        ]
        if missing:
            raise ConfigError(f"{self.name} '{name}' misses {', '.join(missing)}")
        return built(**{**given, **cfg})


def _mismatch(value: object, annotation: Any) -> str | None:
    """What an annotation of scalars asks for, where the value is none of it; other annotations say nothing."""
    # read as text: evaluating it would fail for what a module imports for its type checker only
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    names = [name.strip() for name in text.split("|")]
    if not SCALARS.keys() >= set(names):
        return None
    if any(isinstance(value, SCALARS[name][1]) and (name == "bool") == isinstance(value, bool) for name in names):
        return None
    return " or ".join(SCALARS[name][0] for name in names)


DATASETS = Registry("dataset", folder="mllm.dataset")
REGIONS = Registry("region codec", folder="mllm.conversation.regions")
TEMPLATES = Registry("template", folder="mllm.conversation.templates")
MODELS = Registry("model", folder="mllm.models")
CONNECTORS = Registry("connector", folder="mllm.models.connectors")
LAYOUTS = Registry("checkpoint layout", folder="mllm.models.layouts")
FAMILIES = Registry("family", folder="mllm.models.families")
METRICS = Registry("metric", folder="mllm.metrics")

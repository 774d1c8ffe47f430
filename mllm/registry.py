"""Names in config files -> classes. A registry imports its own folder on the first look-up.

To add a component, put one file in the folder and decorate the class:

    @DATASETS.register_module()
    class MyDataset: ...

A component outside this package is found once its module is listed in the config's `custom_imports`.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, TypeVar

from mmengine.registry import Registry as _Registry

from mllm.errors import ConfigError, MllmError, nearest
from mllm.fields import check_arguments, show, within

T = TypeVar("T", bound=Callable[..., Any])


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
        raise ConfigError(f"unknown {self.name} type {str(name)!r:.80}; {nearest(str(name), names)}")

    def check(self, cfg: object, *, also: Iterable[str] = ()) -> None:
        """Check `{"type": name, **arguments}`, or just the name, against the signature of the class, to any depth.

        Nothing is built. `also`: arguments that the caller's code gives.

        Raises:
            ConfigError: no or unknown `type`, an argument that the class does not take or misses, or a value that its
                annotation does not allow; names the argument.
        """
        built, _, arguments = self._parts(cfg)
        check_arguments(arguments, built, also=also)

    def make(self, cfg: Mapping[str, Any] | str, **given: Any) -> Any:
        """Build what `check` checks; `given` arguments come from the caller's code.

        Raises:
            ConfigError: as `check`, or arguments that do not go together.
        """
        built, name, arguments = self._parts(cfg)
        try:
            check_arguments(arguments, built, also=given)
            return built(**{**given, **arguments})
        except ConfigError as error:
            if error.where:
                raise
            raise error.at(f"{self.name} {name!r}") from error.__cause__

    def _parts(self, cfg: object) -> tuple[Any, str, dict[str, Any]]:
        """The class, its name, and its arguments."""
        if isinstance(cfg, str):
            return self.find(cfg), cfg, {}
        if not isinstance(cfg, Mapping) or "type" not in cfg:
            raise ConfigError(expected=f"the name of a {self.name}, or a dict with its 'type'", found=show(cfg))
        name, arguments = cfg["type"], {key: value for key, value in cfg.items() if key != "type"}
        return within("type", self.find, name), name, arguments


@dataclass(frozen=True, slots=True)
class Component:
    """In `Annotated`: the config of a registered component, checked with all that it holds."""

    registry: Registry
    also: tuple[str, ...] = ()

    def check(self, value: Any, error: type[MllmError]) -> bool:
        self.registry.check(value, also=self.also)
        return True

    def describe(self, kind: str) -> str:
        return f"a {self.registry.name}, dict(type=...)"


DATASETS = Registry("dataset", folder="mllm.dataset")
REGIONS = Registry("region codec", folder="mllm.conversation.codecs")
TEMPLATES = Registry("template", folder="mllm.conversation.templates")
MODELS = Registry("model", folder="mllm.models")
CONNECTORS = Registry("connector", folder="mllm.models.connectors")
LAYOUTS = Registry("checkpoint layout", folder="mllm.models.checkpoints.layouts")
FAMILIES = Registry("family", folder="mllm.models.native.families")
METRICS = Registry("metric", folder="mllm.metrics")

DatasetConfig = Annotated[Mapping[str, Any], Component(DATASETS)]
MetricConfig = Annotated[str | Mapping[str, Any], Component(METRICS)]
RegionCodecConfig = Annotated[str | Mapping[str, Any], Component(REGIONS)]
TemplateConfig = Annotated[str | Mapping[str, Any], Component(TEMPLATES)]
ConnectorConfig = Annotated[str | Mapping[str, Any], Component(CONNECTORS, ("vision_width", "text_width"))]

"""Names in config files -> classes. A look-up imports the one module that registers the name.

To add a component, put one file in the folder and decorate the class:

    @DATASETS.register_module()
    class MyDataset: ...

A component outside this package is found once its module is listed in the config's `custom_imports`.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, TypeVar

from mmengine.registry import Registry as _Registry

from mllm.errors import ConfigError, MllmError, nearest
from mllm.fields import check_arguments, in_field, show

T = TypeVar("T", bound=Callable[..., Any])


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a source file registers.

    Attributes:
        name: of a family, its example.
        pattern: what names it matches: of a single entry only its own.
        about: the first paragraph of its docstring.
        path: the file.
    """

    name: str
    pattern: str
    about: str
    path: Path


class Registry(_Registry):
    """An mmengine registry whose location is a package, with its sub-packages.

    Args:
        name: what messages call an entry.
        variable: what the registry is called in the decorators of the package. By it the sources are searched, so that
            a name is found without importing the modules of other names.
        folder: dotted name of the package.
    """

    def __init__(self, name: str, variable: str, *, folder: str) -> None:
        super().__init__(name, scope="mllm", locations=[folder])
        self._variable = variable
        self._folder = folder
        self._families: dict[str, tuple[str, Callable[..., Any]]] = {}

    def import_from_location(self) -> None:
        """Import every module that registers something here."""
        if self._imported:
            return
        self._imported = True  # before the imports: a module may look up names while it is being imported
        complete = False
        try:
            for module in self._modules:
                importlib.import_module(module)
            complete = True
        finally:
            self._imported = complete  # after a failed import the next look-up fails the same way

    @cached_property
    def _modules(self) -> Mapping[str, tuple[Source, ...]]:
        """Module -> what its decorators register."""
        package = importlib.util.find_spec(self._folder)
        assert package is not None, f"{self._folder} is a package"
        assert package.origin is not None, f"{self._folder} has an __init__.py"
        folder = Path(package.origin).parent
        found: dict[str, tuple[Source, ...]] = {}
        for path in sorted(folder.rglob("*.py")):
            source = path.read_text(encoding="utf-8")
            if f"@{self._variable}.register_" in source:
                module = ".".join((self._folder, *path.relative_to(folder).with_suffix("").parts))
                found[module] = tuple(self._decorated(ast.parse(source), path))
        return found

    def _decorated(self, source: ast.Module, path: Path) -> Iterator[Source]:
        for node in source.body:
            if not isinstance(node, (ast.ClassDef, ast.FunctionDef)):
                continue
            about = " ".join((ast.get_docstring(node) or "").partition("\n\n")[0].split())
            for call in node.decorator_list:
                match call:
                    case ast.Call(func=ast.Attribute(value=ast.Name(id=self._variable)), args=arguments, keywords=more):
                        names = ast.literal_eval(arguments[0]) if arguments else node.name
                        example = next((ast.literal_eval(one.value) for one in more if one.arg == "example"), None)
                        for name in [names] if isinstance(names, str) else names:
                            yield Source(name=example or name, pattern=name, about=about, path=path)

    def sources(self) -> list[Source]:
        """What the sources of the package register, by name; nothing of it is imported."""
        return sorted((one for found in self._modules.values() for one in found), key=lambda one: one.name)

    def register_module(
        self, name: str | list[str] | None = None, force: bool = False, module: Any = None
    ) -> Callable[[T], T]:
        """Decorator: register the class under its own name, or under `name`.

        mmengine's own, but typed, so that the decorated class keeps its type.

        Raises:
            KeyError: the name is taken, and not by `force`.
        """
        register = super().register_module(name, force, module)
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
        if isinstance(name, str):
            for module, found in self._modules.items():
                if name not in self.module_dict and any(
                    name == one.pattern or re.fullmatch(one.pattern, name) for one in found
                ):
                    importlib.import_module(module)
            if name in self.module_dict:
                return self.module_dict[name]
            for pattern, family in self._families.values():
                if match := re.fullmatch(pattern, name):
                    return family(*match.groups())
        raise ConfigError(f"unknown {self.name} type {str(name)!r:.80}; {nearest(str(name), self.names())}")

    def check(self, cfg: object, *, also: Iterable[str] = ()) -> None:
        """Check `{"type": name, **arguments}`, or just the name, against the signature of the class, to any depth.

        Nothing is built. `also`: arguments that the caller's code gives.

        Raises:
            ConfigError: no or unknown `type`, an argument that the class does not take or misses, or a value that its
                annotation does not allow; names the argument.
        """
        built, _, arguments = self._parts(cfg)
        check_arguments(arguments, built, also=also)

    def make(self, cfg: Mapping[str, object] | str, **given: object) -> Any:
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
        return in_field("type", self.find, name), name, arguments


@dataclass(frozen=True, slots=True)
class Component:
    """In `Annotated`: the config of a registered component, checked with all that it holds."""

    registry: Registry
    also: tuple[str, ...] = ()

    def check(self, value: object, error: type[MllmError]) -> bool:
        self.registry.check(value, also=self.also)
        return True

    def describe(self, kind: str) -> str:
        return f"a {self.registry.name}, dict(type=...)"


DATASETS = Registry("dataset", "DATASETS", folder="mllm.dataset")
CODECS = Registry("region codec", "CODECS", folder="mllm.conversation.codecs")
TEMPLATES = Registry("template", "TEMPLATES", folder="mllm.conversation.templates")
MODELS = Registry("model", "MODELS", folder="mllm.models")
CONNECTORS = Registry("connector", "CONNECTORS", folder="mllm.models.connectors")
LAYOUTS = Registry("checkpoint layout", "LAYOUTS", folder="mllm.models.checkpoints.layouts")
FAMILIES = Registry("family", "FAMILIES", folder="mllm.models.native.families")
METRICS = Registry("metric", "METRICS", folder="mllm.metrics")
REWARDS = Registry("reward", "REWARDS", folder="mllm.rewards")
SIMILARITIES = Registry("similarity", "SIMILARITIES", folder="mllm.models.vision")

DatasetConfig = Annotated[Mapping[str, Any], Component(DATASETS)]
MetricConfig = Annotated[str | Mapping[str, Any], Component(METRICS)]
RewardConfig = Annotated[str | Mapping[str, Any], Component(REWARDS)]
SimilarityConfig = Annotated[Mapping[str, Any], Component(SIMILARITIES)]
RegionCodecConfig = Annotated[str | Mapping[str, Any], Component(CODECS)]
TemplateConfig = Annotated[str | Mapping[str, Any], Component(TEMPLATES)]
ConnectorConfig = Annotated[str | Mapping[str, Any], Component(CONNECTORS, ("vision_width", "text_width"))]

"""`model_args.adapters`: what is adapted, what is trained in full, and that all else stays frozen."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from mllm.errors import ConfigError, nearest

TYPES = {
    "lora": "low-rank matrices beside the layers (Hu et al. 2021)",
    "dora": "as lora, with a trained magnitude (Liu et al. 2024)",
    "rslora": "as lora, scaled by alpha / sqrt(r) (Kalajdzievski 2023)",
    "full": "the targets themselves are trained",
}
TUNING_CONFIG = {"lora", "from_pretrained", "lora_target_modules", "lora_r", "lora_alpha", "lora_dropout", "unfrozen"}
"""Keys of Instruct-Flamingo's tuning-config files."""
LANGUAGE_MODEL = r"^(language_model|lang_encoder)\.(.*\.)?"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapters:
    """Settings of one `adapters` section.

    Attributes:
        type: one of `TYPES`.
        targets: parts by name, or regular expressions searched for in the names of layers.
        r, alpha, dropout: of the low-rank matrices.
        unfrozen: parts by name, or regular expressions searched for in the names of parameters; trained in full.
        from_pretrained: folder in PEFT's layout whose matrices training starts from.
    """

    type: str
    targets: tuple[str, ...] = ()
    r: int = 16
    alpha: float = 32
    dropout: float = 0.0
    unfrozen: tuple[str, ...] = ()
    from_pretrained: str | None = None

    @property
    def low_rank(self) -> bool:
        return self.type != "full"

    def as_dict(self) -> dict[str, Any]:
        """A section that reads as these settings."""
        section = {**asdict(self), "targets": list(self.targets), "unfrozen": list(self.unfrozen)}
        if self.from_pretrained:
            section["from_pretrained"] = str(Path(self.from_pretrained).resolve())
        return section if self.low_rank else {name: section[name] for name in ("type", "targets", "unfrozen")}


def read_adapters(section: Mapping[str, Any] | str) -> Adapters:
    """The settings of `dict(type=..., targets=[...], ...)`, or of a tuning-config json of Instruct-Flamingo.

    Raises:
        ConfigError: an unknown name, a value out of range, or a file that is no tuning config.
    """
    if isinstance(section, str):
        return _tuning_config(Path(section))
    if not isinstance(section, Mapping):
        raise ConfigError(f"adapters: expected a dict with 'type', or a json file, found {section!r}")
    known = [field.name for field in fields(Adapters)]
    for name in section:
        if name not in known:
            raise ConfigError(f"adapters: unknown setting {name!r}; {nearest(str(name), known)}")
    kind = section.get("type")
    if kind not in TYPES:
        raise ConfigError(f"adapters.type {kind!r}; {nearest(str(kind), TYPES)}")
    given = {name: value for name, value in section.items() if value is not None}
    if kind == "full" and (useless := sorted(set(given) & {"r", "alpha", "dropout", "from_pretrained"})):
        raise ConfigError(f"adapters: type 'full' trains the targets themselves, it has no {', '.join(useless)}")
    for name in ("targets", "unfrozen"):
        given[name] = _patterns(name, given.get(name, ()))
    if start := given.get("from_pretrained"):
        if useless := sorted(set(given) & {"r", "alpha"} | ({"targets"} if given["targets"] else set())):
            raise ConfigError(f"adapters: from_pretrained {start} says what {', '.join(useless)} is: drop one")
        given = {**_of_folder(start), **given, "targets": _of_folder(start)["targets"]}
    if "alpha" not in given and "r" in given:
        given["alpha"] = 2 * given["r"]
    adapters = Adapters(**given)
    _check(adapters)
    return adapters


def _check(adapters: Adapters) -> None:
    if not isinstance(adapters.r, int) or adapters.r < 1:
        raise ConfigError(f"adapters.r: expected a whole number from 1 on, found {adapters.r!r}")
    if not isinstance(adapters.alpha, (int, float)) or adapters.alpha <= 0:
        raise ConfigError(f"adapters.alpha: expected a positive number, found {adapters.alpha!r}")
    if not isinstance(adapters.dropout, (int, float)) or not 0 <= adapters.dropout < 1:
        raise ConfigError(f"adapters.dropout: expected a number in [0, 1), found {adapters.dropout!r}")
    if not adapters.targets and (adapters.low_rank or not adapters.unfrozen):
        raise ConfigError("adapters.targets: expected at least one part or pattern, for example ['language_model']")


def _patterns(name: str, value: object) -> tuple[str, ...]:
    if isinstance(value, str) or not isinstance(value, Sequence) or not all(isinstance(entry, str) for entry in value):
        raise ConfigError(f"adapters.{name}: expected a list of parts or patterns, found {value!r}")
    for pattern in value:
        try:
            re.compile(pattern)
        except re.error as error:
            raise ConfigError(f"adapters.{name}: {pattern!r} is not a regular expression: {error}") from error
    return tuple(value)


def _tuning_config(path: Path) -> Adapters:
    """LoRA on the language model and what lies inside it; parameters whose names hold an `unfrozen` text train too."""
    found = _read_json(path)
    unknown = sorted(set(found) - TUNING_CONFIG)
    if unknown or "lora" not in found:
        raise ConfigError(f"{path}: no tuning config, expected {sorted(TUNING_CONFIG)}, found {sorted(found)}")
    unfrozen = [re.escape(text) for text in found.get("unfrozen") or ()]
    if not found["lora"]:
        return read_adapters({"type": "full", "unfrozen": unfrozen})
    section: dict[str, Any] = {"type": "lora", "unfrozen": unfrozen, "dropout": found.get("lora_dropout")}
    if found.get("from_pretrained"):
        return read_adapters({**section, "from_pretrained": found["from_pretrained"]})
    names = found.get("lora_target_modules") or ()
    targets = [_ending(names)] if names else ["language_model"]
    return read_adapters({**section, "targets": targets, "r": found.get("lora_r"), "alpha": found.get("lora_alpha")})


def _of_folder(folder: str) -> dict[str, Any]:
    """The settings that a folder of PEFT was written with."""
    found = _read_json(Path(folder) / "adapter_config.json")
    if found.get("peft_type") != "LORA":
        raise ConfigError(f"{folder}: adapters of type {found.get('peft_type')}, expected LORA")
    names = found["target_modules"]
    kind = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else "lora"
    targets = (names,) if isinstance(names, str) else (_ending(sorted(names)),)
    return {"type": kind, "targets": targets, "r": found["r"], "alpha": found["lora_alpha"]}


def _ending(names: Sequence[str]) -> str:
    """A layer of the language model whose name ends as one of these; files list those of several architectures."""
    return f"{LANGUAGE_MODEL}({'|'.join(map(re.escape, names))})$"


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise ConfigError(f"adapters: {path}: {error}") from error
    if not isinstance(found, dict):
        raise ConfigError(f"adapters: {path}: expected a JSON object")
    return found

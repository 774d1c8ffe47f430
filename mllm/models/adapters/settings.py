"""`model_args.adapters`: what is adapted, what is trained in full, and that all else stays frozen."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from mllm.errors import ConfigError
from mllm.fields import OneOf, Positive, Range, Reads, check, check_arguments, show
from mllm.files import read_json
from mllm.json_fields import field

TYPES = {
    "lora": "low-rank matrices beside the layers (Hu et al. 2021)",
    "dora": "as lora, with a trained magnitude (Liu et al. 2024)",
    "rslora": "as lora, scaled by alpha / sqrt(r) (Kalajdzievski 2023)",
    "full": "the targets themselves are trained",
}
Rank = Annotated[int, Range(least=1, most=65_536)]
LANGUAGE_MODEL = r"^(language_model|lang_encoder)\.(.*\.)?"


def _compiled(pattern: str) -> re.Pattern[str]:
    try:
        return re.compile(pattern)
    except re.error as error:
        raise ConfigError(str(error), expected="a regular expression", found=show(pattern)) from error


Pattern = Annotated[str, Reads("a part, or a regular expression", _compiled)]


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningConfig:
    """A tuning-config file of Instruct-Flamingo."""

    lora: bool
    from_pretrained: str | None = None
    lora_target_modules: Sequence[str] | None = None
    lora_r: Rank | None = None
    lora_alpha: Positive | None = None
    lora_dropout: float | None = None
    unfrozen: Sequence[str] | None = None


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

    type: Annotated[str, OneOf(tuple(TYPES))]
    targets: tuple[Pattern, ...] = ()
    r: Rank = 16
    alpha: Positive = 32
    dropout: Annotated[float, Range(least=0, below=1)] = 0.0
    unfrozen: tuple[Pattern, ...] = ()
    from_pretrained: str | None = None

    @property
    def low_rank(self) -> bool:
        return self.type != "full"

    def as_dict(self) -> dict[str, object]:
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
    check(section, Mapping)
    given = {name: value for name, value in section.items() if value is not None}
    check_arguments(given, Adapters)
    given = {**given, "targets": tuple(given.get("targets", ())), "unfrozen": tuple(given.get("unfrozen", ()))}
    if given["type"] == "full" and (useless := sorted(set(given) & {"r", "alpha", "dropout", "from_pretrained"})):
        raise ConfigError(f"type 'full' trains the targets themselves and takes no {', '.join(useless)}", field="type")
    if start := given.get("from_pretrained"):
        if useless := sorted(set(given) & {"r", "alpha"} | ({"targets"} if given["targets"] else set())):
            raise ConfigError(f"{start} defines {', '.join(useless)} already; remove one", field="from_pretrained")
        given = {**_of_folder(start), **given, "targets": _of_folder(start)["targets"]}
    if "alpha" not in given and "r" in given:
        given["alpha"] = 2 * given["r"]
    adapters = Adapters(**given)
    if not adapters.targets and (adapters.low_rank or not adapters.unfrozen):
        expected = "at least one part or pattern, for example ['language_model']"
        raise ConfigError(field="targets", expected=expected, found="none")
    return adapters


def _tuning_config(path: Path) -> Adapters:
    """LoRA on the language model and what lies inside it; parameters whose names hold an `unfrozen` text train too."""
    found = read_json(path, dict, ConfigError)
    try:
        check_arguments(found, TuningConfig)
        unfrozen = [re.escape(text) for text in found.get("unfrozen") or ()]
        if not found["lora"]:
            return read_adapters({"type": "full", "unfrozen": unfrozen})
        section: dict[str, Any] = {"type": "lora", "unfrozen": unfrozen, "dropout": found.get("lora_dropout")}
        if found.get("from_pretrained"):
            return read_adapters({**section, "from_pretrained": found["from_pretrained"]})
        names = found.get("lora_target_modules") or ()
        targets = [_ending(names)] if names else ["language_model"]
        r, alpha = found.get("lora_r"), found.get("lora_alpha")
        return read_adapters({**section, "targets": targets, "r": r, "alpha": alpha})
    except ConfigError as error:
        raise error.at(str(path)) from error


def _of_folder(folder: str) -> dict[str, Any]:
    """The settings that a folder of PEFT was written with."""
    path = Path(folder) / "adapter_config.json"
    found = read_json(path, dict, ConfigError)
    if found.get("peft_type") != "LORA":
        raise ConfigError(where=str(path), field="peft_type", expected="'LORA'", found=show(found.get("peft_type")))
    names = field(found, "target_modules", str | list[str], where=path, error=ConfigError)
    kind = "dora" if found.get("use_dora") else "rslora" if found.get("use_rslora") else "lora"
    targets = (names,) if isinstance(names, str) else (_ending(sorted(names)),)
    r = field(found, "r", Rank, where=path, error=ConfigError)
    alpha = field(found, "lora_alpha", Positive, where=path, error=ConfigError)
    return {"type": kind, "targets": targets, "r": r, "alpha": alpha}


def _ending(names: Sequence[str]) -> str:
    """A layer of the language model whose name ends as one of these; files list those of several architectures."""
    return f"{LANGUAGE_MODEL}({'|'.join(map(re.escape, names))})$"


AdaptersConfig = Annotated[str | Mapping[str, Any], Reads("a dict with 'type', or a json file", read_adapters)]

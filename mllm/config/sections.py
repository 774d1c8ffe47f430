"""The sections of a config by name, and the check of names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from mllm.errors import ConfigError, nearest
from mllm.fields import check_names, in_field, show

SECTIONS = {
    "training_args": "any argument of transformers' Seq2SeqTrainingArguments, and those of RunArguments",
    "model_args": "the model: type, and the arguments of that type",
    "data_args": "the data, the collator, generation and the metrics",
    "reward_args": "dict(rewards=...): train by the rewards of sampled answers, and how",
    "early_stopping": "dict(patience=3, threshold=0.0): end training when evaluations get no better",
    "custom_imports": "dict(imports=[...]): modules to import, so that what they register is found",
}
DATA_ARGS = {
    "train": "the dataset to train on",
    "validation": "the dataset of do_eval and of eval_strategy",
    "test": "the dataset of do_predict",
    "multitest": "{name: dict(cfg=dataset, compute_metric=..., gen_kwargs=..., ranking=...)}: datasets of do_predict",
    "compute_metric": "the metric of validation and test",
    "collator_kwargs": "arguments of the collator",
    "gen_kwargs": "arguments of generate()",
    "ranking": "dict(candidates=...): the answer is the most likely of given ones, instead of what generate() says",
    "max_length": "tokens that a training sample has at most",
    "images": "how images are fetched, kept and decoded, and what becomes of those that fail",
}


def check_names_of_sections(cfg: Mapping[str, object]) -> None:
    """Raises:
    ConfigError: a section that there is not, or that is no dict; a name in data_args that there is not.
    """
    for name, section in cfg.items():
        if name not in SECTIONS:
            hint = f"unknown name (constants are UPPERCASE); {nearest(name, SECTIONS)}"
            raise ConfigError(hint, field=name)
        if not isinstance(section, Mapping):
            raise ConfigError(field=name, expected="a dict", found=show(section))
    in_field("data_args", check_names, cfg["data_args"], DATA_ARGS)


def generation_sections(data_args: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """All `gen_kwargs` of a config, those of a test set of its own included, by the field that they stand in."""
    found: dict[str, Mapping[str, Any]] = {"data_args.gen_kwargs": data_args.get("gen_kwargs") or {}}
    for name, entry in multitest_entries(data_args).items():
        if entry.get("gen_kwargs"):
            found[f"data_args.multitest.{name}.gen_kwargs"] = entry["gen_kwargs"]
    return found


def multitest_entries(data_args: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """The entries of `data_args.multitest` by name; one that is None, as an override may say, is left out."""
    return {name: entry for name, entry in (data_args.get("multitest") or {}).items() if entry is not None}


def texts(section: object) -> list[str]:
    """All texts in a section that are not empty, some of which are paths."""
    if isinstance(section, Mapping):
        section = list(cast("Mapping[str, Any]", section).values())
    if isinstance(section, (list, tuple)):
        return [text for entry in cast("list[Any]", section) for text in texts(entry)]
    return [section] if isinstance(section, str) and section else []

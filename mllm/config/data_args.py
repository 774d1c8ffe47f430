"""Types of the values of `data_args` and `custom_imports`, and their check before anything is built.

`model_args` is checked where models are known, see `mllm.pipeline.run_checks`; `training_args` in `arguments`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from mllm.errors import ConfigError
from mllm.fields import FULL, Count, Fits, PositiveInt, Range, check_arguments, in_field, show
from mllm.images.settings import ImageSettings
from mllm.registry import DatasetConfig, MetricConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CollatorOptions:
    """How rows are put together, see `mllm.conversation.collator`, and how many steps a plan of them covers."""

    packing: Literal["none", "rows", "shared"] = "none"
    max_tokens: PositiveInt | None = None
    pad_to_multiple_of: Annotated[int, Range(least=1, most=65536)] = 1
    window: Count | None = None


Wording = Annotated[str, Fits("a text with <answer> in it once", lambda text: text.count("<answer>") == 1)]
CandidateSource = Annotated[str, FULL] | Annotated[Sequence[Annotated[str, FULL]], FULL]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """Answers are the most likely of given candidates.

    Attributes:
        candidates: "options": those of the item; "letters": their letters; a list of texts; or a file of them, a JSON
            list or one a line.
        score: the "mean" log-probability of the tokens of a candidate, or their "total".
        answer: what the model says, with the candidate in the place of `<answer>`.
    """

    candidates: CandidateSource = "options"
    score: Literal["mean", "total"] = "mean"
    answer: Wording = "<answer>"


@dataclass(frozen=True, slots=True, kw_only=True)
class MultitestEntry:
    """One of several test sets."""

    cfg: DatasetConfig
    compute_metric: MetricConfig | None = None
    gen_kwargs: Mapping[str, object] | None = None
    ranking: Ranking | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DataArgs:
    """The section `data_args`; what each key means stands in `mllm.config.sections`."""

    train: DatasetConfig | None = None
    validation: DatasetConfig | None = None
    test: DatasetConfig | None = None
    multitest: Mapping[str, MultitestEntry | None] | None = None
    compute_metric: MetricConfig | None = None
    collator_kwargs: CollatorOptions | None = None
    gen_kwargs: Mapping[str, object] | None = None
    ranking: Ranking | None = None
    max_length: PositiveInt | None = None
    images: ImageSettings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CustomImports:
    """Modules of the user's that register components."""

    imports: str | Sequence[str] = ()
    allow_failed_imports: bool = False


def check_data_args(data_args: Mapping[str, Any]) -> None:
    """Check every value of `data_args`, the arguments of datasets and metrics among them; no file is opened.

    Raises:
        ConfigError: names the key.
    """
    in_field("data_args", check_arguments, data_args, DataArgs)
    collator = data_args.get("collator_kwargs") or {}
    if collator.get("packing", "none") == "none" and collator.get("max_tokens") is not None:
        raise ConfigError(
            "set packing, or limit samples with data_args.max_length",
            field="data_args.collator_kwargs.max_tokens",
            expected="nothing where rows are not packed",
            found=show(collator["max_tokens"]),
        )


def check_custom_imports(custom_imports: Mapping[str, object]) -> None:
    """Raises ConfigError, which names the key."""
    in_field("custom_imports", check_arguments, custom_imports, CustomImports)

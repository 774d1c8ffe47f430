"""The checks of a config that need PyTorch and transformers: `model_args`, and `gen_kwargs`. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from transformers import GenerationConfig

from mllm.config.run_arguments import RunArguments
from mllm.errors import ConfigError
from mllm.fields import Count, Positive, PositiveInt, Range, check, check_arguments, check_names, parameters, within
from mllm.geometry import PlacementKind
from mllm.models.adapters.param_groups import ParamGroupOptions
from mllm.models.adapters.settings import AdaptersConfig
from mllm.models.arguments import TokenizerConfig
from mllm.pipeline.optimization import check_learns, check_reporting, check_training
from mllm.registry import MODELS, RegionCodecConfig, TemplateConfig

PARTS = (
    *("vision_tower", "language_model", "connector", "feature_layer", "keep_cls", "image_mean", "image_std"),
    *("tokenizer", "checkpoint"),
    *("cross_attn_every_n_layers", "perceiver", "max_num_frames", "vision_ln_post", "attend"),
)
"""Keys of model_args that a checkpoint folder (`model_name_or_path`) answers itself."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonModelArgs:
    """Keys of model_args that every type of model takes, beside those of `ParamGroupOptions`."""

    codec: RegionCodecConfig | None = None
    template: TemplateConfig | None = None
    placement: PlacementKind | None = None
    adapters: AdaptersConfig | None = None
    tokenizer: TokenizerConfig | None = None


Tokens = int | Sequence[int]
Fraction = Annotated[float, Range(least=0, most=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationArgs:
    """What is known of generate()'s arguments; others of transformers' GenerationConfig are left to it."""

    max_new_tokens: PositiveInt | None = None
    min_new_tokens: Count | None = None
    max_length: PositiveInt | None = None
    min_length: Count | None = None
    max_time: Positive | None = None
    stop_strings: str | Sequence[str] | None = None
    do_sample: bool | None = None
    num_beams: PositiveInt | None = None
    num_beam_groups: PositiveInt | None = None
    num_return_sequences: Literal[1] | None = None
    early_stopping: bool | Literal["never"] | None = None
    use_cache: bool | None = None
    temperature: Positive | None = None
    top_k: Count | None = None
    top_p: Fraction | None = None
    min_p: Fraction | None = None
    top_h: Fraction | None = None
    typical_p: Fraction | None = None
    epsilon_cutoff: Fraction | None = None
    eta_cutoff: Fraction | None = None
    repetition_penalty: Positive | None = None
    encoder_repetition_penalty: Positive | None = None
    length_penalty: float | None = None
    diversity_penalty: float | None = None
    guidance_scale: float | None = None
    no_repeat_ngram_size: Count | None = None
    encoder_no_repeat_ngram_size: Count | None = None
    bad_words_ids: Sequence[Sequence[Count]] | None = None
    suppress_tokens: Sequence[Count] | None = None
    begin_suppress_tokens: Sequence[Count] | None = None
    renormalize_logits: bool | None = None
    remove_invalid_values: bool | None = None
    token_healing: bool | None = None
    pad_token_id: Count | None = None
    bos_token_id: Count | None = None
    eos_token_id: Tokens | None = None
    decoder_start_token_id: Tokens | None = None
    forced_bos_token_id: Count | None = None
    forced_eos_token_id: Tokens | None = None
    return_dict_in_generate: Literal[False] | None = None
    output_attentions: Literal[False] | None = None
    output_hidden_states: Literal[False] | None = None
    output_scores: Literal[False] | None = None
    output_logits: Literal[False] | None = None


def check_model_args(model_args: Mapping[str, Any]) -> None:
    """Check every value of `model_args` against the type of model that it names.

    Raises:
        ConfigError: names the key.
    """
    within("model_args", _check_model_args, model_args)


def _check_model_args(model_args: Mapping[str, Any]) -> None:
    built = within("type", MODELS.find, model_args.get("type"))
    common = {one.name for kind in (CommonModelArgs, ParamGroupOptions) for one in fields(kind)}
    own = parameters(built)
    left_out = set(PARTS) - {*common, *own} if model_args.get("model_name_or_path") else set()
    check_names(model_args, {"type", *common, *own, *left_out})
    for kind in (CommonModelArgs, ParamGroupOptions):
        known = {one.name for one in fields(kind)}
        check({name: value for name, value in model_args.items() if name in known}, kind)
    given = {name: value for name, value in model_args.items() if name not in {"type", *common, *left_out}}
    check_arguments(given, built, also=("tokenizer",))


def check_generation(gen_kwargs: Mapping[str, Any] | None, field: str = "data_args.gen_kwargs") -> None:
    """Check arguments of generate(), which stand in `field`.

    Raises:
        ConfigError: names the key.
    """
    within(field, _check_generation, gen_kwargs or {})


def _check_generation(gen_kwargs: Mapping[str, Any]) -> None:
    known = {one.name for one in fields(GenerationArgs)}
    check_names(gen_kwargs, {name for name in vars(GenerationConfig()) if not name.startswith("_")} | known)
    check({name: value for name, value in gen_kwargs.items() if name in known}, GenerationArgs)
    try:
        GenerationConfig(**gen_kwargs).validate(strict=False)
    except (AttributeError, TypeError, ValueError) as error:  # of settings that are objects there
        raise ConfigError(str(error)) from error


def check_run(cfg: Mapping[str, Any], args: RunArguments) -> None:
    """Check what needs neither data nor weights: reporters, the optimizer, the model's arguments, generation.

    Raises:
        ConfigError: names the key.
    """
    check_reporting(args)
    if args.do_train:
        check_training(args)
    check_model_args(cfg["model_args"])
    if args.do_train:
        groups = cfg["model_args"].get("learning_rate_groups", {}).values()
        check_learns(args, (args.learning_rate, cfg["model_args"].get("learning_rate_pretraining_components"), *groups))
    check_generation((cfg.get("data_args") or {}).get("gen_kwargs"))

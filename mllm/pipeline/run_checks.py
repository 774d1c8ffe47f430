"""The checks of a config that need PyTorch and transformers: `model_args`, and `gen_kwargs`. Nothing is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from transformers import GenerationConfig

from mllm.config.run_arguments import RunArguments
from mllm.config.sections import generation_sections
from mllm.errors import ConfigError, ModelError
from mllm.fields import check, check_arguments, check_names, in_field
from mllm.generation_args import GenerationArgs, as_generate_takes_them
from mllm.geometry import PlacementKind
from mllm.model_files import NAME_A_MODEL, how_to_get
from mllm.models.adapters.injection import base_of
from mllm.models.adapters.param_groups import ParamGroupOptions
from mllm.models.adapters.settings import AdaptersConfig
from mllm.models.arguments import TokenizerConfig
from mllm.models.prompt_format import model_type_of
from mllm.pipeline.best_model import read_stopping_rule
from mllm.pipeline.optimization import check_learns, check_reporting, check_training
from mllm.registry import MODELS, RegionCodecConfig, TemplateConfig
from mllm.signatures import parameters_of

CHECKPOINT_KEYS = (
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
    image_numbers: bool | None = None
    adapters: AdaptersConfig | None = None
    tokenizer: TokenizerConfig | None = None


def typed(model_args: Mapping[str, Any]) -> dict[str, Any]:
    """`model_args` with the type of the model; where they name none, that of their folder.

    Raises:
        ModelError: `model_name_or_path` is no folder, or does not say what it holds.
    """
    folder = model_args.get("model_name_or_path")
    if model_args.get("type") is not None or not isinstance(folder, str):
        return dict(model_args)
    if not Path(folder).is_dir():
        raise ModelError(
            how_to_get(folder),
            field="model_args.model_name_or_path",
            expected="a folder on this machine",
            found=folder,
        )
    stored = base_of(folder)
    return {**model_args, "type": stored[0]["type"] if stored else model_type_of(folder)}


def check_model_args(model_args: Mapping[str, object]) -> None:
    """Check every value of `model_args` against the type of model that it names.

    Raises:
        ConfigError: names the key.
    """
    in_field("model_args", _check_model_args, model_args)


def _check_model_args(model_args: Mapping[str, object]) -> None:
    if model_args.get("type") is None:
        raise ConfigError(NAME_A_MODEL, expected="type or model_name_or_path", found="neither")
    built = in_field("type", MODELS.find, model_args["type"])
    common = {one.name for kind in (CommonModelArgs, ParamGroupOptions) for one in fields(kind)}
    own = parameters_of(built)
    # a part that a base config describes is taken away with None
    nothing = {name for name in CHECKPOINT_KEYS if model_args.get(name) is None} - {*common, *own}
    check_names(model_args, {"type", *common, *own, *nothing})
    for kind in (CommonModelArgs, ParamGroupOptions):
        known = {one.name for one in fields(kind)}
        check({name: value for name, value in model_args.items() if name in known}, kind)
    given = {name: value for name, value in model_args.items() if name not in {"type", *common, *nothing}}
    check_arguments(given, built, also=("tokenizer",))


def check_generation(gen_kwargs: Mapping[str, object] | None, field: str = "data_args.gen_kwargs") -> None:
    """Check arguments of generate(), which stand in `field`.

    Raises:
        ConfigError: names the key.
    """
    in_field(field, _check_generation, gen_kwargs or {})


def _check_generation(gen_kwargs: Mapping[str, object]) -> None:
    check_arguments(gen_kwargs, GenerationArgs)
    try:
        GenerationConfig(**as_generate_takes_them(gen_kwargs)).validate(strict=False)
    except (AttributeError, TypeError, ValueError) as error:  # of settings that are objects there
        raise ConfigError(str(error)) from error


def check_run(cfg: Mapping[str, Any], args: RunArguments) -> None:
    """Check what needs neither data nor weights: reporters, when to stop, the optimizer, the model's
    arguments, generation.

    Raises:
        ConfigError: names the key.
    """
    check_reporting(args)
    read_stopping_rule(cfg)
    if args.do_train:
        check_training(args)
    check_model_args(cfg["model_args"])
    if args.do_train:
        groups = cfg["model_args"].get("learning_rate_groups", {}).values()
        check_learns(args, (args.learning_rate, cfg["model_args"].get("learning_rate_pretraining_components"), *groups))
    for field, given in generation_sections(cfg.get("data_args") or {}).items():
        check_generation(given, field)

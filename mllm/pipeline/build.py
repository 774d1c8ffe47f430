"""A config -> the objects that run: datasets, processor, model, trainer. The only place where they meet."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from transformers import PreTrainedTokenizerBase
from transformers.integrations.deepspeed import is_deepspeed_zero3_enabled, unset_hf_deepspeed_config

from mllm.cache import cache_folder
from mllm.config.data_args import CollatorOptions
from mllm.config.reward_args import read_reward_args
from mllm.config.run_arguments import RunArguments
from mllm.config.sections import generation_sections
from mllm.conversation.codec_base import RegionCodec
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import RenderedTurn, Template, TextSpan
from mllm.conversation.tokenizer_training import blank_tokenizer, train_tokenizer
from mllm.dataset.resolution import resolutions_in
from mllm.errors import ConfigError, ImageError, ModelError
from mllm.fields import in_field, read_section
from mllm.generation_args import check_ids, check_room
from mllm.images import current_settings
from mllm.images.cache import DiskCache
from mllm.model_files import NAME_A_MODEL, PROMPT_FORMAT_FILE
from mllm.models.adapters.injection import as_base, base_of, inject_adapters, load_adapted, merge, parameter_table
from mllm.models.adapters.param_groups import ParamGroupOptions
from mllm.models.adapters.selection import embeddings
from mllm.models.adapters.settings import Adapters, read_adapters
from mllm.models.base import VisionLanguageModel
from mllm.models.checkpoints.vocabulary import check_added_tokens, record_tokens, recorded_tokens
from mllm.models.language_models import context_of, position_limit
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_export import export_obstacle
from mllm.models.parts import part_of
from mllm.models.prompt_format import PROMPT_FORMAT_KEYS, PromptFormat, chosen_prompt_format, stored_prompt_format
from mllm.models.vision.kept_features import KeptFeatures
from mllm.pipeline.best_model import read_stopping_rule
from mllm.pipeline.data import Data, load_data
from mllm.pipeline.planning import WINDOW
from mllm.pipeline.policy_trainer import PolicyTrainer
from mllm.pipeline.prompts import PromptDataset
from mllm.pipeline.provenance import of_model
from mllm.pipeline.replaced_parts import say_replaced
from mllm.pipeline.resume import describe_run
from mllm.pipeline.run_checks import CHECKPOINT_KEYS, check_model_args
from mllm.pipeline.train_data import ItemDataset, TrainDataset
from mllm.pipeline.trainer import Trainer
from mllm.registry import CODECS, MODELS, REWARDS, TEMPLATES
from mllm.tokenizer_files import load_tokenizer, token_id
from mllm.types import IMAGE

logger = logging.getLogger(__name__)

Section = Mapping[str, Any]
RATES = tuple(ParamGroupOptions.__dataclass_fields__)
"""Keys of model_args that the optimizer takes."""
TOKENIZER_SAMPLE = 4096
"""About how many items of the training set a tokenizer from scratch is trained on."""


def build(cfg: Section, args: RunArguments, data: Data | None = None) -> Trainer:
    """Everything else that a config describes, ready to go; `data` is loaded where it is not given."""
    data = data or load_data(cfg, args)
    data_args = dict(cfg.get("data_args") or {})
    model_args = dict(cfg["model_args"])
    collating = data_args.get("collator_kwargs") or {}
    options = in_field("data_args.collator_kwargs", read_section, collating, CollatorOptions)
    rates = ParamGroupOptions(**{name: model_args.pop(name) for name in RATES if model_args.get(name) is not None})
    # transformers would shard each part for ZeRO-3 while it is made; the Trainer shards the whole model, and sets this
    unset_hf_deepspeed_config()
    processor, model = build_model(model_args, data_args, data.train)
    if data.train is not None:
        require_trainable(model)
    for test in (data.validation, *data.tests.values()):
        _check_resolutions(processor, test and test.items)
    _check_resolutions(processor, data.train)
    collator = Collator(
        pad_token_id=cast("int", processor.tokenizer.pad_token_id),
        packing=options.packing,
        max_tokens=options.max_tokens,
        pad_to_multiple_of=options.pad_to_multiple_of,
    )
    if collator.packing != "none" and (args.do_train or args.do_eval):
        model.check_packing()  # now, not at the first step
    if args.do_train and isinstance(model, Llava) and (why := export_obstacle(model)):
        logger.info("the trained model cannot be exported to transformers: %s", why)
    shared = collator.packing == "shared"
    section = cfg.get("reward_args") if data.train is not None else None
    given: dict[str, Any] = {"split": shared, "seed": args.seed}
    kind: Callable[..., Trainer] = Trainer
    train = None
    if data.train is not None and section is not None:
        asked = read_reward_args(section)
        rewards = {name: REWARDS.make(reward) for name, reward in asked.rewards.items()}
        kind = partial(PolicyTrainer, reward_args=asked, rewards=rewards)
        train = PromptDataset(data.train, processor, answers=asked.num_generations, **given)
    elif data.train is not None:
        train = TrainDataset(data.train, processor, **given)
    trainer = kind(
        model=model,
        args=args,
        processor=processor,
        collator=collator,
        train_dataset=train,
        validation=data.validation,
        about=_about(cfg),
        described_model=of_model(cfg["model_args"]),
        early_stopping=read_stopping_rule(cfg),
        rates=rates,
        kind=model_args["type"],
        prompt_format=chosen_prompt_format(model_args),
        described={} if data.train is None else describe_run(cfg, args, len(data.train)),
        window=WINDOW if options.window is None else options.window,
    )
    if train is not None and current_settings().features == "cached":
        _keep_features(model, sharded=trainer.is_fsdp_enabled or is_deepspeed_zero3_enabled())
    return trainer


def _keep_features(model: VisionLanguageModel, *, sharded: bool) -> None:
    """
    Raises:
        ConfigError: features would change, or the model's weights are not whole outside of its forward pass.
    """
    why = "all ranks gather sharded weights at the same time" if sharded else model.features_obstacle
    if why:
        raise ConfigError(why, field="data_args.images.features", expected="'computed'", found="'cached'")
    settings = current_settings()
    folder, size = cache_folder() / "features", int(settings.features_gb * 1e9)
    model.kept = KeptFeatures(DiskCache(folder, size, what="features", setting="MLLM_CACHE", lasting=True), model)


def _check_resolutions(processor: Processor, items: object) -> None:
    """
    Raises:
        ConfigError: a dataset bounds its images in a way that the model does not take.
    """
    for resolution in resolutions_in(items):
        processor.inputs.view_at(resolution)


def require_trainable(model: VisionLanguageModel) -> None:
    """
    Raises:
        ConfigError: no parameter is trained, or one that an optimizer cannot update as it is stored.
    """
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if torch.float16 in dtypes:  # in it Adam's epsilon is 0, and small updates vanish
        raise ConfigError(
            field="model_args.dtype",
            expected="'float32' (with training_args.fp16=True to compute in float16) or 'bfloat16' for what is trained",
            found="'float16'",
        )
    if not dtypes:
        raise ConfigError(
            "leave a part out of freeze, or name some in adapters (targets, unfrozen)",
            field="model_args",
            expected="parameters to train",
            found="none",
        )


def _about(cfg: Section) -> str:
    model = cfg["model_args"]
    return f"{model.get('type')}: {model.get('model_name_or_path') or 'trained from its parts'}"


def build_model(
    model_args: Section,
    data: Section,
    train: ItemDataset | None,
    *,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> tuple[Processor, VisionLanguageModel]:
    """The processor and the model; `train` is read only where a tokenizer is to be trained on it.

    `tokenizer`: stands in for the one that the config names.
    """
    check_model_args(model_args)
    args = {name: value for name, value in model_args.items() if name not in RATES}
    prompt_format = chosen_prompt_format(args)
    trained = stored_prompt_format(args.get("model_name_or_path"))
    for name in PROMPT_FORMAT_KEYS:
        asked = args.pop(name, None)
        if asked is not None and trained.get(name, asked) != asked:
            logger.warning("the model was trained with %s %s; this run uses %s", name, trained[name], asked)
    if trained:
        _say_assumed(model_args, trained, prompt_format)
    codec: RegionCodec = CODECS.make(prompt_format.codec)
    template: Template = TEMPLATES.make(prompt_format.template)
    adapters = args.pop("adapters", None)
    adapters = None if adapters is None else read_adapters(adapters)
    folder = args.get("model_name_or_path")
    if folder:
        tokenizer = tokenizer or load_tokenizer(folder)
        check_added_tokens(folder, tokenizer)
        given = {name: args.pop(name) for name in CHECKPOINT_KEYS if name in args}
        replaced = {name: value for name, value in given.items() if value is not None}
    else:
        replaced = {}
        named = args.pop("tokenizer", None)
        tokenizer = tokenizer or _tokenizer(named, args, template, train)
    wanted = (*template.tokens, *prompt_format.tokens, *codec.tokens)
    new = [token for token in wanted if token_id(tokenizer, token) is None]
    tokenizer.add_tokens(new, special_tokens=True)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    template.end(tokenizer)  # what it cannot render is refused before weights are read
    model = _model(args, adapters, tokenizer, new_tokens=[token for token in new if token not in prompt_format.tokens])
    if folder and replaced:
        say_replaced(folder, replaced, model.config)
    for field, settings in (
        ("generation_config.json", vars(model.generation_config)),
        *generation_sections(data).items(),
    ):
        in_field(field, check_ids, settings, model.get_input_embeddings().num_embeddings)
    in_field("generation_config.json", check_room, vars(model.generation_config), None)
    for field, settings in generation_sections(data).items():
        in_field(field, check_room, settings, context_of(model.text_model))
    if hasattr(model.config, "added_tokens"):
        record_tokens(model.config, [*recorded_tokens(folder), *new])
    processor = Processor(
        tokenizer=tokenizer,
        template=template,
        codec=codec,
        view=model.image_preprocessor(prompt_format.placement),
        max_length=data.get("max_length"),
        positions=position_limit(model.text_model),
        image_numbers=prompt_format.image_numbers,
    )
    return processor, model


def _say_assumed(model_args: Section, trained: Section, prompt_format: PromptFormat) -> None:
    """What neither the config nor the folder's file says about how the model is spoken to."""
    assumed = [
        f"{name} {getattr(prompt_format, name)!r}"
        for name in ("codec", "template")
        if trained.get(name) is None and model_args.get(name) is None
    ]
    if assumed:
        logger.warning(
            "%s does not record the model's %s; %s assumed; if that is wrong, set it in model_args",
            Path(model_args["model_name_or_path"]) / PROMPT_FORMAT_FILE,
            " and ".join(one.split(" ")[0] for one in assumed),
            " and ".join(assumed) + (" are" if len(assumed) > 1 else " is"),
        )


def _model(
    args: Section, adapters: Adapters | None, tokenizer: PreTrainedTokenizerBase, *, new_tokens: list[str]
) -> VisionLanguageModel:
    """The model with its adapters, new ones or those that its folder holds."""
    folder = args.get("model_name_or_path")
    stored = base_of(folder) if folder else None
    if stored:
        base, brought = stored
        if adapters and replace(adapters, from_pretrained=None) != brought:
            raise ConfigError(
                f"continue with those of the folder, or run mllm checkpoint merge {folder} OUT_DIR first",
                field="model_args.adapters",
                expected=f"those that {folder} holds, {brought.as_dict()}",
                found=f"{adapters.as_dict()}",
            )
        args, adapters = over_base(base, args), brought
    model = MODELS.make(args, tokenizer=tokenizer)
    if adapters is None and args.get("quantization"):
        # quantised weights are not written again: what is trained is saved beside them
        trained = {part_of(name) for name, parameter in model.named_parameters() if parameter.requires_grad}
        adapters = Adapters(type="full", targets=tuple(sorted(trained))) if trained else None
    if adapters:
        inject_adapters(model, adapters, as_base(args))
        if stored and folder:
            load_adapted(model, folder)
        logger.info("what is trained:\n%s", parameter_table(model))
        _check_new_tokens(model, new_tokens)
    return model


def over_base(base: Section, args: Section) -> dict[str, object]:
    """The model_args of a folder's base, with those that were given beside the folder."""
    given = {name: value for name, value in args.items() if name != "model_name_or_path" and value is not None}
    return {**base, **given}


def _check_new_tokens(model: VisionLanguageModel, new_tokens: list[str]) -> None:
    names = embeddings(model)
    if new_tokens and not any(p.requires_grad for name, p in model.named_parameters() if name in names):
        logger.warning(
            "%d new tokens (%s ...) have embeddings that are not trained; "
            "set adapters.unfrozen=['embeddings'] to train them",
            len(new_tokens),
            new_tokens[0],
        )


def load_merged(folder: str, *, dtype: str | None = None) -> tuple[Any, PreTrainedTokenizerBase]:
    """The plain model that the adapters in a folder make of their base, which is not quantised, and its tokenizer.

    `dtype`: of the base; default: as it was trained.

    Raises:
        ModelError: no adapters there, or their base is gone.
    """
    args, stored = base_args(folder), base_of(folder)
    assert stored is not None, "base_args has found it"
    tokenizer = load_tokenizer(folder)
    model = MODELS.make(args if dtype is None else {**args, "dtype": dtype}, tokenizer=tokenizer)
    inject_adapters(model, stored[1], args)
    load_adapted(model, folder)
    return merge(model), tokenizer


def base_args(folder: str) -> dict[str, Any]:
    """The `model_args` of the base of a folder of adapters, without quantisation.

    Raises:
        ModelError: no adapters there, or their base is gone.
    """
    stored = base_of(folder)
    if stored is None:
        raise ModelError(where=str(folder), expected="adapters to merge", found="none")
    return {name: value for name, value in stored[0].items() if name != "quantization"}


def _tokenizer(cfg: Any, model_args: Section, template: Template, train: ItemDataset | None) -> PreTrainedTokenizerBase:
    if cfg is None:
        cfg = model_args.get("language_model")
    if isinstance(cfg, str):
        return load_tokenizer(cfg)
    if cfg is None or "vocab_size" not in cfg:
        expected = "a folder, or dict(vocab_size=...) to train one on data_args.train"
        raise ConfigError(NAME_A_MODEL, field="model_args.tokenizer", expected=expected, found="nothing")
    if train is None:
        raise ConfigError(
            NAME_A_MODEL,
            field="model_args.tokenizer",
            expected="an existing tokenizer, as this run does not train",
            found="dict(vocab_size=...), which has to be trained",
        )
    return train_tokenizer(_corpus(train, template, blank_tokenizer()), vocab_size=cfg["vocab_size"])


def _corpus(items: ItemDataset, template: Template, tokenizer: PreTrainedTokenizerBase) -> Iterator[str]:
    """The rendered text of items from all over the set, special tokens left out.

    An item whose image is not there is passed over where training does so, which counts it.
    """
    items.set_epoch(0)
    for index in range(0, len(items), max(1, len(items) // TOKENIZER_SAMPLE)):
        try:
            turns = items[index].turns
        except ImageError:
            if current_settings().on_error == "raise":
                raise
            continue
        said = [RenderedTurn(turn.role, (TextSpan(turn.text),)) for turn in turns]
        text = "".join(piece.text for piece in template.render(said, tokenizer))
        for token in (IMAGE, *template.tokens, *tokenizer.all_special_tokens):
            text = text.replace(token, " ")
        yield text

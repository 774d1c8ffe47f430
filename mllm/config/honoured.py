"""What a run makes of each field of transformers' `Seq2SeqTrainingArguments`: what transformers says, or a refusal.

A field that would change nothing here is refused too, since whoever sets it expects something of it. A field that a new
version of transformers adds is in no table until somebody decides (`tests/config/test_honoured.py`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from mllm.config.training_fields import training_fields
from mllm.errors import ConfigError
from mllm.fields import show

GROUPS = {
    "The run": (
        "output_dir", "do_train", "do_eval", "do_predict", "resume_from_checkpoint", "use_cpu", "seed", "data_seed",
        "full_determinism", "accelerator_config", "debug", "skip_memory_metrics", "overwrite_output_dir",
        "mirror_dir",
    ),
    "Steps and precision": (
        "per_device_train_batch_size", "num_train_epochs", "max_steps", "gradient_accumulation_steps",
        "auto_find_batch_size", "average_tokens_across_devices", "torch_empty_cache_steps", "neftune_noise_alpha",
        "activation_checkpointing", "activation_checkpointing_kwargs", "gradient_checkpointing",
        "gradient_checkpointing_kwargs", "torch_compile", "torch_compile_backend", "torch_compile_mode", "bf16",
        "fp16", "tf32", "max_nonfinite_steps",
    ),
    "Optimizer": (
        "learning_rate", "lr_scheduler_type", "lr_scheduler_kwargs", "warmup_steps", "optim", "optim_args",
        "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "max_grad_norm",
    ),
    "Reading data": (
        "train_sampling_strategy", "ignore_data_skip", "dataloader_drop_last", "dataloader_num_workers",
        "dataloader_pin_memory", "dataloader_persistent_workers", "dataloader_prefetch_factor",
        "dataloader_multiprocessing_context", "dataloader_in_order",
    ),
    "Logs": (
        "logging_strategy", "logging_steps", "logging_first_step", "log_on_each_node",
        "log_level", "log_level_replica", "disable_tqdm", "include_num_input_tokens_seen", "report_to", "run_name",
        "project", "trackio_space_id", "trackio_bucket_id", "trackio_static_space_id",
    ),
    "Evaluation and checkpoints": (
        "eval_strategy", "eval_steps", "eval_delay", "eval_on_start", "per_device_eval_batch_size",
        "prediction_loss_only", "predict_with_generate", "save_strategy", "save_steps", "save_total_limit",
        "save_only_model", "load_best_model_at_end", "metric_for_best_model", "greater_is_better",
        "restore_callback_states_from_checkpoint", "num_samples", "resume",
    ),
    "Several processes": (
        "ddp_find_unused_parameters", "ddp_bucket_cap_mb", "ddp_broadcast_buffers", "ddp_static_graph", "ddp_backend",
        "ddp_timeout",
    ),
}  # fmt: skip
"""What a run does as it is said, by the titles under which `--help` lists it."""
OWN_FIELDS = {"overwrite_output_dir", "max_nonfinite_steps", "mirror_dir", "num_samples", "resume"}
"""Fields that transformers does not have."""
HONOURED = frozenset(name for names in GROUPS.values() for name in names) - OWN_FIELDS

_CONFIG_FILE = "launch with a file of accelerate_config/: accelerate launch --config_file FILE"
_GENERATION = "say it in data_args.gen_kwargs"
_EVALUATION = "evaluation keeps what each item was answered and nothing else of a batch"
_HUB = "nothing is uploaded; `hf upload` takes the saved folder"
REFUSED = {
    "logging_nan_inf_filter": "it would log a loss that is not finite as 0",
    "label_smoothing_factor": "the loss is taken on labelled positions only",
    "use_liger_kernel": "the head runs on labelled positions only, which bounds the memory of logits as well",
    "liger_kernel_config": "the head runs on labelled positions only, which bounds the memory of logits as well",
    "use_cache": "training keeps no keys and values; generation does by itself",
    "optim_target_modules": "to train less than all weights, see model_args.adapters",
    "bf16_full_eval": "evaluation computes in the precision that training does",
    "fp16_full_eval": "evaluation computes in the precision that training does",
    "eval_do_concat_batches": _EVALUATION,
    "eval_use_gather_object": _EVALUATION,
    "eval_accumulation_steps": _EVALUATION,
    "include_for_metrics": _EVALUATION,
    "batch_eval_metrics": _EVALUATION,
    "generation_max_length": f"{_GENERATION}: dict(max_new_tokens=N)",
    "generation_num_beams": f"{_GENERATION}: dict(num_beams=N)",
    "generation_config": _GENERATION,
    "sortish_sampler": "data_args.collator_kwargs=dict(packing='rows') leaves no padding to save",
    "length_column_name": "lengths are measured, not read from a column",
    "remove_unused_columns": "items have no columns",
    "label_names": "labels are called 'labels'",
    "save_on_each_node": "output_dir must be a folder that all nodes see",
    "enable_jit_checkpoint": "a signal lets the step finish and writes a checkpoint by itself",
    "push_to_hub": _HUB,
    "hub_token": _HUB,
    "hub_private_repo": _HUB,
    "hub_model_id": _HUB,
    "hub_strategy": _HUB,
    "hub_always_push": _HUB,
    "hub_revision": _HUB,
    "fsdp": _CONFIG_FILE,
    "fsdp_config": _CONFIG_FILE,
    "deepspeed": _CONFIG_FILE,
    "parallelism_config": _CONFIG_FILE,
    "local_rank": "the variables that a launcher sets say it",
}
"""Fields that may have no value but their default, and why, or what to do instead."""

MOST_WORKERS = 1024
"""Worker processes of a rank; a number beyond is a slip, which would bring the machine down."""
_UNTRIED = ("galore", "apollo", "lomo", "adalomo", "schedule_free")
_ACCELERATOR = {"non_blocking", "gradient_accumulation_kwargs"}
_CHECKPOINTING = {"every_n_layers", "offload", "use_reentrant", "preserve_rng_state"}


Obstacle = tuple[str, str] | None
"""What was expected of a value that is not honoured, and why or what to do instead; None for others."""


def _optimizer(value: Any) -> Obstacle:
    steps_itself = str(value).startswith(_UNTRIED)
    return ("a tested optimizer", "the update steps of this one differ") if steps_itself else None


def _sampling(value: object) -> Obstacle:
    if value in ("random", "sequential"):
        return None
    return "'random' or 'sequential'", "packing plans batches by length: data_args.collator_kwargs"


def _workers(value: object) -> Obstacle:
    return None if type(value) is int and 0 <= value <= MOST_WORKERS else (f"0 to {MOST_WORKERS}", "")


def _counted_tokens(value: object) -> Obstacle:
    known = isinstance(value, bool) or value in ("all", "non_padding", "no")
    return None if known else ("True, False, 'all', 'non_padding' or 'no'", "")


def _accelerator(value: object) -> Obstacle:
    if not isinstance(value := _object(value), Mapping):
        return "a dict", ""
    accumulation = value.get("gradient_accumulation_kwargs") or {}
    if not isinstance(accumulation, Mapping):
        return "a dict as gradient_accumulation_kwargs", ""
    if "num_steps" in accumulation:
        return "no gradient_accumulation_kwargs.num_steps", "set gradient_accumulation_steps"
    if other := sorted({*value} - _ACCELERATOR) or sorted({*accumulation} - {"sync_each_batch"}):
        return "only non_blocking and gradient_accumulation_kwargs.sync_each_batch", f"{other[0]} is not supported"
    return None


def _checkpointing(value: object) -> Obstacle:
    if not isinstance(value := _object(value), Mapping):
        return "a dict", ""
    other = sorted({*value} - _CHECKPOINTING)
    return (f"only {', '.join(sorted(_CHECKPOINTING))}", f"{other[0]} is not supported") if other else None


def _object(value: object) -> Any:
    """Of JSON, as flags give it."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except json.JSONDecodeError:
        return None


IN_PART: dict[str, Callable[[Any], Obstacle]] = {
    "optim": _optimizer,
    "train_sampling_strategy": _sampling,
    "dataloader_num_workers": _workers,
    "include_num_input_tokens_seen": _counted_tokens,
    "accelerator_config": _accelerator,
    "activation_checkpointing_kwargs": _checkpointing,
    "gradient_checkpointing_kwargs": _checkpointing,
}
"""Honoured fields of which some values are not."""


def refuse(training_args: Mapping[str, object], usual: Mapping[str, object]) -> None:
    """Refuse what a run would not do. `usual` holds our defaults where they are not those of transformers.

    Raises:
        ConfigError: names the field, and says what to do instead.
    """
    for name, value in training_args.items():
        if name in REFUSED and not _is_usual(value, usual.get(name, training_fields()[name].default)):
            raise ConfigError(f"not supported: {REFUSED[name]}", field=f"training_args.{name}")
        if value is not None and (obstacle := IN_PART.get(name, _allowed)(value)):
            expected, why = obstacle
            raise ConfigError(why, field=f"training_args.{name}", expected=expected, found=show(value))


def _allowed(_: object) -> Obstacle:
    return None


def _is_usual(value: object, usual: object) -> bool:
    value = list(value) if isinstance(value, tuple) else value
    return value == usual if usual else not value or value == usual

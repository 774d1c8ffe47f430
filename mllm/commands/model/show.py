"""`mllm model show CONFIG`: the tree of modules, and the memory that a training step would take.

The model is built without its weights. Of a folder, only config.json and the tokenizer, if it has one, are read. For a
folder that is not there, the published sizes stand in where `published.py` knows them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase, Seq2SeqTrainingArguments
from transformers.training_args import OptimizerNames

from mllm.commands.model import memory
from mllm.commands.model.images import Assumed, assumed
from mllm.commands.model.module_tree import format_rows, module_tree
from mllm.commands.model.published import with_published_sizes
from mllm.config.config import read
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.conversation.tokenizer_training import blank_tokenizer
from mllm.errors import ConfigError
from mllm.pipeline.build import build_model
from mllm.pipeline.run_checks import check_model_args, typed
from mllm.records import read_item
from mllm.tokenizer_files import has_tokenizer
from mllm.types import IMAGE, EncodedSample

TEXT_TOKENS = 256
"""Of a row whose length is not given."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """Bytes of one training step on one of `devices` devices.

    Attributes:
        gathered: what FSDP holds unsharded for a while; 0 on one device.
        activations: saved for the backward pass.
        checkpointed: the same with activation checkpointing, one layer's recomputation included.
    """

    weights: int
    gradients: int
    optimizer: int
    gathered: int
    activations: int
    checkpointed: int

    def total(self, *, checkpointed: bool) -> int:
        fixed = self.weights + self.gradients + self.optimizer + self.gathered
        return fixed + (self.checkpointed if checkpointed else self.activations)


def show_config(config: str, options: Sequence[str], **asked: Any) -> None:
    """As `show_model`."""
    print(show_model(read(config, options=options).to_dict(), **asked))


def show_model(
    cfg: Mapping[str, Any],
    *,
    devices: int,
    rows: int | None = None,
    length: int | None = None,
    image_size: tuple[int, int] | None = None,
) -> str:
    """The text of `mllm model show`.

    Raises:
        ConfigError: what building the model raises; a length that an image alone exceeds; an unknown optimizer; a
            training set that cannot be read.
    """
    training = cfg["training_args"]
    args = Seq2SeqTrainingArguments(output_dir="unused", use_cpu=True, **_optimizer(training))
    model_args, replaced = with_published_sizes(cfg["model_args"])
    model_args = typed(model_args)
    processor, model = skeleton(model_args, tokenizer=blank_tokenizer() if replaced else None)
    tree = format_rows(module_tree(model))
    if replaced:
        tree = f"{', '.join(replaced)}: not on this machine, shown with the published sizes\n\n{tree}"
    if trains_tokenizer(model_args):
        tokens = f"{model.get_input_embeddings().num_embeddings:,} tokens"
        tree = f"tokenizer: trained on data_args.train, which may give fewer; shown with {tokens}\n\n{tree}"
    size: int = rows or training.get("per_device_train_batch_size") or 8  # as in transformers
    image = assumed(cfg, processor, image_size) if processor.view.token else None
    batch = make_batch(processor, size, length or (cfg.get("data_args") or {}).get("max_length"), image)
    half = torch.bfloat16 if training.get("bf16") else torch.float16 if training.get("fp16") else None
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ConfigError(
            "leave a part out of it", where="model_args.freeze", expected="parts left to train", found="none"
        )
    alone, sharded = estimates(model, batch, args, devices=devices, half=half)
    seen = f"\n{image.said(processor)}" if image else ""
    settings = [
        f"{size} rows of {batch['input_ids'].shape[1]} tokens{', an image in each' if image else ''}",
        f"optim {OptimizerNames(args.optim).value}",
    ]
    settings.append("fp32" if half is None else f"autocast to {str(half).removeprefix('torch.')}")
    chosen = bool(training.get("activation_checkpointing") or training.get("gradient_checkpointing"))
    return f"{tree}\n\nA training step: {', '.join(settings)}{seen}\n{_table(alone, sharded, devices, chosen)}"


def skeleton(
    model_args: Mapping[str, object], *, tokenizer: PreTrainedTokenizerBase | None = None
) -> tuple[Processor, Any]:
    """The processor and the model of a config, the model without storage."""
    check_model_args(model_args)
    with torch.device("meta"):
        return build_model(model_args, {}, None, tokenizer=tokenizer or _stand_in(model_args))


def estimates(
    model: Any, batch: Mapping[str, Any], args: Seq2SeqTrainingArguments, *, devices: int, half: torch.dtype | None
) -> tuple[Estimate, Estimate]:
    """Of one device alone, and of each of `devices`; the model, one without storage, is of no further use."""
    fixed = [
        {
            "weights": memory.weight_bytes(model, count),
            "gradients": memory.gradient_bytes(model, count),
            "optimizer": memory.optimizer_bytes(model, args, count),
            "gathered": memory.gathered_bytes(model, half) if count > 1 else 0,
        }
        for count in (1, devices)
    ]
    saved = [_activations(model, batch, None, half), _activations(model, batch, half, half)]
    alone, sharded = (Estimate(**each, **found) for each, found in zip(fixed, saved, strict=True))
    return alone, sharded


def _activations(model: Any, batch: Mapping[str, Any], weights: torch.dtype | None, half: Any) -> dict[str, int]:
    """`weights`: the dtype of parameters; in their own, autocast to `half` keeps copies of them."""
    memory.make_fake(model, weights)
    saved = memory.saved_bytes(model, batch, autocast=half)
    with memory.checkpointed(model):
        outside = memory.saved_bytes(model, batch, autocast=half).total
    return {"activations": saved.total, "checkpointed": outside + saved.largest_layer}


def make_batch(processor: Processor, rows: int, length: int | None, image: Assumed | None) -> dict[str, Any]:
    """Rows of `length` tokens, each with an image, None without; half of the words are an answer.

    Raises:
        ConfigError: what comes before the words is longer.
    """
    few, many = (len(_example(processor, words, words, image).input_ids) for words in (1, 65))
    length = length or few + TEXT_TOKENS
    if length < few + 2:
        raise ConfigError(
            "choose a larger length",
            where="--length",
            expected=f"at least {few + 2} tokens, as a row has {few} before any words",
            found=str(length),
        )
    words = -(-64 * (length - few) // (many - few)) + 2
    examples = [_example(processor, words, words + 2, image) for _ in range(rows)]
    cut = [replace(e, input_ids=e.input_ids[:length], labels=_labels(e)[:length]) for e in examples]
    pad: Any = processor.tokenizer.pad_token_id
    batch = dict(Collator(pad_token_id=pad)(cut))
    del batch["index"], batch["label_sources"]
    return batch


def _example(processor: Processor, question: int, answer: int, image: Assumed | None) -> EncodedSample:
    record = {
        "image": image and image.image(),
        "conversations": [
            {"from": "human", "value": (f"{IMAGE}\n" if image else "") + " ".join(["a"] * question)},
            {"from": "gpt", "value": " ".join(["a"] * answer)},
        ],
    }
    return processor.encode(read_item(record, key="example"), 0)


def _labels(example: EncodedSample) -> torch.Tensor:
    assert example.labels is not None, "an example with an answer"
    return example.labels


def trains_tokenizer(model_args: Mapping[str, object]) -> bool:
    """Whether a run would train a tokenizer on its data."""
    named = model_args.get("tokenizer")
    return isinstance(named, Mapping) and not model_args.get("model_name_or_path")


def _stand_in(model_args: Mapping[str, Any]) -> PreTrainedTokenizerBase | None:
    """A tokenizer where a config trains one, as large as it may become, or where a folder has none; else None."""
    if trains_tokenizer(model_args):
        return blank_tokenizer(model_args["tokenizer"]["vocab_size"])
    named = model_args.get("model_name_or_path") or model_args.get("tokenizer") or model_args.get("language_model")
    if isinstance(named, str):
        bare = Path(named, "config.json").is_file() and not has_tokenizer(named)
        return blank_tokenizer() if bare else None
    return None


def _optimizer(training: Mapping[str, Any]) -> dict[str, Any]:
    return {name: training[name] for name in ("optim", "optim_args") if training.get(name) is not None}


def _table(alone: Estimate, sharded: Estimate, devices: int, chosen: bool) -> str:
    largest = alone.total(checkpointed=False)
    unit, size = ("GiB", 2**30) if largest >= 2**30 else ("MiB", 2**20)
    rows = {name: [getattr(each, name) for each in (alone, sharded)] for name in ("weights", "gradients", "optimizer")}
    rows["gathered by FSDP"] = [alone.gathered, sharded.gathered]
    rows["activations"] = [alone.activations, sharded.activations]
    rows["activations, checkpointed"] = [alone.checkpointed, sharded.checkpointed]
    for name, checkpointed in (("total", False), ("total, checkpointed", True)):
        mark = " (as configured)" if chosen == checkpointed else ""
        rows[name + mark] = [each.total(checkpointed=checkpointed) for each in (alone, sharded)]
    lines = [f"{unit:36}{'one device':>12}{f'each of {devices}':>14}"]
    lines += [f"{name:36}{one / size:>12.2f}{each / size:>14.2f}" for name, (one, each) in rows.items()]
    return "\n".join(lines)

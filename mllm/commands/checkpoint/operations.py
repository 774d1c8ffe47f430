"""`mllm checkpoint inspect|convert|export|merge|diff`: what checkpoints hold, and other layouts, in and out."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForSeq2SeqLM,
    PreTrainedTokenizerBase,
)

from mllm.commands.checkpoint.inventory import Inventory, compare_checkpoints
from mllm.compat.peft import PeftModel
from mllm.errors import ModelError
from mllm.files import writing_to
from mllm.models.adapters.export import export_adapter, refused_by_vllm
from mllm.models.adapters.injection import PREFIX, base_of
from mllm.models.arguments import Dtype
from mllm.models.auto import read_config as read_library_config
from mllm.models.checkpoints import conversion
from mllm.models.checkpoints.layout import BaseModels, detect, open_path, read_optional_config
from mllm.models.checkpoints.lazy import open_folder
from mllm.models.checkpoints.readback import WrittenModel, own_logits, transformers_logits
from mllm.models.checkpoints.vocabulary import strip_added_tokens
from mllm.models.components import torch_dtype
from mllm.models.flamingo.builder import load_flamingo
from mllm.models.flamingo.checkpoints import reference_state, save_reference, to_our_names
from mllm.models.flamingo.model import MllmFlamingoConfig
from mllm.models.flamingo.otter import TOKENS, save_otter
from mllm.models.llava.transformers_export import as_transformers, export_transformers_llava
from mllm.models.llava.transformers_layout import THEIRS, load_llava
from mllm.models.prompt_format import kind_in_transformers, record_prompt_format, stored_prompt_format
from mllm.models.strict_loading import load_strictly
from mllm.pipeline.build import base_args, load_merged
from mllm.registry import MODELS
from mllm.tokenizer_files import load_tokenizer
from mllm.tokenizer_saving import save_tokenizer
from mllm.types import IMAGE

NEEDED = {"transformers-llava": (IMAGE,), "openflamingo": (IMAGE, TOKENS[0]), "otter": (IMAGE, *TOKENS)}
"""Tokens without which a layout cannot say where an image is, or where an answer begins and ends."""
AUTO: dict[str, Any] = {
    "hf": AutoModelForImageTextToText,
    "causal_lm": AutoModelForCausalLM,
    "seq2seq": AutoModelForSeq2SeqLM,
}
"""By type of model, the class of transformers that reads its folders."""
CHECKPOINT = "checkpoint.pt"
LOW_RANK_OF_LAYER = re.compile(r"\.lora_(A\.weight|B\.weight|magnitude_vector)$")


@contextmanager
def new_folder(out: str) -> Iterator[Path]:
    """A folder beside `out`, which becomes `out` when all is written; of work that fails nothing is left.

    Raises:
        ModelError: `out` holds something already, or cannot be made.
    """
    target = Path(out)
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ModelError(
            "existing files are never overwritten: name another folder",
            where=str(out),
            expected="a new or empty folder",
            found="files in it" if target.is_dir() else "a file",
        )
    partial = target.parent / f".{target.name}.partial-{os.getpid()}"
    with writing_to(target, ModelError):
        partial.mkdir(parents=True)
    try:
        yield partial
        if target.is_dir():
            target.rmdir()
        partial.rename(target)
    finally:
        if partial.exists():
            shutil.rmtree(partial)


def inspect(path: str) -> None:
    print(Inventory.of(open_path(path)).text())


def convert(
    path: str,
    out: str,
    *,
    base: str | None,
    vision_tower: str | None,
    tokenizer: str | None,
    tuning_config: str | None,
    dtype: Dtype | None,
    max_shard_size: str,
) -> None:
    sources = BaseModels(base=base, vision_tower=vision_tower, tokenizer=tokenizer, tuning_config=tuning_config)
    opened = open_path(path)
    with new_folder(out) as folder:
        kind = torch_dtype(dtype) if dtype else None
        written = conversion.convert(opened, folder, sources, dtype=kind, max_shard_size=max_shard_size)
    print(f"{out}: a whole model, for model_args.model_name_or_path")
    if written is None:
        print("  it has no tokenizer, which training and evaluation need: convert again with --tokenizer DIR")
    if opened.config.get("mm_use_im_start_end"):
        print("  it was trained with <im_start> and <im_end> around each image")


def export(model: str, out: str, *, layout: str, whole: bool, original_vocabulary: bool, dtype: Dtype | None) -> None:
    why = None
    with new_folder(out) as folder:
        if layout == "adapter":
            if original_vocabulary or whole or dtype:
                raise ModelError(
                    "drop it",
                    where="--format adapter",
                    expected="neither --original-vocabulary nor --whole nor --dtype",
                    found="--original-vocabulary" if original_vocabulary else "--whole" if whole else "--dtype",
                )
            export_adapter(model, folder)
            _check_adapter(model, folder)
            why = refused_by_vllm(folder)
        else:
            _export_whole(model, folder, layout, whole=whole, original=original_vocabulary, dtype=dtype)
    print(f"{out}: {layout}")
    if why:
        print(f"  for PEFT alone: vLLM takes no {why}; for it, merge: mllm checkpoint merge {model} OUT_DIR")


def _export_whole(source: str, folder: Path, layout: str, *, whole: bool, original: bool, dtype: Dtype | None) -> None:
    kind = base_args(source)["type"] if base_of(source) else kind_in_transformers(_model_type(source))
    if kind in ("hf", "causal_lm", "seq2seq"):
        raise ModelError(
            "`mllm checkpoint merge` writes adapters and their base as such a folder",
            where=source,
            expected=f"a model of another layout than transformers', for --format {layout}",
            found=f"type {kind!r}, whose folders are transformers' own",
        )
    model, tokenizer = _load(source)
    found, expected = type(model).__name__, "Llava" if layout == "transformers-llava" else "Flamingo"
    if found != expected:
        raise ModelError(where=source, expected=f"a {expected} for --format {layout}", found=f"a {found}")
    if whole and layout != "openflamingo":
        raise ModelError(
            "drop it", where="--whole", expected="another --format", found=f"{layout}, which always holds all weights"
        )
    if dtype:
        model.to(torch_dtype(dtype))
    if original:
        tokenizer = strip_added_tokens(model, tokenizer, folder, needed=NEEDED[layout])
    written, names, place = WrittenModel.of(model, tokenizer), None, folder
    if layout == "transformers-llava":
        export_transformers_llava(model, tokenizer, str(folder))
    elif layout == "otter":
        save_otter(model, tokenizer, str(folder))
    else:
        model.freeze(("vision_tower", "language_model"), "input")
        names = to_our_names(reference_state(model, whole=whole)).keys()
        _check_left_out(source, names)
        place = folder / CHECKPOINT
        save_reference(model, str(place), whole=whole)
        save_tokenizer(tokenizer, folder)
    del model
    opened = open_path(str(place))
    written.check_tensors(detect(opened)[1].named(opened), names)
    if layout == "transformers-llava":
        _check_theirs(folder, written)
    elif layout == "otter":
        again = {"type": "otter", "model_name_or_path": str(folder), "dtype": "auto"}
        written.check_logits(lambda probe: own_logits(MODELS.make(again, tokenizer=tokenizer), probe))


def _check_theirs(folder: Path, written: WrittenModel) -> None:
    config = read_library_config(folder)
    theirs = load_strictly(THEIRS[config.model_type], str(folder), whole=True, dtype="auto")
    written.check_logits(lambda probe: transformers_logits(theirs, probe))


def _check_adapter(model: str, folder: Path) -> None:
    """PEFT, over transformers' own model, must answer as the merged one; both in 32 bits, where no sum is rounded."""
    whole, tokenizer = load_merged(model, dtype="float32")
    written = WrittenModel.of(whole, tokenizer)
    del whole
    args = base_args(model)
    base, kind = args["model_name_or_path"], args["type"]
    if kind == "llava":
        theirs = as_transformers(MODELS.make({**args, "dtype": "float32"}, tokenizer=tokenizer))
    else:
        theirs = load_strictly(AUTO[kind], base, whole=kind == "hf", dtype=torch.float32)
    save_tokenizer(tokenizer, folder)
    written.check_logits(lambda probe: transformers_logits(PeftModel.from_pretrained(theirs, str(folder)), probe))


def _check_left_out(folder: str, names: Collection[str]) -> None:
    """
    Raises:
        ModelError: the folder holds adapters, or trained tensors, of something else than what is exported (`names`).
    """
    if not base_of(folder):
        return
    changed = {LOW_RANK_OF_LAYER.sub(".weight", name.removeprefix(PREFIX)) for name in open_folder(Path(folder))}
    if left_out := sorted(changed - set(names)):
        raise ModelError(
            "export it with --whole",
            where=folder,
            expected="no training beyond what an OpenFlamingo file holds",
            found=f"{left_out[0]} ({len(left_out)} tensors)",
        )


def _load(folder: str) -> tuple[Any, PreTrainedTokenizerBase]:
    """A whole model: adapters are merged into their base."""
    if base_of(folder):
        return load_merged(folder)
    flamingo = _model_type(folder) == MllmFlamingoConfig.model_type
    return (load_flamingo if flamingo else load_llava)(folder), load_tokenizer(folder)


def _model_type(folder: str) -> Any:
    return read_optional_config(Path(folder)).get("model_type")


def merge(adapters: str, out: str, *, dtype: Dtype | None, max_shard_size: str) -> None:
    with new_folder(out) as folder:
        model, tokenizer = load_merged(adapters)
        if dtype:
            model.to(torch_dtype(dtype))
        written, whole = WrittenModel.of(model, tokenizer), {"type": base_args(adapters)["type"], "dtype": "auto"}
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        save_tokenizer(tokenizer, folder)
        if said := stored_prompt_format(adapters):
            record_prompt_format(folder, said.pop("type"), said)
        del model
        written.check_model(lambda: MODELS.make({**whole, "model_name_or_path": str(folder)}, tokenizer=tokenizer))
    print(f"{out}: the whole model")


def diff(a: str, b: str) -> int:
    text, differ = compare_checkpoints(open_path(a), open_path(b))
    print(text)
    return int(differ)

"""Where a training run begins: afresh, from a checkpoint, or not at all because it has finished."""

from __future__ import annotations

import json
import math
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import psutil
from transformers import PreTrainedTokenizerBase

from mllm.config.run_arguments import RunArguments
from mllm.config.sections import texts
from mllm.errors import ConfigError, ModelError, RunError
from mllm.fields import show
from mllm.pipeline.manifest import MANIFEST, WEIGHTS, changes, digest, faults, read_manifest, read_state, saved_at
from mllm.pipeline.ranks import launched
from mllm.tokenizer_files import has_tokenizer, load_tokenizer

AUTO = ("auto", "true")
LENGTH = ("max_steps", "num_train_epochs")
PASSING = (
    *(*LENGTH, "resume_from_checkpoint", "output_dir", "overwrite_output_dir", "mirror_dir"),
    *("do_train", "do_eval", "do_predict"),
)
"""Training arguments that say nothing about how a step is made."""


@dataclass(frozen=True, slots=True)
class Start:
    """How training begins.

    Attributes:
        checkpoint: to go on from; None: afresh.
        finished: the steps that a finished run has made, of which nothing is left to train.
        notes: what to tell the user.
    """

    checkpoint: Path | None = None
    finished: int | None = None
    notes: tuple[str, ...] = ()


def find_start(args: RunArguments) -> Start:
    """Decide by `resume_from_checkpoint`, `overwrite_output_dir` and what `output_dir` holds.

    Raises:
        ConfigError: `output_dir` holds an earlier run and nothing says what to do with it, or the checkpoint that was
            asked for is not whole.
    """
    assert args.output_dir is not None, "every run has an output_dir"
    folder, wanted = Path(args.output_dir), args.resume_from_checkpoint
    if args.overwrite_output_dir:
        if wanted is not None:
            raise ConfigError(
                "overwrite_output_dir would delete what it continues from: set only one of them",
                where="resume_from_checkpoint",
                expected="nothing with overwrite_output_dir",
                found=show(wanted),
            )
        return Start()
    if wanted is None:
        _refuse_to_overwrite(folder)
        return Start()
    finished = _finished(folder)
    over = finished is not None and _nothing_left(args, finished)
    notes: list[str] = []
    if str(wanted).lower() in AUTO:
        if finished and over:
            return Start(finished=finished["global_step"])
        checkpoint = _newest(folder, notes)
        if checkpoint is None:
            _refuse_to_overwrite(folder, notes)
            return Start(notes=(*notes, f"{folder} holds no checkpoint: training starts afresh"))
    else:
        checkpoint = Path(wanted)
        if found := faults(checkpoint) if checkpoint.is_dir() else ["no such folder"]:
            raise ConfigError(
                where=f"resume_from_checkpoint {wanted}", expected="a whole checkpoint", found="; ".join(found)
            )
        if checkpoint.resolve().parent != folder.resolve():
            _refuse_to_overwrite(folder)
        elif finished and over:
            return _back_to(checkpoint, finished["global_step"])
    if finished:
        notes.append(f"the run had finished at step {finished['global_step']}; it is made longer")
    if read_manifest(checkpoint) is None:
        notes.append(f"{checkpoint} has no manifest, since an earlier version wrote it: only its parts were checked")
    notes.append(f"going on from {checkpoint}")
    return Start(checkpoint=checkpoint, notes=tuple(notes))


def _back_to(checkpoint: Path, finished: int) -> Start:
    """How a run begins that has finished, from one of its own checkpoints.

    Raises:
        ConfigError: the checkpoint is of an earlier step than the finished model, which would be overwritten.
    """
    step = read_state(checkpoint).get("global_step")
    if step != finished:
        raise ConfigError(
            f"choose another --output_dir to train from step {step} again, or ask for more steps",
            where=f"resume_from_checkpoint {checkpoint}",
            expected=f"a checkpoint of step {finished}, at which its run has finished",
            found=f"step {step}",
        )
    return Start(finished=finished)


def newest_whole(folder: Path) -> Path | None:
    """The newest checkpoint that training can go on from."""
    return _newest(folder, [])


def checkpoints(folder: Path) -> list[Path]:
    """Checkpoint folders, the oldest first; a run that went back to an earlier one has the newest at a lower step."""
    found = [path for path in folder.glob("checkpoint-*") if path.name.removeprefix("checkpoint-").isdecimal()]
    return sorted(found, key=lambda path: (saved_at(path), int(path.name.removeprefix("checkpoint-"))))


def resume_command() -> str:
    """The command that started this run, made to go on from its newest checkpoint."""
    words = started_with()
    if Path(words[0]).name.startswith("python") and Path(words[1]).name in ("mllm", "accelerate", "torchrun"):
        words = [Path(words[1]).name, *words[2:]]
    kept: list[str] = []
    skipping = False
    for word in words:
        name = word.partition("=")[0].replace("-", "_")
        if name in ("__resume_from_checkpoint", "__overwrite_output_dir"):
            skipping = "=" not in word
        elif skipping and not word.startswith("-"):
            skipping = False
        else:
            skipping = False
            kept.append(word)
    return shlex.join([*kept, "--resume_from_checkpoint", "auto"])


@cache
def started_with() -> list[str]:
    """The command line of this process, or of its launcher, which has to live at the first call."""
    return psutil.Process(os.getppid() if launched() else os.getpid()).cmdline()


def describe_run(cfg: Mapping[str, Any], args: RunArguments, items: int) -> dict[str, Any]:
    """What the manifest of a checkpoint says of its run.

    Returns:
        ranks: number of processes.
        length: what was asked for, which a run reaches when it finishes.
        position: what decides which items a step takes.
        train_files: digests of the files that `data_args.train` names.
        config: the whole config.
    """
    data = cfg.get("data_args") or {}
    layout = {"packing": "none", **(data.get("collator_kwargs") or {})}
    layout.pop("pad_to_multiple_of", None)
    sampling = cfg.get("reward_args") or {}
    blocks = {name: sampling[name] for name in ("num_iterations", "steps_per_generation") if name in sampling}
    return {
        "ranks": args.world_size,
        "length": {name: getattr(args, name) for name in LENGTH},
        "position": {
            "samples of a step": args.train_batch_size * args.gradient_accumulation_steps * args.world_size,
            "items of data_args.train": items,
            "seed": args.seed if args.data_seed is None else args.data_seed,
            "train_sampling_strategy": str(args.train_sampling_strategy),
            "dataloader_drop_last": args.dataloader_drop_last,
            "data_args.collator_kwargs": json.loads(json.dumps(layout, default=str)),
            **({"reward_args": blocks} if blocks else {}),
        },
        "train_files": {name: digest(Path(name)) for name in texts(data.get("train")) if os.path.isfile(name)},
        "config": json.loads(json.dumps(cfg, default=str)),
    }


def describe_changes(checkpoint: Path, described: Mapping[str, Any], *, skips_data: bool) -> list[str]:
    """What is different about this run, for the log.

    Args:
        described: of this run, by `describe_run`.
        skips_data: whether the items of the steps that were made are passed over.

    Raises:
        ConfigError: it is what decides which items a step takes: some would be seen twice, others never.
    """
    manifest = read_manifest(checkpoint)
    if manifest is None:
        return []
    before, now = manifest.get("position", {}), described["position"]
    for name in now:
        if skips_data and before.get(name) != now[name]:
            raise ConfigError(
                "the order of items would differ: use the earlier settings, or set "
                "ignore_data_skip=True, which starts a new epoch",
                where=f"resume_from_checkpoint {checkpoint}",
                field=name,
                expected=str(before.get(name)),
                found=show(now[name]),
            )
    different = list(_differences(manifest.get("config"), described["config"]))
    files = manifest.get("train_files", {})
    for name, found in described["train_files"].items():
        if files.get(name, found) != found:
            different.append(f"{name} has another content: lines are taken by their number, as if it had not")
    if manifest.get("ranks") != described["ranks"]:
        different.append(
            f"{described['ranks']} processes instead of {manifest.get('ranks')}: other random numbers (dropout)"
        )
    return different


def check_vocabulary(checkpoint: Path, tokenizer: PreTrainedTokenizerBase) -> None:
    """Check that the run has the tokenizer of its checkpoint: one that was trained on the training set changes with it.

    Raises:
        ModelError: the same ids would mean other words.
    """
    if has_tokenizer(checkpoint) and load_tokenizer(checkpoint).get_vocab() != tokenizer.get_vocab():
        raise ModelError(
            "model_args.tokenizer, or codec, or the data that a tokenizer was trained on, have changed",
            where=f"resume_from_checkpoint {checkpoint}",
            expected="the vocabulary of the checkpoint",
            found="another",
        )


def _differences(before: object, now: object, name: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in sorted({*before, *now}):
            if (name, key) not in {("training_args", passing) for passing in PASSING}:
                yield from _differences(before.get(key), now.get(key), f"{name}.{key}" if name else key)
    elif before != now:
        yield f"{name}: {show(now)} instead of {show(before)}"


def _newest(folder: Path, notes: list[str]) -> Path | None:
    for checkpoint in reversed(checkpoints(folder)):
        found = faults(checkpoint)
        if not found:
            return checkpoint
        notes.append(f"{checkpoint} is passed over: {'; '.join(found)}")
    return None


def _finished(folder: Path) -> dict[str, Any] | None:
    """The state of the run that finished in this folder, with the `length` it was asked for, None where not known."""
    try:
        manifest = read_manifest(folder)
        if manifest is not None:
            return None if changes(folder) else {**read_state(folder), "length": manifest.get("length")}
        state = read_state(folder)
    except RunError:
        return None
    # an earlier version wrote the state after the model
    return state if state.get("global_step", 0) >= state.get("max_steps", math.inf) else None


def _nothing_left(args: RunArguments, state: Mapping[str, Any]) -> bool:
    if state.get("length") == {name: getattr(args, name) for name in LENGTH}:
        return True  # also where it stopped early
    if args.max_steps > 0:
        return state["global_step"] >= args.max_steps
    return state["epoch"] >= args.num_train_epochs


def _refuse_to_overwrite(folder: Path, notes: Sequence[str] = ()) -> None:
    """Raises ConfigError where the folder holds a model, of whatever origin, or checkpoints.

    `notes`: why training cannot go on from them.
    """
    model = (folder / MANIFEST).exists() or any(next(folder.glob(pattern), None) for pattern in WEIGHTS)
    earlier = [path for path in checkpoints(folder) if (path / MANIFEST).exists() or not faults(path)]
    if not model and not earlier:
        return
    ways = "choose another --output_dir, or delete what is there with --overwrite_output_dir"
    if newest_whole(folder):
        ways = f"continue with --resume_from_checkpoint auto, {ways}"
    held = earlier[-1].name if earlier else "a model"
    raise ConfigError("; ".join((*notes, ways)), where=str(folder), expected="a new output_dir", found=held)

"""How fast a training goes and where its time goes, summed over all ranks since the last log.

What is in a batch is counted as it is collated, on the CPU, so that no step waits for the device.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PrinterCallback, ProgressCallback, TrainerCallback, TrainingArguments
from transformers.trainer_callback import TrainerControl, TrainerState

from mllm.conversation.collator import Collator
from mllm.conversation.packing import PADDING
from mllm.conversation.rendering import IGNORE
from mllm.models.native.tensors import SHAPE
from mllm.models.runtime.packed_mask import PackedAttentionMask
from mllm.pipeline.flops import FlopCounts, ModelFlops, peak_flops
from mllm.report.plots import plot_losses
from mllm.types import EncodedSample

logger = logging.getLogger(__name__)

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchCounts:
    """What is in a batch of labelled examples.

    Attributes:
        separate: tokens that the samples would have one by one.
        rows: tokens of all rows, with padding.
        cut_answers: samples whose supervised tokens `max_length` cut.
    """

    samples: int
    separate: int
    rows: int
    cut_answers: int
    work: FlopCounts


class CountingCollator:
    """A collator that puts the `BatchCounts` of each batch beside it, under "counts"."""

    def __init__(self, collator: Collator) -> None:
        self.collator = collator

    def __call__(self, entries: Sequence[EncodedSample | Sequence[EncodedSample]]) -> dict[str, Any]:
        batch = self.collator(entries)
        examples = [one for entry in entries for one in ([entry] if isinstance(entry, EncodedSample) else entry)]
        return {**batch, "counts": count(batch, examples)}


def count(batch: Mapping[str, Any], examples: Sequence[EncodedSample]) -> BatchCounts:
    """
    Args:
        batch: of the examples, on the CPU.
    """
    lengths = [len(example.input_ids) for example in examples]
    if "segment_ids" in batch:
        tokens = int((batch["segment_ids"] != PADDING).sum())
        pairs = _packed_pairs(batch["segment_ids"], batch["prefix_ids"])
    else:
        tokens, pairs = sum(lengths), sum(length**2 for length in lengths)
    pixels = [tensor for tensor in batch.values() if isinstance(tensor, Tensor) and tensor.is_floating_point()]
    images = {ref: tensors for one in examples for ref, tensors in zip(one.images, one.pixels, strict=True)}
    patches = [_rows(tensors) for tensors in images.values()]
    return BatchCounts(
        samples=len(examples),
        separate=sum(lengths),
        rows=batch["input_ids"].numel(),
        cut_answers=sum(example.cut_tokens > 0 for example in examples),
        work=FlopCounts(
            tokens=tokens,
            labels=int((batch["labels"][:, 1:] != IGNORE).sum()),
            pixels=sum(tensor.numel() for tensor in pixels),
            pairs=pairs,
            patch_pairs=sum(number**2 for number in patches),
        ),
    )


def _rows(image: Mapping[str, Tensor]) -> int:
    """The most rows of a tensor of an image: patches, where those of any number go through the vision tower."""
    shapes = {name: image[name + SHAPE][0].tolist() for name in image if name + SHAPE in image}
    return max(shapes[name][0] if name in shapes else len(tensor) for name, tensor in image.items())


def _packed_pairs(segments_BT: Tensor, prefixes_BT: Tensor) -> int:
    """Each segment with itself and with those that it continues."""
    rows = PackedAttentionMask(segments_BT, prefixes_BT).rows
    return sum(
        span.length * sum(row[each].length for each in (*span.ancestors, number))
        for row in rows
        for number, span in enumerate(row)
    )


@dataclass(slots=True, kw_only=True)
class Sums:
    """Of one rank since the last log; times in seconds."""

    samples: float = 0
    separate: float = 0
    rows: float = 0
    tokens: float = 0
    cut_answers: float = 0
    flops: float = 0
    waited: float = 0
    seconds: float = 0


class ThroughputMonitor(TrainerCallback):
    """Time spent in evaluation and in saving is left out. `watch=False`: do not work out the model's FLOPs."""

    def __init__(self, model: Any, *, watch: bool = True) -> None:
        self.flops = ModelFlops(model)
        self.flops.done |= not watch
        self.sums = Sums()
        self._work: list[FlopCounts] = []
        self._start: float | None = None
        self._step_end = 0.0
        self._told = False

    def waiting(self, batches: Iterator[object]) -> Iterator[Any]:
        """The same batches; the time until each comes is noted."""
        while True:
            start = time.perf_counter()
            self._start = start if self._start is None else self._start
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                self.sums.waited += time.perf_counter() - start
            yield batch

    def counting(self, counts: BatchCounts) -> AbstractContextManager[None]:
        """Add a batch, whose loss is computed within."""
        self._work.append(counts.work)
        self.sums.samples += counts.samples
        self.sums.separate += counts.separate
        self.sums.rows += counts.rows
        self.sums.tokens += counts.work.tokens
        self.sums.cut_answers += counts.cut_answers
        return nullcontext() if self.flops.done else self.flops.watching(counts.work, counts.rows)

    def read(self, accelerator: Accelerator) -> dict[str, float]:
        """What goes into the log, of all ranks, which call it together; the next interval begins."""
        now = time.perf_counter()
        cost = self.flops.cost
        sums, self.sums = self.sums, Sums()
        sums.seconds = now - (now if self._start is None else self._start)
        sums.flops = sum(cost * work for work in self._work)
        self._work, self._start, self._step_end = [], now, now
        peak = peak_flops(accelerator.device)
        if self.flops.done and not self._told and accelerator.is_main_process:
            known = f"{peak / 1e12:.4g} TFLOP/s (dense bf16)" if peak else "not known, so no MFU"
            logger.info("model FLOPs = %s; peak of the device: %s", str(cost) or "not known", known)
        self._told = self.flops.done
        ranks = [*astuple(sums), peak_memory(accelerator.device)]
        gathered: Any = accelerator.gather(torch.tensor([ranks], dtype=torch.float64, device=_gathering(accelerator)))
        return throughput_values(gathered.tolist(), peak)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.sums, self._work, self._start = Sums(), [], None

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._step_end = time.perf_counter()

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self._leave_out()

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object) -> None:
        self._leave_out()

    def _leave_out(self) -> None:
        """The time since the last step ended, or since what was left out before."""
        now = time.perf_counter()
        if self._start is not None:
            self._start += now - self._step_end
        self._step_end = now


def throughput_values(ranks: Sequence[Sequence[float]], peak: float | None) -> dict[str, float]:
    """
    Args:
        ranks: the `Sums` of each rank, and its peak memory in bytes.
        peak: FLOP/s of the device of each.
    """
    *sums, memory = zip(*ranks, strict=True)
    total = Sums(**{each.name: sum(values) for each, values in zip(fields(Sums), sums, strict=True)})
    seconds = max(total.seconds / len(ranks), 1e-9)
    found = {
        "samples_per_second": total.samples / seconds,
        "tokens_per_second": total.tokens / seconds,
        "padding": 1 - total.tokens / max(total.rows, 1),
        "sharing": total.separate / max(total.tokens, 1),
        "data_wait": total.waited / len(ranks) / seconds,
        "peak_memory_gib": max(memory) / GIB,
    }
    if total.flops:
        found["tflops"] = total.flops / seconds / len(ranks) / 1e12
        if peak:
            found["mfu"] = total.flops / seconds / len(ranks) / peak
    found = {name: float(f"{value:.4g}") for name, value in found.items()}
    return {**found, "cut_answers": int(total.cut_answers)} if total.cut_answers else found


def peak_memory(device: torch.device) -> int:
    """Bytes that this process ever held: of a GPU, allocated there by PyTorch; else of main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _gathering(accelerator: Accelerator) -> torch.device | str:
    return accelerator.device if accelerator.num_processes > 1 else "cpu"


class LossLog(TrainerCallback):
    """Writes what is logged into the log file, and draws the losses into the run's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if state.is_world_process_zero:
            logger.debug("step %d %s", state.global_step, json.dumps(logs))  # the progress bar shows it too

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        if state.is_world_process_zero:
            plot_losses(state.log_history, self.folder / "loss.png")


class Bar(ProgressCallback):
    """transformers' progress bar, with the last readings behind it."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if are_scores(logs):
            return
        super().on_log(args, state, control, logs=logs, **kwargs)
        bar = self.training_bar
        if bar is not None and logs and "samples_per_second" in logs:
            bar.set_postfix_str(postfix(logs))


class Lines(PrinterCallback):
    """transformers' lines, which stand in for the bar."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not are_scores(logs):
            super().on_log(args, state, control, logs=logs, **kwargs)


def are_scores(logs: Mapping[str, float] | None) -> bool:
    """Whether these are the scores of a test set, which the terminal has seen as a table."""
    return any(name.endswith("_runtime") and name != "train_runtime" for name in logs or ())


def postfix(logs: dict[str, float]) -> str:
    parts = [f"{tqdm.format_sizeof(logs[f'{name}_per_second'])} {name}/s" for name in ("samples", "tokens")]
    parts = ([f"reward {logs['reward']:.3g}"] if "reward" in logs else []) + parts
    parts += [f"{name} {logs[key]:.0%}" for name, key in (("data wait", "data_wait"), ("MFU", "mfu")) if key in logs]
    return ", ".join(parts)

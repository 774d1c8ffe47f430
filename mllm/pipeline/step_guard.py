"""Before each update: whether loss and gradient are finite on every rank, whether there is a gradient at all, and
whether a signal has been noted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from torch import Tensor
from torch.distributed.tensor import DTensor

from mllm.errors import RunError
from mllm.interrupts import INTERRUPTS
from mllm.pipeline.ranks import fail, largest

logger = logging.getLogger(__name__)

MAX_NAMED_ITEMS = 50
"""Items that a message names; the log names all."""
DEAD_STEPS = 3
"""Steps in a row without any gradient, though there is a loss, after which a training is over."""
LEAST_SCALE = 1.0
"""A gradient scaler halves its scale whenever gradients overflow in float16; from here on it is not the scale."""


class StepGuard:
    """Watches the steps of one training run; all ranks call its methods in step.

    Attributes:
        signum: a signal that any rank has received, 0 for none.
        steps: of training since they were last logged.
        left_out: how many of them had no update, for a loss or gradient that was not finite.
    """

    def __init__(self, *, allowed: int, keys: Callable[[Sequence[int]], list[str]]) -> None:
        """
        Args:
            allowed: steps in a row that may be left out.
            keys: names of the items with these indices.
        """
        self.allowed = allowed
        self.keys = keys
        self.signum = 0
        self.steps = 0
        self.left_out = 0
        self._in_a_row = 0
        self._dead = 0
        self._seen: list[tuple[Tensor, Tensor]] = []

    def begin(self) -> None:
        """Forget what a run before left in the middle of a step, as one that ran out of memory."""
        self._seen = []
        self._in_a_row = self._dead = self.steps = self.left_out = 0

    def saw(self, loss: Tensor, indices: Tensor) -> Tensor:
        """Note the loss of a batch and its items; the loss to be logged, 0 where it is not finite."""
        loss = loss.detach()
        self._seen.append((loss, indices))
        return torch.where(loss.isfinite(), loss, torch.zeros_like(loss))

    def check(self, step: int, norm: Any, loss_scale: float | None, *, kept: Callable[[], str]) -> bool:
        """Whether the gradients of this step may be applied.

        Args:
            step: its number.
            norm: of the gradients; a number, a tensor, sharded or not, or None where it is not known.
            loss_scale: of a gradient scaler (float16), which leaves out overflowing steps by itself; None without one.
            kept: says which checkpoint there is.

        Raises:
            RunError: more steps than allowed had a loss or a gradient that was not finite, or nothing is learned any
                more: several steps had a loss, and gradients that were exactly 0.
        """
        seen, self._seen = self._seen, []
        norm = norm.full_tensor() if isinstance(norm, DTensor) else norm
        size = 0.0 if norm is None else float(norm)
        losses = torch.stack([loss.float() for loss, _ in seen]).tolist()
        bad_loss = not all(map(math.isfinite, losses))
        scaled = loss_scale is not None and loss_scale > LEAST_SCALE
        bad_norm = not math.isfinite(size) and not scaled
        has_gradient = norm is None or size != 0
        loss_anywhere, norm_anywhere, self.signum, alive, to_learn = largest(
            [int(bad_loss), int(bad_norm), INTERRUPTS.signum, int(has_gradient), int(any(losses))]
        )
        self.steps += 1
        if not loss_anywhere and not norm_anywhere:
            self._in_a_row = 0
            self._count_dead(step, bool(alive), bool(to_learn), losses, kept)
            return True
        self._in_a_row += 1
        self.left_out += 1
        if self._in_a_row > self.allowed:
            self._stop(step, losses, [indices for _, indices in seen], size, kept)
        return False

    def logged(self, mean: float) -> dict[str, float]:
        """Entries for the log: the mean loss of the steps since the last call, of those alone that were finite.

        `mean` is over all of them, with 0 for those that were left out.
        """
        steps, left_out = self.steps, self.left_out
        self.steps = self.left_out = 0
        if not left_out:
            return {}
        finite = steps - left_out
        return {"loss": mean * steps / finite if finite else math.nan, "left_out_steps": float(left_out)}

    def _count_dead(self, step: int, alive: bool, to_learn: bool, losses: list[float], kept: Callable[[], str]) -> None:
        """Stop after some steps in a row without gradients; one without a loss (rows without labels) says nothing."""
        if alive:
            self._dead = 0
        elif to_learn:
            self._dead += 1
        if self._dead >= DEAD_STEPS:
            what = f"the last {DEAD_STEPS} steps had a loss (now {sum(losses):.4g}) and gradients of exactly 0"
            why = "no trained weight learns any more: try a lower --learning_rate, or a warm-up"
            fail(RunError(f"training is dead at step {step}: {what}; {why}; {kept()}", kind="diverged"))

    def _stop(
        self, step: int, losses: list[float], indices: list[Tensor], norm: float, kept: Callable[[], str]
    ) -> None:
        batches = [(loss, self.keys(index.tolist())) for loss, index in zip(losses, indices, strict=True)]
        everyones: list[tuple[float, list[str]]] = gather_object(batches)
        bad = [batch for batch in everyones if not math.isfinite(batch[0])]
        worst = f"loss {bad[0][0]}" if bad else f"gradient norm {norm}"
        keys = [key for _, names in sorted(everyones, key=lambda batch: math.isfinite(batch[0])) for key in names]
        if len(keys) > MAX_NAMED_ITEMS and PartialState().is_main_process:
            logger.error("items of step %d: %s", step, ", ".join(keys))
        more = (
            f" and {len(keys) - MAX_NAMED_ITEMS} more, all of them in train.log" if len(keys) > MAX_NAMED_ITEMS else ""
        )
        first = ", those with that loss first" if 0 < len(bad) < len(everyones) else ""
        items = f"items of the step{first}: {', '.join(keys[:MAX_NAMED_ITEMS])}{more}"
        fail(RunError(f"training diverged at step {step}: {worst}; {items}; {kept()}", kind="diverged"))

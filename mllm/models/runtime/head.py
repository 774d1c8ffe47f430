"""The language model's head on chosen positions only, inside one ordinary forward pass of the whole model.

A hook on the head picks the states that it reads. Every module is called once, in its usual order and by its usual way,
so whatever wraps modules (FSDP units, DDP, ZeRO, adapters, device maps) sees a plain forward pass, and whatever the
model does around its head is done (a soft cap in Gemma 2, a scale in Cohere, Granite and T5).

Shape suffixes: B rows, T tokens, D width, N chosen positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.modeling_outputs import BaseModelOutput

from mllm.errors import ModelError

Values = Callable[[Tensor, slice], Tensor]
"""(logits [n, V], which of the chosen positions these are) -> what is made of each, [n, ...]."""


def values_of_logits(
    language_model: Any, run: Callable[[], Any], chosen_BT: Tensor, values: Values, *, at_once: int | None
) -> Tensor:
    """What `values` makes of the logits of the chosen positions [N, ...], in row-major order; no other logits are made.

    Args:
        language_model: holds the head.
        run: a forward pass of it, or of a model around it, that gives `logits`.
        chosen_BT: bool, the positions whose logits are wanted.
        at_once: positions whose logits may be held at a time, None for any number. More are split into chunks that are
            recomputed in the backward pass.

    Raises:
        ModelError: there is no head, or the forward pass does not run it once on the states of all positions.
    """
    head: Any = language_model.get_output_embeddings()
    whole = next((m for m in language_model.modules() if any(child is head for child in m.children())), None)
    if head is None or whole is None:
        raise ModelError(f"{type(language_model).__name__} has no head that gives logits")
    places_N = chosen_BT.flatten().nonzero()[:, 0]
    chunked = at_once is not None and len(places_N) > at_once
    # the head's own call takes what is left of the chunks: one position, so that few logits wait for the backward pass
    beside = len(places_N) - 1 if chunked else 0
    called = False
    found: list[Tensor] = []
    bodies: list[tuple[nn.Module, object]] = []

    def note_body(module: nn.Module, inputs: object, output: object) -> None:
        if hasattr(output, "last_hidden_state"):
            bodies.append((module, output))

    def before_head(module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        nonlocal called
        (states_BTD,) = inputs
        if called or states_BTD.shape[:2] != chosen_BT.shape:
            raise ModelError(f"{type(whole).__name__} does not run its head once, on the states of all its positions")
        states_ND = states_BTD.flatten(0, 1)[places_N.to(states_BTD.device)]
        called = True
        for start in range(0, beside, at_once or 1):
            some = slice(start, min(start + (at_once or 1), beside))

            def values_of_chunk(states_nD: Tensor, some: slice = some) -> Tensor:
                # not called as a module: the hooks around the head belong to its own call, which comes next
                logits = head.forward(states_nD[None])
                return values(_after_head(whole, head, bodies[-1], logits)[0], some)

            # the head drops nothing out: no random numbers are to be kept
            found.append(checkpoint(values_of_chunk, states_ND[some], use_reentrant=False, preserve_rng_state=False))
        return (states_ND[None, beside:],)

    with ExitStack() as hooks:
        if chunked:
            # some heads stand beside the body, others beside what holds it; an encoder runs before, and does not count
            for module in {*whole.children(), whole.get_decoder()} - {head, whole}:
                hooks.callback(module.register_forward_hook(note_body).remove)
        hooks.callback(head.register_forward_pre_hook(before_head).remove)
        logits_1nV = run().logits
    if not called:
        raise ModelError(f"{type(whole).__name__} does not run its head once, on the states of all its positions")
    return torch.cat([*found, values(logits_1nV[0], slice(beside, None))])


def _after_head(whole: Any, head: nn.Module, body: tuple[nn.Module, Any], logits: Tensor) -> Tensor:
    """What the model makes of the logits that its head gave: itself, or capped or scaled."""
    module, output = body
    states = logits.new_zeros(1, 1, 1)
    given: dict[str, Any] = {"inputs_embeds": states}
    if whole.config.is_encoder_decoder:
        given = {"encoder_outputs": BaseModelOutput(states), "decoder_inputs_embeds": states}  # pyright: ignore
    copy = _with_answers(whole, {module: type(output)(last_hidden_state=states), head: logits})
    # the class's forward: that of the instance may have been replaced by accelerate's, which casts
    return type(whole).forward(copy, **given, use_cache=False).logits


def _with_answers(module: nn.Module, answers: Mapping[nn.Module, object]) -> Any:
    """A copy that shares everything with the module, but in which these modules answer instead of running."""
    if not any(each in answers for each in module.modules()):
        return module
    copy: Any = object.__new__(type(module))
    vars(copy).update(vars(module))
    if module in answers:
        hooks = {name: {} for name in vars(module) if name.endswith("_hooks")}
        vars(copy).update(hooks, forward=lambda *inputs, **named: answers[module])
    else:
        children = module._modules.items()
        vars(copy)["_modules"] = {name: child and _with_answers(child, answers) for name, child in children}
    return copy

"""A language model in two halves: its body, which runs once, and its head, which runs on pieces of what that gave.

Both are the model's own forward with the other half standing still, so that whatever it does around its head is done
(a soft cap in Gemma 2, a scale in Cohere, Granite and T5).

Shape suffixes: B rows, T tokens, D width, N positions, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutput

from mllm.errors import ModelError


@dataclass(frozen=True, slots=True)
class Body:
    """The half of `whole` below its head, and what it gave."""

    whole: Any
    module: nn.Module
    kind: type
    """Of its output."""
    states_BTD: Tensor

    def logits(self, states_ND: Tensor) -> Tensor:
        """[N, V] of any of its states."""
        states_1ND = states_ND[None]
        given: dict[str, Any] = {"inputs_embeds": states_1ND}
        if self.whole.config.is_encoder_decoder:
            given = {"encoder_outputs": BaseModelOutput(states_1ND), "decoder_inputs_embeds": states_1ND}  # pyright: ignore
        output = self.kind(last_hidden_state=states_1ND)
        with _answering(self.module, lambda *inputs, **named: output):
            # not called as a module, nor as what was put in its place: it may be one that is sharded, or cast by
            # accelerate, and in the middle of its own forward pass
            return type(self.whole).forward(self.whole, **given, use_cache=False).logits[0]


def run_body(language_model: nn.Module, run: Callable[[], Any]) -> Body:
    """Run the model without its head.

    Args:
        language_model: holds the head.
        run: a forward pass of it, or of a model around it.

    Raises:
        ModelError: no head, or none that is run behind a body.
    """
    head: Any = language_model.get_output_embeddings()  # pyright: ignore[reportCallIssue]
    whole: Any = next((m for m in language_model.modules() if any(child is head for child in m.children())), None)
    if head is None or whole is None:
        raise ModelError(f"{type(language_model).__name__} has no head that gives logits")
    found: list[Body] = []

    def note(module: nn.Module, inputs: Any, output: Any) -> None:
        if hasattr(output, "last_hidden_state"):
            found.append(Body(whole, module, type(output), output.last_hidden_state))

    with ExitStack() as stack:
        # some heads stand beside the body, others beside what holds it; an encoder runs before, and does not count
        for module in {*whole.children(), whole.get_decoder()} - {head, whole}:
            stack.callback(module.register_forward_hook(note).remove)
        stack.enter_context(_answering(head, lambda states: states[..., :1]))
        run()
    if not found:
        raise ModelError(f"{type(whole).__name__} runs its head on no states of a module of its own")
    return found[-1]


@contextmanager
def _answering(module: nn.Module, answer: Callable[..., Any]) -> Iterator[None]:
    """The module gives this answer instead of running; what is hooked to it runs."""
    before = vars(module).get("forward")  # that of accelerate's, where weights are spread over devices
    module.forward = answer
    try:
        yield
    finally:
        if before is None:
            del module.forward
        else:
            module.forward = before

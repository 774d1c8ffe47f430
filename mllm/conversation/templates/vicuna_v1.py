"""`{system} USER: {question} ASSISTANT: {answer}</s>USER: ...`: Vicuna v1, LLaVA v1 and v1.5, Shikra."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, end_of_sequence, opening
from mllm.registry import TEMPLATES

SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)


@TEMPLATES.register_module("vicuna_v1")
class VicunaV1:
    """Vicuna v1.1's format, which LLaVA v1 and v1.5 use: `USER: ... ASSISTANT: ...</s>`.

    Source: FastChat's `vicuna_v1.1`. `system=""` leaves the preamble out."""

    tokens: tuple[str, ...] = ()

    def __init__(self, *, system: str = SYSTEM) -> None:
        self.system = system

    def with_system(self, system: str) -> VicunaV1:
        return VicunaV1(system=system)

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return end_of_sequence(tokenizer)

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = [*opening(tokenizer), TextSpan(f"{self.system} " if self.system else "")]
        for turn in turns:
            if turn.role == "human":
                pieces += [TextSpan("USER: "), *turn.pieces, TextSpan(" ASSISTANT:")]
            else:
                pieces += answer(turn, before=" ", end=self.end(tokenizer))
        return pieces

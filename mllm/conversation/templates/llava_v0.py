"""`{system}\\n\\n### Human: {question}\\n### Assistant: {answer}\\n### ...`: the first LLaVA checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from transformers import PreTrainedTokenizerBase

from mllm.conversation.rendering import RenderedTurn, TextSpan, answer, opening
from mllm.registry import TEMPLATES

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the human's questions."
)


@TEMPLATES.register_module("llava_v0")
class LlavaV0:
    """LLaVA's format `v0`: turns end in `###`.

    The `###` that ends an answer is supervised, no human turn is (the original supervises two of its tokens).

    Source: LLaVA's conversation `llava_v0` as it is written in training.
    """

    tokens: tuple[str, ...] = ()

    def __init__(self, *, system: str = SYSTEM) -> None:
        self.system = system

    def with_system(self, system: str) -> LlavaV0:
        return LlavaV0(system=system)

    def end(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return "\n###"

    def render(self, turns: Sequence[RenderedTurn], tokenizer: PreTrainedTokenizerBase) -> list[TextSpan]:
        pieces = [*opening(tokenizer), TextSpan(f"{self.system}\n\n###")]
        for turn in turns:
            if turn.role == "human":
                pieces += [TextSpan(" Human: "), *turn.pieces, TextSpan("\n### Assistant:")]
            else:
                pieces += answer(turn, before=" ", end=self.end(tokenizer))
        return pieces

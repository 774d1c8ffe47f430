"""`### Human: {question}\\n### Assistant: {answer}</s>\\n### Human: ...`: Guanaco, Polite and Clever Flamingo."""

from __future__ import annotations

from mllm.conversation.templates.instruction import Instruction
from mllm.registry import TEMPLATES

SYSTEM = (
    "A chat between a curious human and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions.\n"
)


@TEMPLATES.register_module("guanaco")
def guanaco() -> Instruction:
    """Guanaco's format, `### Human: ... ### Assistant: ...`, with a system prompt.

    Source: Instruct-Flamingo's `get_prompt_instruction` and its multi-turn tokenization."""
    return _human_assistant(SYSTEM)


@TEMPLATES.register_module("guanaco-no-prompt")
def guanaco_no_prompt() -> Instruction:
    """Guanaco's format without a system prompt."""
    return _human_assistant("")


def _human_assistant(system: str) -> Instruction:
    return Instruction(system=system, instruction="### Human: ", response="\n### Assistant: ", separator="\n")

"""Conversations in other people's layouts -> turns for the dataset Instruct: shared by llava, sharegpt, svit, lrv."""

from __future__ import annotations

from mllm.convert.conversion import Outputs, entries
from mllm.json_fields import field
from mllm.types import BOXES, IMAGE, POINTS

ROLES = {"human": "human", "user": "human", "gpt": "gpt", "chatgpt": "gpt", "assistant": "gpt"}


def turns_of(found: list[object], where: str, out: Outputs, *, images: int = 0) -> list[dict[str, str]] | None:
    """Turns that alternate, a human first; None where they cannot be trained on, which is counted.

    What a system says comes before the first question, and an answer before it is left out, as LLaVA and FastChat do.
    `images`: how many `<image>` the words may hold; none at all will do.

    Raises:
        DataError: a turn is not an object with the texts `from` and `value`.
    """
    said = [
        (field(turn, "from", str, where=at), field(turn, "value", str, where=at)) for at, turn in entries(found, where)
    ]
    system = "\n".join(words for role, words in said if role == "system")
    said = [(role, words) for role, words in said if role != "system"]
    opens_with_answer = len(said) > 1 and ROLES.get(said[0][0]) == "gpt"
    said = said[opens_with_answer:]
    reason = find_fault(said, images)
    if reason:
        out.skip(reason)
        return None
    if opens_with_answer:
        out.skip("answers before the first question")
    turns = [{"from": ROLES[role], "value": words} for role, words in said]
    if system:
        turns[0]["value"] = f"{system}\n\n{turns[0]['value']}"
    return turns


def find_fault(said: list[tuple[str, str]], images: int) -> str | None:
    """Why a conversation cannot be trained on; None where it can."""
    if not said:
        return "conversations without a turn"
    for number, (role, words) in enumerate(said):
        if role not in ROLES:
            return f"conversations with a turn from {role!r:.30}"
        if ROLES[role] != ("human", "gpt")[number % 2]:
            return "conversations whose turns do not alternate"
        if not words.strip():
            return "conversations with an empty turn"
        if BOXES in words or POINTS in words or (number % 2 and IMAGE in words):
            return "conversations with <image>, <boxes> or <points> among their words"
    if len(said) % 2:
        return "conversations that end with a question"
    if sum(words.count(IMAGE) for _, words in said) not in (0, images):
        return f"conversations with other than {images} <image>"
    return None

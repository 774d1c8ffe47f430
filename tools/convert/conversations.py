"""Instructions in other people's layouts -> {name}.jsonl, for the dataset Instruct.

    python -m tools.convert.conversations lrv data/originals/filter_cap.json --images data/originals/image_data.json
    python -m tools.convert.conversations svit data/originals/conversation.json --images data/originals/image_data.json
    python -m tools.convert.conversations sharegpt data/originals/sharegpt.json

lrv: `[{image_id, question, answer}]`. svit: `[{image_id, conversations: [{content: [{from: user|gpt, value}]}]}]`, each
conversation a line. Their pictures are those of Visual Genome: with its image_data.json they are named as its archives
unpack, VG_100K/2.jpg, without it 2.jpg. sharegpt: `[{conversations: [{from, value}]}]`, no pictures, from human, user,
gpt, chatgpt, assistant, system. LLaVA, LLaVAR and Alpaca need no converter: Instruct and TextOnly read their files.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tools.convert.conversion import Outputs, main, need, read_lines
from tools.convert.visual_genome import vg_names

ROLES = {"human": "human", "user": "human", "gpt": "gpt", "chatgpt": "gpt", "assistant": "gpt"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=("lrv", "svit", "sharegpt"))
    parser.add_argument("file", type=Path, help="json or jsonl")
    parser.add_argument("--images", type=Path, help="image_data.json of Visual Genome")


def convert(given: argparse.Namespace, out: Outputs) -> None:
    names = vg_names(given.images) if given.images else None
    for record in out.progress(read_lines(given.file), given.file.stem):
        line: dict[str, Any] = {}
        if given.kind != "sharegpt":
            number = str(need(record, "image_id", given.file))
            if names is not None and number not in names:
                out.skip("records of a picture that is not in image_data.json")
                continue
            line["image"] = names[number] if names else f"{number}.jpg"
        for turns in conversations(given.kind, record, given.file):
            said = [turn for turn in turns if turn.get("from") != "system"]
            system = "\n".join(need(turn, "value", given.file, str) for turn in turns if turn.get("from") == "system")
            reason = fault(said)
            if reason:
                out.skip(reason)
                continue
            words = [{"from": ROLES[turn["from"]], "value": turn["value"]} for turn in said]
            if system:
                words[0]["value"] = f"{system}\n\n{said[0]['value']}"
            out.write(f"{given.kind}_{given.file.stem}.jsonl", {**line, "conversations": words})


def conversations(kind: str, record: dict[str, Any], path: Path) -> Iterator[list[dict[str, Any]]]:
    if kind == "lrv":
        question, answer = (need(record, name, path, str) for name in ("question", "answer"))
        yield [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    elif kind == "svit":
        for conversation in need(record, "conversations", path, list):
            yield need(conversation, "content", path, list)
    else:
        yield need(record, "conversations", path, list)


def fault(turns: list[dict[str, Any]]) -> str | None:
    """Why a conversation cannot be trained on; None where it can."""
    if not turns:
        return "conversations without a turn"
    for number, turn in enumerate(turns):
        value, role = turn.get("value"), ROLES.get(turn.get("from") or "")
        if role is None:
            return f"conversations with a turn from {turn.get('from')!r:.30}"
        if role != ("human", "gpt")[number % 2]:
            return "conversations whose turns do not alternate, a human first"
        if not isinstance(value, str) or not value.strip():
            return "conversations with an empty turn"
        if any(placeholder in value for placeholder in ("<image>", "<boxes>", "<points>")):
            return "conversations with <image>, <boxes> or <points> in their words"
    return "conversations that end with a question" if len(turns) % 2 else None


if __name__ == "__main__":
    sys.exit(main(__doc__, arguments, convert))

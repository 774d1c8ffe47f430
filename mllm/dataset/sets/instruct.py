"""Instruction data: conversations as they were written, with an image or without."""

from __future__ import annotations

import random
from typing import Any, cast

from mllm.conversation.convention import ConventionConfig
from mllm.dataset.base import LineDataset
from mllm.dataset.questions import plain, text_field
from mllm.errors import DataError
from mllm.fields import PathName, show
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import IMAGE, VIDEO

OF_RECORDS = ("target", "truth", "expression", "system")
"""Fields of a line that mean what they mean in a record (docs/data.md)."""


@DATASETS.register_module()
class Instruct(LineDataset):
    """Conversations in LLaVA's format, used as they are.

    Lines: `{image?, conversations: [{from, value}], target?}`. A line without `image` is text only. Where a line has an
    image and no `<image>`, the image goes before the first question. Instead of `image` a line may have `images`, a
    list with one for each `<image>`, or in its place the list of a video's frames. An answer before the first question
    is dropped, as LLaVA does. Lines with a `target`, and `boxes_seq` / `points_seq` / `spans_seq` in their turns, may
    point. A line may have a `video` in place of `image`, `<video>` in place of `<image>` (docs/data.md).

    Args:
        regions: the convention in which boxes and points stand in the words, such as "internvl" where they are
            `<box>[[..]]</box>`: they become typed ones, see `read_convention`. None: words are words.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        image_folder: str | None = None,
        regions: ConventionConfig | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed, regions=regions)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        if line.get("video") is not None:
            return {**as_written(line, line["video"], VIDEO), "image": None, "video": line["video"]}
        if "images" in line:
            return {**as_written(line, line.get("image")), "images": field(line, "images", list)}
        return as_written(line, line.get("image"))


@DATASETS.register_module()
class TextOnly(LineDataset):
    """Instructions without images, in Alpaca's format.

    Lines: `{instruction, input?, output}`; the input follows the instruction on a line of its own.
    """

    def __init__(self, *, filename: PathName, seed: int = 0) -> None:
        super().__init__(filename=filename, seed=seed)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        question = text_field(line, "instruction")
        if line.get("input"):
            question = f"{question}\n{plain(field(line, 'input', str), 'input')}"
        return {
            "conversations": [
                {"from": "human", "value": question},
                {"from": "gpt", "value": text_field(line, "output")},
            ]
        }


def as_written(line: dict[str, Any], image: Any, placeholder: str = IMAGE) -> dict[str, Any]:
    """The conversation of a line in LLaVA's format about `image`, or None; `placeholder` stands for it."""
    turns = [_turn(number, turn) for number, turn in enumerate(field(line, "conversations", list))]
    if len(turns) > 1 and turns[0]["from"] == "gpt":
        turns = turns[1:]
    if image is not None and turns and not any(placeholder in turn["value"] for turn in turns):
        turns = [{**turns[0], "value": f"{placeholder}\n{turns[0]['value']}"}, *turns[1:]]
    also = {name: line[name] for name in OF_RECORDS if line.get(name) not in (None, "")}
    return {"image": image, "conversations": turns, **also}


def _turn(number: int, turn: Any) -> dict[str, Any]:
    if isinstance(turn, dict) and all(isinstance(cast(Any, turn).get(name), str) for name in ("from", "value")):
        return cast(dict[str, Any], turn)
    expected, found = "an object with the texts 'from' and 'value'", show(cast("object", turn))
    raise DataError(field=f"conversations[{number}]", expected=expected, found=found, kind="wrong-type")

"""Captions of whole images: plain, or with a box after each phrase."""

from __future__ import annotations

import random
import re
from typing import Any

from mllm.dataset.base import LineDataset
from mllm.dataset.image_names import ImageName, NameTemplate
from mllm.dataset.questions import OBJS, Questions, plain, text_field
from mllm.errors import DataError
from mllm.fields import PathName
from mllm.json_fields import field
from mllm.registry import DATASETS
from mllm.types import BOXES, IMAGE

PHRASE_START, PHRASE_END = "<ph_st>", "<ph_ed>"
_PHRASE = re.compile(f"{PHRASE_START}(.*?){PHRASE_END}", re.DOTALL)


@DATASETS.register_module()
class Caption(LineDataset):
    """Image captioning.

    Lines: `{img_path, caption}`; `caption` is a text, or a list of texts by different people.

    Of several captions training draws one; evaluation takes the first as the answer, and all as the truth.
    `questions` is a pool with `<image>`.
    """

    def __init__(
        self, *, filename: PathName, questions: PathName, image_folder: str | None = None, seed: int = 0
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        captions = _captions(line)
        return {
            "image": field(line, "img_path", str),
            "conversations": [
                {"from": "human", "value": self.questions.draw(rng)},
                {"from": "gpt", "value": captions[0] if rng is None else rng.choice(captions)},
            ],
            "truth": {"texts": captions},
        }


@DATASETS.register_module()
class GroundedCaption(LineDataset):
    """Captions whose phrases have boxes, as in Flickr30k Entities.

    Lines: `{image_id, sentence, boxes, boxes_seq}`; in the sentence `<ph_st>a phrase<ph_ed>`, in boxes_seq the indices
    into boxes of each phrase. The answer is the sentence with `<boxes>` in place of each `<ph_ed>`, and nothing where
    the phrase has no box.
    `image_name` makes the file name from the `image_id`, see `ImageName`; `questions` is a pool with `<image>`.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        image_name: NameTemplate = "{}.jpg",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions)
        self.image = ImageName(image_name)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        return {
            "image": self.image.of(line, "image_id"),
            "target": {"boxes": field(line, "boxes", list)},
            "conversations": [
                {"from": "human", "value": self.questions.draw(rng)},
                {"from": "gpt", **grounded(line, "sentence", "boxes_seq")},
            ],
        }


@DATASETS.register_module()
class GroundedPhrase(LineDataset):
    """The reverse of GroundedCaption: the boxes of a phrase -> the phrase. Lines as there.

    Of the phrases of a sentence that have boxes training draws one; evaluation asks for the first. `questions` is a
    pool with `<image>` and `<objs>`.
    """

    def __init__(
        self,
        *,
        filename: PathName,
        questions: PathName,
        image_folder: str | None = None,
        image_name: NameTemplate = "{}.jpg",
        seed: int = 0,
    ) -> None:
        super().__init__(filename=filename, image_folder=image_folder, seed=seed)
        self.questions = Questions(questions, (IMAGE, OBJS))
        self.image = ImageName(image_name)

    def record(self, line: dict[str, Any], rng: random.Random | None) -> dict[str, Any]:
        grounded(line, "sentence", "boxes_seq")  # as many groups as phrases
        phrases = _PHRASE.findall(line["sentence"])
        shown = [(phrase, group) for phrase, group in zip(phrases, line["boxes_seq"], strict=True) if group]
        if not shown:
            raise DataError(
                field="sentence",
                expected=f"a phrase with a box between {PHRASE_START} and {PHRASE_END}",
                found="none",
                kind="placeholder-count",
            )
        phrase, group = shown[0] if rng is None else rng.choice(shown)
        return {
            "image": self.image.of(line, "image_id"),
            "target": {"boxes": field(line, "boxes", list)},
            "conversations": [
                {
                    "from": "human",
                    "value": self.questions.draw(rng).replace(OBJS, BOXES),
                    "boxes_seq": [group],
                },
                {"from": "gpt", "value": phrase},
            ],
        }


def grounded(line: dict[str, Any], name: str, groups: str) -> dict[str, Any]:
    """A turn's words and groups: the sentence `line[name]` with `<boxes>` after each phrase that has boxes.

    `line[groups]` holds a group for each phrase; a phrase whose group is empty stays as words.

    Raises:
        DataError: there are more or fewer groups than phrases.
    """
    sentence, all_groups = text_field(line, name), field(line, groups, list)
    starts, ends = sentence.count(PHRASE_START), sentence.count(PHRASE_END)
    if not starts == ends == len(all_groups):
        found = f"{starts} {PHRASE_START}, {ends} {PHRASE_END}, {len(all_groups)} group(s) in {groups}"
        raise DataError(field=name, expected="the same number of each", found=found, kind="placeholder-count")
    parts = sentence.replace(PHRASE_START, "").split(PHRASE_END)
    ends_of_phrases = [BOXES if group != [] else "" for group in all_groups]
    value = "".join(part + end for part, end in zip(parts, [*ends_of_phrases, ""], strict=True))
    return {"value": value, "boxes_seq": [group for group in all_groups if group != []]}


def _captions(line: dict[str, Any]) -> list[str]:
    if not isinstance(line.get("caption"), list):
        return [text_field(line, "caption")]
    captions = field(line, "caption", list[str])
    if not captions:
        raise DataError(field="caption", expected="a text or a list of texts", found="none", kind="blank-text")
    return [plain(caption, f"caption[{number}]") for number, caption in enumerate(captions)]

"""Questions that build on each other, and conversations as files that can be trained on."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal, overload

from mllm.errors import DataError
from mllm.files import complete_lines, parse_json, read_text, writing_to
from mllm.images import FileImage, ImageRef, UrlImage, Video, VideoFrame
from mllm.records import read_item
from mllm.serve.generation import AnswerStream, Generator, read_generation
from mllm.serve.question import BoxLike, ImageSource, Message, PointLike, as_messages, record_of, to_item
from mllm.serve.reading import Answer
from mllm.types import Item


class Conversation:
    """Turns of questions and answers; each question is read with all before it.

    Attributes:
        messages: what was said, by turns.
    """

    def __init__(self, generator: Generator, messages: Iterable[Message] = ()) -> None:
        self.generator = generator
        self.messages = list(messages)

    @overload
    def ask(
        self,
        text: str,
        images: ImageSource | Sequence[ImageSource] = (),
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        stream: Literal[False] = False,
        **generation: object,
    ) -> Answer: ...

    @overload
    def ask(
        self,
        text: str,
        images: ImageSource | Sequence[ImageSource] = (),
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        stream: Literal[True],
        **generation: object,
    ) -> AnswerStream: ...

    def ask(
        self,
        text: str,
        images: ImageSource | Sequence[ImageSource] = (),
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        stream: bool = False,
        **generation: Any,
    ) -> Answer | AnswerStream:
        """Ask the next question. It joins the conversation with its answer, when that is whole.

        Args:
            images: one or several that come with this question. Regions as numbers lie on the first of them, or where
                none comes on the first of the last question that brought some.
            answer_image: the index, in the whole conversation, of the image that the answer is about.
            generation: as of `ChatModel.chat`.

        Raises:
            DataError, ConfigError: as `ChatModel.chat`; the conversation is as before.
        """
        shown: Any = images
        asked = Message(role="user", text=text, images=shown, boxes=boxes, points=points, answer_image=answer_image)
        item = to_item([*self.messages, asked])
        settings = read_generation(generation)

        def keep(answer: Answer) -> None:
            self.messages += [asked, answer.message]

        if stream:
            return self.generator.stream(item, settings, keep)
        answer = self.generator.answers([item], settings, batch_size=1)[0]
        keep(answer)
        return answer

    def undo(self) -> None:
        """Take the last question and its answer back.

        Raises:
            DataError: there is none.
        """
        if not self.messages or self.messages[-1].role == "system":
            raise DataError(expected="a question to take back", found="none")
        del self.messages[-2:]

    @property
    def item(self) -> Item:
        """The conversation as an item of a dataset.

        Raises:
            DataError: nothing was said yet.
        """
        return to_item(self.messages, key="conversation", answered=True)

    def save(self, path: str | Path) -> None:
        """Write the conversation as a line of a dataset (docs/data.md), which `type="Instruct"` reads.

        Images that are in memory only are written beside it, as PNG.

        Raises:
            DataError: nothing was said yet.
            ConfigError: the file cannot be written.
        """
        write_item(self.item, path)

    @classmethod
    def load(cls, generator: Generator, path: str | Path) -> Conversation:
        """The first conversation of a file that `save` wrote.

        Raises:
            DataError: names the file and the field.
        """
        where = f"{path}:1"
        record = parse_json(read_text(path).split("\n")[0], dict, where)
        return cls(generator, as_messages(read_item(record, key=where)))


def write_item(item: Item, path: str | Path, *, append: bool = False) -> None:
    """Write an item as a line of a dataset; to the end of a file that has some, if `append`.

    Raises:
        ConfigError: the file cannot be written.
    """
    path = Path(path)
    with writing_to(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        lines = len(complete_lines(path)) if append and path.exists() else 0
        sources = {ref: _source(ref, path, f"{lines + 1}_{number}") for number, ref in enumerate(item.images, start=1)}
        line = json.dumps(record_of(item, sources), ensure_ascii=False)
        with path.open("a" if append else "w", encoding="utf-8") as file:
            file.write(line + "\n")


def _source(ref: ImageRef, beside: Path, name: str) -> Any:
    """What a file says of an image: its path or URL; one that has none is written beside it."""
    if isinstance(ref, Video):
        return [_source(frame, beside, f"{name}_{number}") for number, frame in enumerate(ref.frames, start=1)]
    if isinstance(ref, VideoFrame):
        return _source(ref.ref, beside, name)
    if isinstance(ref, FileImage):
        return str(Path(ref.path).absolute())
    if isinstance(ref, UrlImage):
        return ref.url
    path = beside.absolute().with_name(f"{beside.stem}_{name}.png")
    ref.open().save(path)
    return str(path)

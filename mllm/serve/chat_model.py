"""One loaded model that is asked questions: `from mllm import load`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, overload

import torch

from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, ModelError
from mllm.fields import PositiveInt, check, in_field
from mllm.model_files import how_to_get
from mllm.models.base import VisionLanguageModel
from mllm.models.prompt_format import stored_prompt_format, usual_prompt_format
from mllm.pipeline.build import build_model
from mllm.pipeline.run_checks import typed
from mllm.serve.conversation import Conversation
from mllm.serve.generation import AnswerStream, Generator, read_generation
from mllm.serve.question import BoxLike, ImageSource, Message, PointLike, to_item
from mllm.serve.reading import Answer
from mllm.types import Item

logger = logging.getLogger(__name__)

Question = Message | Sequence[Message] | Item
"""One question, a conversation that ends in one, or an item of a dataset."""


def load(
    path: str | Path,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantization: Mapping[str, Any] | None = None,
    **model_args: Any,
) -> ChatModel:
    """Load a model to ask questions.

    Args:
        path: a local folder (nothing is downloaded): one that mllm wrote, adapters and quantised models included, or
            one in transformers' layout; or a config file, whose `model_args` name the model.
        device: as in torch; None: a GPU if there is one.
        dtype: of the weights, as in a config's `model_args`; None: the folder's own.
        quantization: as in a config's `model_args`.
        model_args: other keys of a config's `model_args` (`type`, `codec`, `template`, ...), if the folder or the file
            does not have them, or to override them.

    Raises:
        ModelError: there is no such folder, or nothing says the type of its model.
        ConfigError: there is no such device; or a config that cannot be read, or whose model has to be trained first.
    """
    given = {"dtype": dtype, "quantization": quantization, **model_args}
    given = {name: value for name, value in given.items() if value is not None}
    where = usable_device(device)
    processor, model = build_model({**_model_args(str(path), given), **given}, {}, None)
    return ChatModel(model=model.to(where).eval(), processor=processor, device=where)


def _model_args(path: str, given: Mapping[str, object]) -> dict[str, object]:
    """What the config, or the folder, says of its model."""
    if path.endswith(".py"):
        from mllm.config.config import read

        return typed({**read(path).model_args, **given})
    if not Path(path).is_dir():
        raise ModelError(
            how_to_get(path),
            where=path,
            expected="the folder of a trained model, or a config.py",
            found="no such folder",
        )
    if "type" in given:
        return {"model_name_or_path": path}
    model_args = typed({"model_name_or_path": path})
    if model_args["type"] == "llava" and not stored_prompt_format(path) and not {"codec", "template"} <= given.keys():
        usual = usual_prompt_format(model_args)
        logger.warning(
            "%s does not record its prompt format; codec %r and template %r are assumed unless you name others",
            path,
            usual.codec,
            usual.template,
        )
    return model_args


@dataclass(frozen=True, kw_only=True)
class ChatModel:
    """A model on its device, with its processor."""

    model: VisionLanguageModel
    processor: Processor
    device: torch.device

    @cached_property
    def generator(self) -> Generator:
        return Generator(self.model, self.processor, self.device)

    @overload
    def chat(
        self,
        images: ImageSource | Sequence[ImageSource] | None,
        text: str,
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        system: str | None = None,
        stream: Literal[False] = False,
        **generation: object,
    ) -> Answer: ...

    @overload
    def chat(
        self,
        images: ImageSource | Sequence[ImageSource] | None,
        text: str,
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        system: str | None = None,
        stream: Literal[True],
        **generation: object,
    ) -> AnswerStream: ...

    def chat(
        self,
        images: ImageSource | Sequence[ImageSource] | None,
        text: str,
        *,
        boxes: Sequence[BoxLike | Sequence[BoxLike]] = (),
        points: Sequence[PointLike | Sequence[PointLike]] = (),
        answer_image: int | None = None,
        system: str | None = None,
        stream: bool = False,
        **generation: Any,
    ) -> Answer | AnswerStream:
        """Answer one question.

        Args:
            images: a path, URL or PIL image, or a list of them; a list inside the list is a video, by its frames. None:
                no image.
            text: the question. `<image>` stands for the next image (without one, the images come first), `<boxes>` for
                the next entry of `boxes`, `<points>` for the next of `points`.
            boxes: x1, y1, x2, y2 in pixels of the first image; several for one `<boxes>` are a list; a `Box` names its
                image. `points` likewise, as x, y.
            answer_image: the index of the image that the answer is about; None: that of the regions, else the first.
            system: a system message in place of the template's own.
            stream: give the answer in pieces as it is generated.
            generation: `seed`, `stop`, and what transformers' `generate` takes: `max_new_tokens` (default 256),
                `do_sample`, `temperature`, `top_p`, `top_k`, `num_beams`, `repetition_penalty`, ...

        Raises:
            DataError: the placeholders do not match the images or regions, or an image cannot be read.
            ConfigError: an unknown setting of `generation`, or a wrong value.
        """
        shown: Any = () if images is None else images
        asked = Message(role="user", text=text, images=shown, boxes=boxes, points=points, answer_image=answer_image)
        item = to_item([asked] if system is None else [Message(role="system", text=system), asked])
        settings = read_generation(generation)
        if stream:
            return self.generator.stream(item, settings)
        return self.generator.answers([item], settings, batch_size=1)[0]

    def answer(self, questions: Sequence[Question], *, batch_size: int = 8, **generation: object) -> list[Answer]:
        """Answer many questions, several at a time; those about the same images share one reading of them.

        In float32, greedy answers are those that `chat` gives to each alone.

        Args:
            questions: messages, conversations, or items of a dataset, of which an answer that they hold is not read.
            batch_size: questions that are decoded together, at most.
            generation: as of `chat`; with `do_sample` an answer follows from `seed` and the question's place.
        """
        in_field("batch_size", check, batch_size, PositiveInt)
        items = [_item(question, number) for number, question in enumerate(questions)]
        return self.generator.answers(items, read_generation(generation), batch_size=batch_size) if items else []

    def conversation(self, path: str | Path | None = None, *, system: str | None = None) -> Conversation:
        """A conversation in which each question follows the ones before; `path`: one that `Conversation.save` wrote."""
        if path is not None:
            return Conversation.load(self.generator, path)
        return Conversation(self.generator, [] if system is None else [Message(role="system", text=system)])


def _item(question: Question, number: int) -> Item:
    if isinstance(question, Item):
        return question
    return to_item([question] if isinstance(question, Message) else question, key=f"questions[{number}]")


def usable_device(name: str | None) -> torch.device:
    """The device with this name, as in torch; None: a GPU if there is one.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            reason[:200], where="--device", expected="a device that can be used", found=f"{name!r:.40}"
        ) from error
    return device

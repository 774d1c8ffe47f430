"""Item -> EncodedSample (`encode`) and token ids -> Prediction (`decode`): the one place where both directions meet.

Training, evaluation, prediction and serving share one Processor, so coordinates cannot disagree between them. How a
model takes images is in `image_inputs.py`, how turns become text in `item_renderer.py`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mllm.conversation.codec_base import RegionCodec
from mllm.conversation.detokenizer import words_of
from mllm.conversation.image_inputs import ImageInputs
from mllm.conversation.item_renderer import USUAL_SIZE, ItemRenderer
from mllm.conversation.packing import Length, shareable
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor
from mllm.conversation.rendering import IGNORE, Template, TextSpan, start_behind, tokenize
from mllm.conversation.text_encoder import Start
from mllm.conversation.time_form import with_time_spans
from mllm.errors import DataError, MllmError
from mllm.fields import in_field, show
from mllm.images import ImageRef, is_remote
from mllm.images.settings import Pixels
from mllm.types import BOXES, IMAGE, POINTS, Box, EncodedSample, Item, Point, Prediction, Turn

if TYPE_CHECKING:  # `data check` reads items without PyTorch, whose import takes seconds
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

ImageTensors = Mapping[ImageRef, Mapping[str, "Tensor"]]
"""The model's arguments for images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """An item as token ids and their labels, the same number of each, cut at `max_length`.

    Attributes:
        total: tokens before the cut.
        cut: tokens of answers that are cut off.
        image_starts: how many tokens stand before each image.
    """

    ids: list[int]
    labels: list[int]
    total: int
    cut: int
    image_starts: tuple[int, ...] = ()


class Processor:
    """Writes an item the way a model reads it, and reads back what the model wrote.

    `max_length` bounds the tokens of a training row: answers are cut and counted, images never; prompts are kept.
    `positions`: how many tokens the language model can read; None: any number. `image_numbers`: several images are
    called by number, in prompts and where regions are written.
    """

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        codec: RegionCodec,
        view: ImagePreprocessor,
        max_length: int | None = None,
        positions: int | None = None,
        image_numbers: bool = False,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.codec = codec
        self.view = view
        self.max_length = max_length
        self.positions = positions
        self.inputs = ImageInputs(tokenizer, view)
        self.renderer = ItemRenderer(
            tokenizer=tokenizer, template=template, codec=codec, images=self.inputs, image_numbers=image_numbers
        )
        self.image_token_id = self.inputs.token_id
        self.feature_token_id = self.inputs.feature_token_id
        self.stop = self.renderer.stop
        """The text that ends an answer."""
        self.end_token_id = self.renderer.end_token_id
        """The token that ends an answer; None where the template ends it by ordinary words, such as a line break."""
        begins = getattr(template, "begun", None)
        self.begun: str = begins(tokenizer) if begins else ""
        """What an answer begins with though its prompt ends in it, such as `<think>`."""
        self._answers: dict[tuple[str, Start], list[int]] = {}

    def images(
        self, item: Item, *, pixels: Pixels = "exact", opened: ImageTensors | None = None
    ) -> dict[ImageRef, Mapping[str, Tensor]]:
        """The model's arguments for each distinct image, which is opened here unless it is among those `opened`.

        `pixels`: as in `ImageSettings`; views of other kinds than a `SquarePreprocessor` are always exact.

        Raises:
            DataError: the model takes none.
            ImageError: one cannot be read, or the model refuses it; names the item.
            ConfigError: what would read it is not installed, or not set up; likewise.
        """
        with _about(item):
            self.inputs.check(item)
            known = opened or {}
            refs = dict.fromkeys(item.images)
            return {ref: known[ref] if ref in known else self.inputs.open(ref, pixels) for ref in refs}

    def fit_to_max_length(self, item: Item) -> Item:
        """The item with as many rounds of its filling as `max_length` has room for."""
        if not item.extra_rounds or self.max_length is None:
            return item

        def length(rounds: int) -> int:
            filled = item.with_extra_rounds(rounds)
            return len(self._ids(filled, filled.turns)[0])

        with _about(item):
            rounds = bisect_right(range(1, item.extra_rounds + 1), self.max_length, key=length)
        return item.with_extra_rounds(rounds)

    def encode(
        self,
        item: Item,
        index: int,
        *,
        answer: bool = True,
        images: ImageTensors | None = None,
    ) -> EncodedSample:
        """Render, tokenize and place one item.

        `answer=False` leaves the last `gpt` turn out: a prompt to be continued, without labels. `images`: what
        `images(item)` gave, where several items share it; by default they are opened.

        Raises:
            DataError: a box lies wholly outside what the model sees, `max_length` would cut an image, or there is one
                and the model takes none; of a prompt also as `check_truth`.
            ImageError: a size cannot be read, or the model refuses it; names the item.
        """
        import torch

        tokens = self.tokens(item, answer=answer)
        pixels = self.images(item) if images is None else images
        # torch reads lists at a tenth of numpy's speed
        ids = torch.from_numpy(np.array(tokens.ids, dtype=np.int64))
        labels = torch.from_numpy(np.array(tokens.labels, dtype=np.int64)) if answer else None
        return EncodedSample(
            key=item.key,
            index=index,
            input_ids=ids,
            labels=labels,
            images=item.images,
            pixels=tuple(pixels[ref] for ref in item.images),
            images_end=self.inputs.end(tokens.ids),
            image_starts=tokens.image_starts,
            cut_tokens=tokens.cut,
        )

    def tokens(self, item: Item, *, answer: bool = True) -> Tokens:
        """The ids and labels that `encode` gives, without opening images; raises as it does."""
        with _about(item):
            if not answer:
                self.check_truth(item)
            ids, labels, starts = self._ids(item, item.turns if answer else item.prompt)
            if not ids:
                raise DataError(
                    field="conversations",
                    expected="a prompt that says something in this template, or a tokenizer with a BOS token",
                    found="no token",
                    kind="unsupported",
                )
            labels[0] = IGNORE  # nothing comes before it that could predict it
            total, cut = len(ids), 0
            if answer and self.max_length is not None and total > self.max_length:
                if self.feature_token_id in ids[self.max_length :]:
                    needed = total - ids[::-1].index(self.feature_token_id)
                    raise DataError(
                        field="max_length",
                        expected=f"at least {needed}, so that no image is cut",
                        found=str(self.max_length),
                        kind="cut-image",
                    )
                cut = learned(labels[self.max_length :])
                ids, labels = ids[: self.max_length], labels[: self.max_length]
            if self.positions is not None and len(ids) > self.positions:
                raise DataError(
                    "set data_args.max_length" if answer else "",
                    field="conversations",
                    expected=f"at most {self.positions:,} tokens, the most that the language model reads",
                    found=f"{len(ids):,}",
                    kind="unsupported",
                )
            return Tokens(ids=ids, labels=labels, total=total, cut=cut, image_starts=tuple(starts))

    def _ids(self, item: Item, turns: Sequence[Turn]) -> tuple[list[int], list[int], list[int]]:
        """Ids and labels of these turns, with the tokens of their images, and how many stand before each image."""
        pieces = self.renderer.spans(item, turns)
        return self.inputs.fill(item, *tokenize(pieces, self.tokenizer, image=self.image_token_id))

    def length(self, item: Item) -> Length:
        """Of the row that `encode` makes, for plans: no pixel is read, nor a size that the view does not ask for.

        A few tokens off where images are elsewhere, whose sizes are not fetched, and where boxes have other digits: so
        a question that mentions regions counts as shared up to its images only.
        """
        with _about(item):
            self.inputs.check(item)
            asked = not self.view.fixed and not any(map(is_remote, item.images))
            sizes = [ref.size if asked else USUAL_SIZE for ref in item.images]
            slots = [self.inputs.placeholders(ref, size) for ref, size in zip(item.images, sizes, strict=True)]
            view = self.inputs.view_of(item.images[0]) if sizes else self.view
            pieces = self.renderer.samples(item.turns, sizes[0] if sizes else None, item, view)
        ids, labels = tokenize(pieces, self.tokenizer, image=self.image_token_id)
        images = sum(map(len, slots))
        filled = images - len(sizes)
        tokens = len(ids) + filled
        if self.max_length is not None and tokens > self.max_length:
            tokens, labels = self.max_length, labels[: max(0, self.max_length - filled)]
        head = self.inputs.end(ids)
        end = min(shareable(labels), _known_until(item, ids, head))
        if end < head:
            return Length(tokens=tokens, images=min(tokens, images))
        return Length(
            tokens=tokens,
            images=images,
            shared=head + filled,
            beginning=tuple(ids[:head]),
            question=tuple(ids[head:end]),
        )

    def ends_in_image(self, item: Item) -> bool:
        """Whether no word follows the last image of the prompt, as in captions without a question."""
        with _about(item):
            written = [piece for piece in self.renderer.spans(item, item.prompt) if piece.text]
        if len(written) > 1 and written[-1] == TextSpan(self.view.around[1]):
            del written[-1]
        return written[-1].text == self.view.token and not written[-1].literal

    def answer_ids(self, item: Item, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of answers to the last question, as training supervises them, up to what ends them.

        Raises:
            DataError: a text cannot be an answer in this template, or is empty.
        """
        with _about(item):
            pieces = self.renderer.spans(item, item.prompt)
            start = start_behind(pieces, self.tokenizer, image=self.image_token_id)
            return [self._answer_ids(text, start) for text in texts]

    def _answer_ids(self, text: str, start: Start) -> list[int]:
        if (text, start) not in self._answers:
            pieces = self.renderer.answer(text)
            ids = tokenize(pieces, self.tokenizer, start=start)[0] if pieces else []
            if not ids:
                raise DataError(expected="words to rank", found=show(text), kind="blank-text")
            self._answers[text, start] = ids
        return self._answers[text, start]

    def decode(self, ids: Sequence[int], item: Item, index: int, *, image: int | None = None) -> Prediction:
        """The answer's text up to its end, with every box and point in pixels of the item's original image.

        Regions are read where the text states its answer (`mllm.answers.stated`), on the image that the last question
        is about, or on this `image`. The truth is handed on and not looked at.
        """
        return self.read(self.text(ids), item, index, image=image)

    def read(self, text: str, item: Item, index: int, *, image: int | None = None) -> Prediction:
        """As `decode`, of an answer's text."""
        answer = Prediction.of(item, index, text)
        codec = self.codec_of_answer(item, image)
        return with_time_spans(answer if codec is None else codec.read_into(answer), item, self.codec)

    def codec_of_answer(self, item: Item, image: int | None = None) -> PixelCodec | None:
        """The codec on the image that the last question is about, or on this `image`; None where the item has none.

        With `image_numbers` it reads regions on the image that the answer names.

        Raises:
            ImageError: its size cannot be read, or the model refuses it; names the item.
        """
        with _about(item):
            return self.renderer.codec_of(item).of_answer(image)

    def check_truth(self, item: Item) -> None:
        """Check that the last question can be answered: its truth lies on the image it asks about, where it is seen.

        Raises:
            DataError: names the region.
        """
        with _about(item):
            for kind, regions in (("boxes", item.truth.boxes), ("points", item.truth.points)):
                for number, region in enumerate(regions):
                    in_field(f"truth.{kind}[{number}]", self._check_answerable, item, region)

    def _check_answerable(self, item: Item, region: Box | Point) -> None:
        asked = item.answer_image
        codec = self.renderer.codec_of(item)
        if region.image != asked and not codec.names:
            raise DataError(
                expected=f"a region on image {asked}, which the question is about",
                found=f"one on image {region.image}",
                message="name its image with 'image' in its turn, or set model_args.image_numbers=True",
                kind="image-number",
            )
        codec.on(region.image).check(region)

    def text(self, ids: Sequence[int]) -> str:
        """The answer's words, behind what its prompt began of them. An end that is a token ends them there; other ends
        where the words first spell them.
        """
        start = 1 if len(ids) and self.opens(ids[0]) else 0
        until = next((place for place, token in enumerate(ids) if self.ends(token)), len(ids))
        text = words_of(self.tokenizer, list(map(int, ids[start:until])))
        if self.end_token_id is None:
            text = text.split(self.stop)[0]
        return (self.begun + text).strip()

    def opens(self, token: int) -> bool:
        """Whether an answer's first token says nothing: the decoder of BART and its kin begins with that of texts."""
        tokenizer: Any = self.tokenizer
        return int(token) == tokenizer.bos_token_id

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer, or pads what follows it."""
        tokenizer: Any = self.tokenizer
        return int(token) in (tokenizer.eos_token_id, tokenizer.pad_token_id, self.end_token_id)


@contextmanager
def _about(item: Item) -> Generator[None, None, None]:
    """Errors inside name the item's record, and the demonstrations before it, which may be what is wrong."""
    try:
        yield
    except MllmError as error:
        behind = f" behind {', '.join(item.demonstrations)}" if item.demonstrations else ""
        raise error.at(f"{item.key}{behind}") from error


def learned(labels: Sequence[int]) -> int:
    """How many tokens have a label."""
    return len(labels) - labels.count(IGNORE)


def _known_until(item: Item, ids: Sequence[int], head: int) -> int:
    """How many of the ids, which have sample regions, are the real ones; `head`: those up to the last image."""
    asked = item.turns[0].text
    regions = [asked.index(mark) for mark in (BOXES, POINTS) if mark in asked]
    if not regions:
        return len(ids)
    return head if asked.rfind(IMAGE) < min(regions) else 0

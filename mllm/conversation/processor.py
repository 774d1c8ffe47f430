"""Item -> Example (`encode`) and token ids -> Prediction (`decode`): the one place where both directions meet.

Training, evaluation, prediction and serving share one Processor, so coordinates cannot disagree between them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from mllm.conversation.codec_base import RegionCodec, framed, none_text
from mllm.conversation.detokenizer import words_of
from mllm.conversation.item_codec import ItemCodec
from mllm.conversation.packing import Length, shareable
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, SquarePreprocessor, VideoPreprocessor
from mllm.conversation.rendering import (
    IGNORE,
    RenderedTurn,
    Template,
    TextSpan,
    Write,
    start_behind,
    tokenize,
    written_turn,
)
from mllm.conversation.text_encoder import Start, encoder_of
from mllm.conversation.time_form import with_time_spans
from mllm.errors import ConfigError, DataError, ImageError, MllmError, ModelError
from mllm.fields import show, within
from mllm.images import ImageRef, Video, is_reducible, is_remote
from mllm.images.names import name_of
from mllm.images.resolution import Resolution, resolution_of
from mllm.images.settings import Pixels
from mllm.tokenizer_files import required_token
from mllm.types import BOXES, IMAGE, POINTS, Box, EncodedSample, Item, Point, Prediction, Turn

if TYPE_CHECKING:  # `data check` reads items without PyTorch, whose import takes seconds
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

ImageTensors = Mapping[ImageRef, Mapping[str, "Tensor"]]
"""The model's arguments for images."""
USUAL_SIZE = (640, 480)
"""Width and height that lengths are taken for where the real ones are not at hand, in pixels: COCO's most frequent."""
KNOWN_SYSTEMS = 16
"""As many system messages are remembered."""


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
        self.image_numbers = image_numbers
        self.image_token_id = required_token(tokenizer, view.token) if view.token else None
        self.feature_token_id = required_token(tokenizer, view.feature) if view.token else None
        self._slots: dict[str, list[int]] = {}
        self._answers: dict[tuple[str, Start], list[int]] = {}
        self._systems: dict[str, Template] = {}
        self._views: dict[Resolution, ImagePreprocessor] = {}
        self.stop = template.end(tokenizer)
        """The text that ends an answer."""
        self.end_token_id = encoder_of(tokenizer).token_at_end(self.stop)
        """The token that ends an answer; None where the template ends it by ordinary words, such as a line break."""
        begins = getattr(template, "begun", None)
        self.begun: str = begins(tokenizer) if begins else ""
        """What an answer begins with though its prompt ends in it, such as `<think>`."""
        self._check_template()

    def _check_template(self) -> None:
        """
        Raises:
            ConfigError: the template does not write one placeholder for an image.
        """
        if self.image_token_id is not None:
            pieces = self._rendered_alike((Turn(role="human", text=f"{IMAGE}\nWhat is it?"),), None)
            written = tokenize(pieces, self.tokenizer)[0].count(self.image_token_id)
            if written != 1:
                raise ConfigError(
                    "dict(type='chat', parts=True) leaves that to the tokenizer's chat template, parts=False does not",
                    field="template",
                    expected=f"{self.view.token} once for an image",
                    found=str(written),
                )

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
            self._check_sight(item)
            known = opened or {}
            refs = dict.fromkeys(item.images)
            return {ref: known[ref] if ref in known else self._seen(ref, pixels) for ref in refs}

    def view_of(self, ref: ImageRef) -> ImagePreprocessor:
        """How the model takes an image: as the run says, or in the resolution that goes with it."""
        resolution = resolution_of(ref)
        return self.view if resolution is None else self.view_at(resolution)

    def view_at(self, resolution: Resolution) -> ImagePreprocessor:
        """The view within these bounds.

        Raises:
            ConfigError: the model takes others, or none.
        """
        if resolution not in self._views:
            bound = getattr(self.view, "at", None)
            if bound is None:
                raise ConfigError(
                    "the model sees images in one way",
                    field="AtResolution",
                    expected="a model of type 'hf', whose image processor takes bounds",
                    found=", ".join(resolution.given),
                )
            self._views[resolution] = within("AtResolution", bound, resolution)
        return self._views[resolution]

    def _seen(self, ref: ImageRef, pixels: Pixels) -> Mapping[str, Tensor]:
        if isinstance(ref, Video):
            if not isinstance(self.view, VideoPreprocessor):
                reason = f"a video of {len(ref.frames)} frames, but this model takes images only"
                raise DataError(reason, kind="unsupported")
            return self.view.video([self._seen(frame, pixels) for frame in ref.frames])
        view = self.view_of(ref)
        if pixels == "exact" or not isinstance(view, SquarePreprocessor):
            image = ref.open()
            with _named(ref):
                return view(image)
        size = ref.size
        with _named(ref):
            extent = view.resized_size(size)
        image = ref.open_reduced(extent) if pixels == "reduced" and is_reducible(ref) else ref.open()
        with _named(ref):
            return view.fast(image, size)

    def fit_to_max_length(self, item: Item) -> Item:
        """The item with as many rounds of its filling as `max_length` has room for."""
        if not item.extra_rounds or self.max_length is None:
            return item
        with _about(item):
            rounds = bisect_right(
                range(1, item.extra_rounds + 1),
                self.max_length,
                key=lambda count: self._length(item.with_extra_rounds(count)),
            )
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
        with _about(item):
            return self._encode(item, index, answer=answer, images=images)

    def _encode(self, item: Item, index: int, *, answer: bool, images: ImageTensors | None) -> EncodedSample:
        tokens = self._cut(item, answer=answer)
        pixels = self.images(item) if images is None else images
        return EncodedSample(
            key=item.key,
            index=index,
            input_ids=_row(tokens.ids),
            labels=_row(tokens.labels) if answer else None,
            images=item.images,
            pixels=tuple(pixels[ref] for ref in item.images),
            images_end=self._images_end(tokens.ids),
            image_starts=tokens.image_starts,
            cut_tokens=tokens.cut,
        )

    def tokens(self, item: Item, *, answer: bool = True) -> Tokens:
        """The ids and labels that `encode` gives, without opening images; raises as it does."""
        with _about(item):
            return self._cut(item, answer=answer)

    def _cut(self, item: Item, *, answer: bool) -> Tokens:
        if not answer:
            self._check_truth(item)
        ids, labels, starts = self._tokens(item, item.turns if answer else item.prompt)
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

    def length(self, item: Item) -> Length:
        """Of the row that `encode` makes, for plans: no pixel is read, nor a size that the view does not ask for.

        A few tokens off where images are elsewhere, whose sizes are not fetched, and where boxes have other digits: so
        a question that mentions regions counts as shared up to its images only.
        """
        with _about(item):
            return self._estimated(item)

    def _estimated(self, item: Item) -> Length:
        self._check_sight(item)
        asked = not self.view.fixed and not any(map(is_remote, item.images))
        sizes = [ref.size if asked else USUAL_SIZE for ref in item.images]
        slots = [self._slot(ref, size) for ref, size in zip(item.images, sizes, strict=True)]
        view = self.view_of(item.images[0]) if sizes else self.view
        pieces = self._rendered_alike(item.turns, sizes[0] if sizes else None, item, view)
        ids, labels = tokenize(pieces, self.tokenizer, image=self.image_token_id)
        images = sum(map(len, slots))
        filled = images - len(sizes)
        tokens = len(ids) + filled
        if self.max_length is not None and tokens > self.max_length:
            tokens, labels = self.max_length, labels[: max(0, self.max_length - filled)]
        head = self._images_end(ids)
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

    def probes(self) -> list[str]:
        """Conversations as they are rendered, with a box and with a point: what a saved tokenizer must read alike."""
        asked = Turn(role="human", text=f"{IMAGE if self.view.token else ''}\nWhere is it?")
        texts: list[str] = []
        for answer in (
            Turn(role="gpt", text=f"There: {BOXES}.", boxes_seq=((0,),)),
            Turn(role="gpt", text=f"There: {POINTS}.", points_seq=((0,),)),
        ):
            try:
                pieces = self._rendered_alike((asked, answer), USUAL_SIZE if self.view.token else None)
            except ConfigError:
                continue  # the codec has no form for one of them
            texts.append("".join(piece.text for piece in pieces))
        return texts

    def _images_end(self, ids: Sequence[int]) -> int:
        """How many tokens there are up to the last of an image."""
        return next(
            (end for end in range(len(ids), 0, -1) if ids[end - 1] in (self.image_token_id, self.feature_token_id)), 0
        )

    def ends_in_image(self, item: Item) -> bool:
        """Whether no word follows the last image of the prompt, as in captions without a question."""
        with _about(item):
            written = [piece for piece in self._pieces(item, item.prompt) if piece.text]
        if len(written) > 1 and written[-1] == TextSpan(self.view.around[1]):
            del written[-1]
        return written[-1].text == self.view.token and not written[-1].literal

    def answer_ids(self, item: Item, texts: Sequence[str]) -> list[list[int]]:
        """The token ids of answers to the last question, as training supervises them, up to what ends them.

        Raises:
            DataError: a text cannot be an answer in this template, or is empty.
        """
        with _about(item):
            pieces = self._pieces(item, item.prompt)
            start = start_behind(pieces, self.tokenizer, image=self.image_token_id)
            return [self._answer_ids(text, start) for text in texts]

    def _answer_ids(self, text: str, start: Start) -> list[int]:
        if (text, start) not in self._answers:
            turns = (Turn(role="human", text="?"), Turn(role="gpt", text=text))
            self._check_ends(turns)
            supervised = [piece for piece in self._rendered_alike(turns, None) if piece.supervised and piece.text]
            words = [number for number, piece in enumerate(supervised) if piece.literal]
            ids = tokenize(supervised[: words[-1] + 1], self.tokenizer, start=start)[0] if words else []
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
            return self._item_codec(item).of_answer(image)

    def check_truth(self, item: Item) -> None:
        """Check that the last question can be answered: its truth lies on the image it asks about, where it is seen.

        Raises:
            DataError: names the region.
        """
        with _about(item):
            self._check_truth(item)

    def _check_truth(self, item: Item) -> None:
        for kind, regions in (("boxes", item.truth.boxes), ("points", item.truth.points)):
            for number, region in enumerate(regions):
                within(f"truth.{kind}[{number}]", self._check_answerable, item, region)

    def _check_answerable(self, item: Item, region: Box | Point) -> None:
        asked = item.answer_image
        codec = self._item_codec(item)
        if region.image != asked and not codec.names:
            raise DataError(
                expected=f"a region on image {asked}, which the question is about",
                found=f"one on image {region.image}",
                message="name its image with 'image' in its turn, or set model_args.image_numbers=True",
                kind="image-number",
            )
        codec.on(region.image).check(region)

    def _check_sight(self, item: Item) -> None:
        if item.images and self.image_token_id is None:
            found = f"{len(item.images)} image(s): the model takes none"
            raise DataError(expected="text alone", found=found, kind="unsupported")

    def _length(self, item: Item) -> int:
        return len(self._tokens(item, item.turns)[0])

    def _tokens(self, item: Item, turns: Sequence[Turn]) -> tuple[list[int], list[int], list[int]]:
        """Ids and labels of these turns, with the tokens of their images, and how many stand before each image."""
        pieces = self._pieces(item, turns)
        return self._fill_slots(item, *tokenize(pieces, self.tokenizer, image=self.image_token_id))

    def _pieces(self, item: Item, turns: Sequence[Turn]) -> list[TextSpan]:
        """The rendered turns, where the view's token marks the images."""
        self._check_sight(item)
        self._check_ends(turns)
        codec = self._item_codec(item)
        return self._rendered(turns, codec.writers, codec.leads, self._template_of(item))

    def _template_of(self, item: Item) -> Template:
        return self.template if item.system is None else self._with_system(item.system)

    def _with_system(self, system: str) -> Template:
        """The template with another system message.

        Raises:
            DataError: it has no place for one, or the message holds a special token.
        """
        if system not in self._systems:
            make = getattr(self.template, "with_system", None)
            if make is None:
                name = type(self.template).__name__
                raise DataError(
                    field="system",
                    expected=f"no system message: the template of this model ({name}) has no place for one",
                    found=show(system),
                    kind="unsupported",
                )
            for begin, end, _ in encoder_of(self.tokenizer).marks(system):
                raise DataError(
                    field="system", expected="words alone", found=f"the special token {system[begin:end].strip()}"
                )
            if len(self._systems) == KNOWN_SYSTEMS:
                self._systems.clear()
            self._systems[system] = make(system)
        return self._systems[system]

    def _check_ends(self, turns: Sequence[Turn]) -> None:
        """Where an answer ends in words, no answer may hold them: it would be read, and generated, up to there."""
        for number, turn in enumerate(turns):
            if self.end_token_id is None and turn.role == "gpt" and self.stop in turn.text.rstrip():
                raise DataError(
                    field=f"conversations[{number}].value",
                    expected=f"an answer without {self.stop!r}, which ends answers in this template",
                    found=show(turn.text),
                    kind="unsupported",
                )

    def _rendered(
        self,
        turns: Sequence[Turn],
        write: Mapping[str, Write],
        leads: Sequence[str],
        template: Template | None = None,
    ) -> list[TextSpan]:
        none, names = none_text(self.codec), iter(leads)
        said = [RenderedTurn(turn.role, tuple(written_turn(turn, write, none, names))) for turn in turns]
        rendered = (template or self.template).render(said, self.tokenizer)
        return [marked for piece in rendered for marked in self._marked(piece)]

    def _rendered_alike(
        self,
        turns: Sequence[Turn],
        size: tuple[int, int] | None,
        item: Item | None = None,
        view: ImagePreprocessor | None = None,
    ) -> list[TextSpan]:
        """The turns with sample boxes and points in place of theirs; `size` is that of an image, in pixels.

        `item`: whose turns they are, where it may have a system message, and its images names. `view`: of the image.
        """
        canvas = framed((view or self.view).placement(size), self.codec.frame).canvas if size else USUAL_SIZE

        def sample(placeholder: str, count: int) -> str:
            if placeholder == BOXES:
                return self.codec.write_boxes([(0.345, 0.345, 0.678, 0.678)] * count, canvas)
            return self.codec.write_points([(0.345, 0.345)] * count, canvas)

        if item is None:
            write: Mapping[str, Write] = {each: partial(_of_group, sample, each) for each in (BOXES, POINTS)}
            return self._rendered(turns, write, ())
        codec = self._item_codec(item)
        write = codec.samples(lambda _, placeholder, regions: sample(placeholder, len(regions)))
        return self._rendered(turns, write, codec.leads, self._template_of(item))

    def _item_codec(self, item: Item) -> ItemCodec:
        return ItemCodec(self.codec, item, partial(self._codec_on, item), numbers=self.image_numbers)

    def _codec_on(self, item: Item, image: int) -> PixelCodec:
        ref = item.images[image]
        size = ref.size
        with _named(ref):
            return PixelCodec(self.codec, self.view_of(ref).placement(size), image=image)

    def _fill_slots(self, item: Item, ids: list[int], labels: list[int]) -> tuple[list[int], list[int], list[int]]:
        """Put each image's slot where its mark is; also how many tokens stand before each."""
        filled_ids: list[int] = []
        filled_labels: list[int] = []
        starts: list[int] = []
        refs = iter(item.images)
        slots = 0
        for token, label in zip(ids, labels, strict=True):
            if token != self.image_token_id:
                filled_ids.append(token)
                filled_labels.append(label)
                continue
            slots += 1
            ref = next(refs, None)
            if ref is None:
                break
            slot = self._slot(ref, ref.size)
            starts.append(len(filled_ids))
            filled_ids += slot
            filled_labels += [IGNORE] * len(slot)
        if slots != len(item.images):
            raise ModelError(
                field="template", expected=f"{len(item.images)} {IMAGE}, one for each image", found=str(slots)
            )
        return filled_ids, filled_labels, starts

    def _marked(self, piece: TextSpan) -> list[TextSpan]:
        """The view's mark of an image, or of each that the template wrote, with the text that it wants around."""
        if piece.literal:
            return [piece]
        token, (before, behind) = self.view.token, self.view.around
        if piece.text == IMAGE and token:
            return [replace(piece, text=text) for text in (before, token, behind) if text]
        if token and before + behind:
            return [replace(piece, text=piece.text.replace(token, before + token + behind))]
        return [piece]

    def _slot(self, ref: ImageRef, size: tuple[int, int]) -> list[int]:
        """The tokens that hold the place of an image of `size`."""
        with _named(ref):
            text = self.view_of(ref).placeholder_tokens(size)
        if text not in self._slots:
            self._slots[text] = tokenize([TextSpan(text)], self.tokenizer)[0]
        return self._slots[text]

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


def _of_group(write: Callable[[str, int], str], placeholder: str, group: Sequence[int]) -> str:
    return write(placeholder, len(group))


@contextmanager
def _named(ref: ImageRef) -> Generator[None, None, None]:
    """What a view refuses names the image."""
    try:
        yield
    except ImageError as error:
        raise error.at(name_of(ref)) from error


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


def _row(numbers: list[int]) -> Tensor:
    import torch

    return torch.from_numpy(np.array(numbers, dtype=np.int64))  # torch reads lists at a tenth of this speed


def _known_until(item: Item, ids: Sequence[int], head: int) -> int:
    """How many of the ids, which have sample regions, are the real ones; `head`: those up to the last image."""
    asked = item.turns[0].text
    regions = [asked.index(mark) for mark in (BOXES, POINTS) if mark in asked]
    if not regions:
        return len(ids)
    return head if asked.rfind(IMAGE) < min(regions) else 0

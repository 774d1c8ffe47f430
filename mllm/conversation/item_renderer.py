"""The turns of an item -> the text spans of a template, with its regions written and its images marked."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from mllm.conversation.codec_base import RegionCodec, none_text, to_frame
from mllm.conversation.detokenizer import words_of
from mllm.conversation.image_inputs import ImageInputs, errors_name
from mllm.conversation.item_codec import ItemCodec
from mllm.conversation.pixels import PixelCodec
from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor
from mllm.conversation.rendering import RenderedTurn, Template, TextSpan, Write, tokenize, written_turn
from mllm.conversation.text_encoder import encoder_of
from mllm.errors import ConfigError, DataError
from mllm.fields import show
from mllm.types import BOXES, IMAGE, POINTS, Item, Turn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

USUAL_SIZE = (640, 480)
"""Width and height that lengths are taken for where the real ones are not at hand, in pixels: COCO's most frequent."""
KNOWN_SYSTEMS = 16
"""As many system messages are remembered."""


class ItemRenderer:
    """A template, a codec and a model's images, which together write an item's turns.

    `image_numbers`: several images are called by number, in prompts and where regions are written.

    Attributes:
        stop: the text that ends an answer.
        end_token_id: the token that ends one; None where the template ends it by ordinary words, such as a line break.
    """

    def __init__(
        self,
        *,
        tokenizer: PreTrainedTokenizerBase,
        template: Template,
        codec: RegionCodec,
        images: ImageInputs,
        image_numbers: bool,
    ) -> None:
        self.tokenizer = tokenizer
        self.template = template
        self.codec = codec
        self.images = images
        self.image_numbers = image_numbers
        self.stop = template.end(tokenizer)
        self.end_token_id = encoder_of(tokenizer).token_at_end(self.stop)
        self._none = none_text(codec)
        self._systems: dict[str, Template] = {}
        self._check_template()

    def _check_template(self) -> None:
        """
        Raises:
            ConfigError: the tokenizer cannot write what ends answers, as those that drop line breaks; the template does
                not write one placeholder for an image.
        """
        if self.end_token_id is None:
            read = words_of(self.tokenizer, encoder_of(self.tokenizer)(f"a{self.stop}", "text"))
            if self.stop not in read:
                raise ConfigError(
                    "answers would never end; name another template",
                    field="template",
                    expected="an end of answers that this tokenizer can write",
                    found=f"{self.stop!r}, of which it makes {read.removeprefix('a')!r}",
                )
        if self.images.token_id is not None:
            pieces = self.samples((Turn(role="human", text=f"{IMAGE}\nWhat is it?"),), None)
            written = tokenize(pieces, self.tokenizer)[0].count(self.images.token_id)
            if written != 1:
                raise ConfigError(
                    "dict(type='chat', parts=True) leaves that to the tokenizer's chat template, parts=False does not",
                    field="template",
                    expected=f"{self.images.view.token} once for an image",
                    found=str(written),
                )

    def spans(self, item: Item, turns: Sequence[Turn]) -> list[TextSpan]:
        """The rendered turns of an item, where the view's token marks the images.

        Raises:
            DataError: a turn cannot be written in this template, codec or view.
        """
        self.images.check(item)
        self._check_ends(turns)
        codec = self.codec_of(item)
        return self._rendered(turns, codec.write, codec.leads, self._template_of(item.system))

    def samples(
        self,
        turns: Sequence[Turn],
        size: tuple[int, int] | None,
        item: Item | None = None,
        view: ImagePreprocessor | None = None,
    ) -> list[TextSpan]:
        """The turns with sample boxes and points in place of theirs; `size` is that of an image, in pixels.

        `item`: whose turns they are, where it may have a system message, and its images names. `view`: of the image.
        """
        placement = (view or self.images.view).placement(size) if size else None
        canvas = to_frame(placement, self.codec.frame).canvas if placement else USUAL_SIZE

        def sample(placeholder: str, count: int) -> str:
            if placeholder == BOXES:
                return self.codec.write_boxes([(0.345, 0.345, 0.678, 0.678)] * count, canvas)
            return self.codec.write_points([(0.345, 0.345)] * count, canvas)

        if item is None:
            return self._rendered(turns, lambda placeholder, group: sample(placeholder, len(group)), (), self.template)
        codec = self.codec_of(item)
        write = codec.sample(lambda _, placeholder, regions: sample(placeholder, len(regions)))
        return self._rendered(turns, write, codec.leads, self._template_of(item.system))

    def answer(self, text: str) -> list[TextSpan]:
        """The supervised spans of an answer through its last words, without what ends it; empty where it has none.

        Raises:
            DataError: the text cannot be an answer in this template.
        """
        turns = (Turn(role="human", text="?"), Turn(role="gpt", text=text))
        self._check_ends(turns)
        supervised = [piece for piece in self.samples(turns, None) if piece.supervised and piece.text]
        words = [number for number, piece in enumerate(supervised) if piece.literal]
        return supervised[: words[-1] + 1] if words else []

    def probes(self) -> list[str]:
        """Conversations as they are rendered, with a box and with a point: what a saved tokenizer must read alike."""
        token = self.images.view.token
        asked = Turn(role="human", text=f"{IMAGE if token else ''}\nWhere is it?")
        texts: list[str] = []
        for answer in (
            Turn(role="gpt", text=f"There: {BOXES}.", boxes_seq=((0,),)),
            Turn(role="gpt", text=f"There: {POINTS}.", points_seq=((0,),)),
        ):
            try:
                pieces = self.samples((asked, answer), USUAL_SIZE if token else None)
            except ConfigError:
                continue  # the codec has no form for one of them
            texts.append("".join(piece.text for piece in pieces))
        return texts

    def codec_of(self, item: Item) -> ItemCodec:
        """The codec on the item's images, whose sizes are read when they are needed."""
        return ItemCodec(self.codec, item, partial(self._codec_on, item), numbers=self.image_numbers)

    def _codec_on(self, item: Item, image: int) -> PixelCodec:
        ref = item.images[image]
        size = ref.size
        with errors_name(ref):
            return PixelCodec(self.codec, self.images.view_of(ref).placement(size), image=image)

    def _rendered(
        self, turns: Sequence[Turn], write: Write, leads: Sequence[str], template: Template
    ) -> list[TextSpan]:
        names = iter(leads)
        said = [RenderedTurn(turn.role, tuple(written_turn(turn, write, self._none, names))) for turn in turns]
        return self.images.marked(template.render(said, self.tokenizer))

    def _template_of(self, system: str | None) -> Template:
        """The template, with this system message if there is one.

        Raises:
            DataError: the template has no place for one, or the message holds a special token.
        """
        if system is None:
            return self.template
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
        if self.end_token_id is not None:
            return
        for number, turn in enumerate(turns):
            if turn.role == "gpt" and self.stop in turn.text.rstrip():
                raise DataError(
                    field=f"conversations[{number}].value",
                    expected=f"an answer without {self.stop!r}, which ends answers in this template",
                    found=show(turn.text),
                    kind="unsupported",
                )

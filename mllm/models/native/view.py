"""A family's own processor as an ImagePreprocessor: it is asked what it makes of an image, and of a size."""

from __future__ import annotations

import copy
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch import Tensor

from mllm.compat.transformers_processors import as_called, tokens_of_images
from mllm.conversation.rendering import TextSpan
from mllm.conversation.text_encoder import encoder_of
from mllm.errors import ImageError, ModelError, one_line
from mllm.geometry import Placement
from mllm.images.resolution import Resolution
from mllm.models.native.arranging import arranged
from mllm.models.native.family import Family, Size
from mllm.models.native.resolution import describe_resolution, override_resolution
from mllm.models.native.tensors import flat

PROBE_SIZES: tuple[Size, ...] = ((96, 64), (64, 96), (200, 180), (130, 410))
"""Sizes by which the form of the placeholder text is found out."""
OF_TEXT = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids", "text_replacement_offsets")


class Shown(NamedTuple):
    """How many tokens stand for the features of an image, and whether the processor says what it replaced."""

    tokens: int
    replaced: bool


class ProcessorView:
    """What the model's processor says of images. A size is asked once: by the processor's own count where its text is
    one token repeated, else by a blank image of that size.

    Args:
        family: what the processor cannot be asked.
        processor: the family's own; None: the family says itself what text holds the place of an image.
        image_processor: its image processor.
        feature: the token that stands for one feature of an image; '': the one that marks an image.
    """

    fixed = False

    def __init__(
        self, *, family: Family, config: Any, processor: Any, image_processor: Any, feature: str | None = None
    ) -> None:
        self.family = family
        self.config = config
        self.processor = processor
        self.image_processor = image_processor
        self._placing = as_called(processor, image_processor)
        self.token = family.token or _image_token(processor)
        self.feature = feature or self.token
        self.opening = first_token(processor.tokenizer) if family.opened else ""
        """What the processor writes before every prompt."""
        self.asked = self.token
        """The text in which the processor is shown an image."""
        self.around = ("", "")
        self.types: tuple[str, ...] = ()
        """Names under which the processor marks the tokens of images."""
        self._texts: dict[Size, str] = {}
        self._counted: int | None = None
        self._none: dict[str, Tensor] = {}
        """Of each tensor none of its rows: what an image has where its processor leaves the tensor out."""
        if processor is not None:
            self._look()

    def at(self, resolution: Resolution) -> ProcessorView:
        """The same view of images within other bounds.

        Raises:
            ConfigError: the image processor takes others, or none.
        """
        image_processor = override_resolution(self.image_processor, resolution)
        processor = copy.copy(self.processor)
        if processor is not None:
            processor.image_processor = image_processor
        return ProcessorView(
            family=self.family,
            config=self.config,
            processor=processor,
            image_processor=image_processor,
            feature=self.feature,
        )

    @property
    def described(self) -> dict[str, object]:
        """In which resolution images are seen, as the settings of the image processor."""
        return describe_resolution(self.image_processor)

    def _look(self) -> None:
        """Find out what stands around the features, and whether they can be counted without an image."""
        self.asked = self._question()
        seen = [self._seen(Image.new("RGB", size)) for size in PROBE_SIZES]
        texts = [text for _, text in seen]
        self._none = {name: tensor[:0] for tensors, _ in seen for name, tensor in tensors.items()}
        edges = {self._edges(text) for text in texts}
        if len(edges) == 1:
            self.around = edges.pop()
        counts = [tokens_of_images(self.processor, size) for size in PROBE_SIZES]
        runs = [text.count(self.feature) for text in texts]
        bare = {text.replace(self.feature, "", run - 1) for text, run in zip(texts, runs, strict=True)}
        over = {count - run for count, run in zip(counts, runs, strict=True) if count is not None}
        if (
            len(bare) == len(over) == 1
            and None not in counts
            and all(self.feature * run in text for text, run in zip(texts, runs, strict=True))
        ):
            self._counted, self._form = over.pop(), bare.pop()

    def _question(self) -> str:
        """The token of an image alone; nothing, if the processor writes an image's tokens before the text by itself;
        its chat template, if it wants that around the token.

        Raises:
            ModelError: it takes an image in none of these.
        """
        alone = self._shown(self.token)
        if isinstance(alone, Shown) and alone.replaced:
            return self.token
        bare = self._shown("")
        if isinstance(bare, Shown) and bare.tokens and (isinstance(alone, Exception) or alone.tokens > bare.tokens):
            return ""
        if isinstance(alone, Shown):
            return self.token
        chat = _in_chat(self.processor.tokenizer)
        if chat and isinstance(shown := self._shown(chat), Shown) and shown.replaced:
            return chat
        raise ModelError(
            f"{type(self.processor).__name__} fails on an image, with its token, without a text and in its chat "
            f"template: {one_line(bare) if isinstance(bare, Exception) else one_line(alone)}"
        )

    def _shown(self, text: str) -> Shown | Exception:
        """What the processor makes of an image in this text, or why it refuses it."""
        try:
            made = self._made(Image.new("RGB", PROBE_SIZES[0]), text)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            return error
        number = self.processor.tokenizer.convert_tokens_to_ids(self.feature)
        return Shown(int((made["input_ids"] == number).sum()), _replacement(made) is not None)

    def _edges(self, text: str) -> tuple[str, str]:
        """The plain text before the first special token, and behind the last."""
        marks = list(encoder_of(self.processor.tokenizer).marks(text))
        return (text[: marks[0][0]], text[marks[-1][1] :]) if marks else ("", "")

    def placement(self, size: Size) -> Placement:
        with _refusals(size):
            return self.family.place(self._placing, size)

    def placeholder_tokens(self, size: Size) -> str:
        with _refusals(size):
            if self.family.placeholder_tokens is not None:
                return self.family.placeholder_tokens(self.config, self.image_processor, size)
            return self._inside(self._asked(size))

    def _asked(self, size: Size) -> str:
        if self._counted is not None:
            count = tokens_of_images(self.processor, size)
            assert count is not None, "it was for other sizes"
            return self._form.replace(self.feature, self.feature * (count - self._counted))
        if size not in self._texts:
            self._texts[size] = self._seen(Image.new("RGB", size))[1]
        return self._texts[size]

    def _inside(self, text: str) -> str:
        before, behind = self.around
        between = self.family.between
        return text[len(before) : len(text) - len(behind)].removeprefix(between).removesuffix(between)

    def arrange(self, pieces: Sequence[TextSpan]) -> list[TextSpan]:
        """Rendered pieces with what the processor writes beside images by what stands there."""
        if not self.family.between:
            return list(pieces)
        return arranged(pieces, self.token, between=self.family.between, spaced=self.family.spaced)

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        self.placement(image.size)  # knows what is too long or too large before a pixel is moved
        return flat({**self._none, **self.tensors(image)})

    def tensors(self, image: Image.Image) -> dict[str, Tensor]:
        """What the processor makes of one image, in the model's own layout.

        Raises:
            ImageError: it refuses the image.
            ModelError: its text is another than `placeholder_tokens` said.
        """
        with _refusals(image.size):
            if self.processor is None:
                made = self.image_processor(image, return_tensors="pt")
                return {"pixel_values": made} if isinstance(made, Tensor) else _tensors(made)
            found, text = self._seen(image)
        if self.family.placeholder_tokens is None and text != self._asked(image.size):
            raise ModelError(
                f"its processor wants other tokens for an image of {image.size[0]} x {image.size[1]} pixels",
                field=type(self.processor).__name__,
                expected=f"{self._asked(image.size).count(self.feature)}, by the size alone",
                found=str(text.count(self.feature)),
            )
        return found

    def _seen(self, image: Image.Image) -> tuple[dict[str, Tensor], str]:
        """The tensors of an image, and the text that takes the place of `token`."""
        made = self._made(image, self.asked)
        ids = made["input_ids"]
        text = _replacement(made) or _said(self.processor.tokenizer, ids[0].tolist())
        marks = torch.isin(ids, torch.tensor(image_ids(self.processor), device="cpu"))
        self.types = tuple(
            name
            for name, found in made.items()
            if name not in ("input_ids", "attention_mask") and _is(found, ids.shape) and torch.equal(found > 0, marks)
        )
        seen = _tensors(made)
        return {name: one for name, one in seen.items() if name not in OF_TEXT and one.shape[:2] != ids.shape}, text

    def _made(self, image: Image.Image, text: str) -> Any:
        with torch.device("cpu"):  # a model without storage is asked what it sees, too
            return self.processor(
                images=[image],
                text=[text],
                return_tensors="pt",
                add_special_tokens=False,
                return_text_replacement_offsets=True,
            )

    def preview(self, image: Image.Image) -> Image.Image:
        placed = self.placement(image.size)
        seen = (*placed.inverse(0, 0), *placed.inverse(*placed.canvas))
        return image.resize(placed.canvas, Image.Resampling.BICUBIC, box=seen)


def _tensors(made: Mapping[str, object]) -> dict[str, Tensor]:
    return {name: one for name, one in made.items() if isinstance(one, Tensor)}


def _image_token(processor: Any) -> str:
    """The token that stands for an image in the text.

    Raises:
        ModelError: the processor has none.
    """
    token = getattr(processor, "image_token", None)
    if token is None:
        raise ModelError(
            f"{type(processor).__name__} marks no place for an image in the text, so a conversation cannot hold one",
            field="image_token",
            expected="a token",
            found="none",
        )
    return str(token)


def _replacement(made: Any) -> str | None:
    """What a processor says that it put in the place of an image's token; None: it does not say it."""
    offsets = made.get("text_replacement_offsets")
    return offsets[0][0]["replacement"] if offsets and offsets[0] else None


def first_token(tokenizer: Any) -> str:
    """That a text begins with: the end of another, where a tokenizer has none of its own."""
    return tokenizer.bos_token or tokenizer.eos_token


def _said(tokenizer: Any, ids: list[int]) -> str:
    """The text of ids; special tokens alone are not parted by spaces, which some tokenizers put there."""
    tokens = tokenizer.convert_ids_to_tokens(ids)
    if set(tokens) <= encoder_of(tokenizer).special.keys():
        return "".join(tokens)
    return tokenizer.decode(ids)


def _in_chat(tokenizer: Any) -> str:
    """A question of an image alone, in the tokenizer's chat template; '': it has none."""
    if not tokenizer.chat_template:
        return ""
    return tokenizer.apply_chat_template([{"role": "user", "content": [{"type": "image"}]}], tokenize=False)


def image_ids(processor: Any) -> list[int]:
    """Ids of the tokens that a processor marks as an image's."""
    return [number for number in processor.image_token_ids if number is not None]


def _is(found: object, shape: Any) -> bool:
    """Whether it is a tensor of whole numbers of this shape."""
    return isinstance(found, Tensor) and found.shape == shape and not found.is_floating_point()


@contextmanager
def _refusals(size: Size) -> Generator[None, None, None]:
    """What an image processor raises for a size that it does not take (Qwen-VL: an aspect ratio of 200 and more)."""
    try:
        yield
    except (ValueError, ArithmeticError, IndexError) as error:
        raise ImageError(
            f"the model's image processor refuses {size[0]} x {size[1]} pixels: {error}", kind="refused-image"
        ) from error

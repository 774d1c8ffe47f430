"""How a model takes the images of an item: the pixels it sees, and the tokens that hold their places in its text."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from mllm.conversation.preprocessing.image_preprocessor import ImagePreprocessor, SquarePreprocessor, VideoPreprocessor
from mllm.conversation.rendering import IGNORE, TextSpan, tokenize
from mllm.errors import ConfigError, DataError, ImageError, ModelError
from mllm.fields import in_field
from mllm.images import ImageRef, Video, is_reducible
from mllm.images.names import name_of
from mllm.images.resolution import Resolution, resolution_of
from mllm.images.settings import Pixels
from mllm.tokenizer_files import required_token
from mllm.types import IMAGE, Item

if TYPE_CHECKING:  # `data check` reads items without PyTorch, whose import takes seconds
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase


class ImageInputs:
    """A model's image preprocessor beside its tokenizer.

    Attributes:
        token_id: the token that marks an image in rendered text; None where the model takes none.
        feature_token_id: the token that is replaced by features.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, view: ImagePreprocessor) -> None:
        self.tokenizer = tokenizer
        self.view = view
        self.token_id = required_token(tokenizer, view.token) if view.token else None
        self.feature_token_id = required_token(tokenizer, view.feature) if view.token else None
        self._placeholders: dict[str, list[int]] = {}
        self._views: dict[Resolution, ImagePreprocessor] = {}

    def check(self, item: Item) -> None:
        """
        Raises:
            DataError: the item has images, and the model takes none.
        """
        if item.images and self.token_id is None:
            found = f"{len(item.images)} image(s): the model takes none"
            raise DataError(expected="text alone", found=found, kind="unsupported")

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
                    "this model has one fixed resolution",
                    field="AtResolution",
                    expected="a model of type 'hf', whose image processor takes bounds",
                    found=", ".join(resolution.given),
                )
            self._views[resolution] = in_field("AtResolution", bound, resolution)
        return self._views[resolution]

    def open(self, ref: ImageRef, pixels: Pixels) -> Mapping[str, Tensor]:
        """The model's arguments for an image or a video, which is opened here; `pixels` as in `ImageSettings`.

        Raises:
            DataError: it is a video, and the model takes images only.
            ImageError: it cannot be read, or the model refuses it; names it.
        """
        if isinstance(ref, Video):
            if not isinstance(self.view, VideoPreprocessor):
                reason = f"a video of {len(ref.frames)} frames, but this model takes images only"
                raise DataError(reason, kind="unsupported")
            return self.view.video([self.open(frame, pixels) for frame in ref.frames])
        view = self.view_of(ref)
        if pixels == "exact" or not isinstance(view, SquarePreprocessor):
            image = ref.open()
            with errors_name(ref):
                return view(image)
        size = ref.size
        with errors_name(ref):
            extent = view.resized_size(size)
        image = ref.open_reduced(extent) if pixels == "reduced" and is_reducible(ref) else ref.open()
        with errors_name(ref):
            return view.fast(image, size)

    def placeholders(self, ref: ImageRef, size: tuple[int, int]) -> list[int]:
        """The tokens that hold the place of an image of `size`."""
        with errors_name(ref):
            text = self.view_of(ref).placeholder_tokens(size)
        if text not in self._placeholders:
            self._placeholders[text] = tokenize([TextSpan(text)], self.tokenizer)[0]
        return self._placeholders[text]

    def fill(self, item: Item, ids: list[int], labels: list[int]) -> tuple[list[int], list[int], list[int]]:
        """Put each image's placeholders where its mark is; also how many tokens stand before each.

        Raises:
            ModelError: there are more marks than images, or fewer.
        """
        filled_ids: list[int] = []
        filled_labels: list[int] = []
        starts: list[int] = []
        refs = iter(item.images)
        marks = 0
        for token, label in zip(ids, labels, strict=True):
            if token != self.token_id:
                filled_ids.append(token)
                filled_labels.append(label)
                continue
            marks += 1
            ref = next(refs, None)
            if ref is None:
                continue
            placeholders = self.placeholders(ref, ref.size)
            starts.append(len(filled_ids))
            filled_ids += placeholders
            filled_labels += [IGNORE] * len(placeholders)
        if marks != len(item.images):
            raise ModelError(
                field="template", expected=f"{len(item.images)} {IMAGE}, one for each image", found=str(marks)
            )
        return filled_ids, filled_labels, starts

    def end(self, ids: Sequence[int]) -> int:
        """How many tokens there are up to the last of an image."""
        return next(
            (end for end in range(len(ids), 0, -1) if ids[end - 1] in (self.token_id, self.feature_token_id)), 0
        )

    def marked(self, pieces: Sequence[TextSpan]) -> list[TextSpan]:
        """Rendered pieces with the view's mark of each image, and the text that it wants around."""
        token, (before, behind) = self.view.token, self.view.around
        marked: list[TextSpan] = []
        for piece in pieces:
            if piece.literal or not token:
                marked.append(piece)
            elif piece.text == IMAGE:
                marked += [replace(piece, text=text) for text in (before, token, behind) if text]
            elif before + behind:
                marked.append(replace(piece, text=piece.text.replace(token, before + token + behind)))
            else:
                marked.append(piece)
        arrange = getattr(self.view, "arrange", None)
        return marked if arrange is None else arrange(marked)


@contextmanager
def errors_name(ref: ImageRef) -> Generator[None, None, None]:
    """What a view refuses names the image."""
    try:
        yield
    except ImageError as error:
        raise error.at(name_of(ref)) from error

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from transformers import PreTrainedTokenizerFast

from mllm.conversation.image_inputs import ImageInputs
from mllm.conversation.preprocessing.image_preprocessor import NoView, SquarePreprocessor, VideoPreprocessor
from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE, TextSpan
from mllm.errors import ConfigError, DataError, ImageError, ModelError
from mllm.images import FileImage, ImageRef, MemoryImage, Video
from mllm.images.resolution import BoundedImage, Resolution
from mllm.registry import TEMPLATES
from mllm.types import IMAGE, Item, Turn
from tests.conversation.processors import SIDE, TOKENS, make_processor

SETTINGS: dict[str, Any] = {"size": SIDE, "mean": (0.5,) * 3, "std": (0.5,) * 3, "tokens": TOKENS}
PICTURE = MemoryImage(Image.new("RGB", (40, 20), (255, 0, 0)))
BOUND = Resolution(max_tiles=4)


def asking(*images: ImageRef) -> Item:
    return Item(key="a", images=images, turns=(Turn(role="human", text=IMAGE * len(images) + "?"),))


def test_an_image_holds_as_many_tokens_as_the_model_has_features(processor: Processor, item: Item) -> None:
    example = processor.encode(item, 3)
    assert (example.input_ids == processor.image_token_id).sum() == TOKENS
    assert example.index == 3
    assert [image["pixels"].shape for image in example.pixels] == [(1, 3, SIDE, SIDE)]


class Framed(SquarePreprocessor):
    token = feature = "<patch>"

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return f"<im_start>{self.token * (size[0] // 20)}<im_end>"


def test_a_view_says_what_holds_the_place_of_an_image(tokenizer: PreTrainedTokenizerFast, item: Item) -> None:
    tokenizer.add_tokens(["<im_start>", "<patch>", "<im_end>"], special_tokens=True)
    view = Framed(**SETTINGS)
    example = make_processor(tokenizer, view=view).encode(item, 0)
    text = tokenizer.decode(example.input_ids).replace(" ", "")
    assert "<im_start><patch><patch><im_end>" in text
    assert "<image>" not in text


def test_a_template_that_loses_an_image_is_an_error(processor: Processor, item: Item) -> None:
    template = TEMPLATES.make("vicuna_v1")
    dropping = template.render
    processor.renderer.template = template
    template.render = lambda turns, tokenizer: [  # type: ignore[method-assign]
        piece for piece in dropping(turns, tokenizer) if piece.text != "<image>"
    ]
    with pytest.raises(ModelError, match=r"template: expected 1 <image>, .* found 0"):
        processor.encode(item, 0)


def test_check_refuses_images_where_the_model_takes_none(tokenizer: PreTrainedTokenizerFast) -> None:
    none = ImageInputs(tokenizer, NoView())
    assert (none.token_id, none.feature_token_id) == (None, None)
    none.check(asking())
    with pytest.raises(DataError, match=r"expected text alone, found 1 image\(s\): the model takes none") as caught:
        none.check(asking(PICTURE))
    assert caught.value.kind == "unsupported"
    ImageInputs(tokenizer, SquarePreprocessor(**SETTINGS)).check(asking(PICTURE))


class Tiled(SquarePreprocessor):
    """One that takes up to four tiles."""

    def at(self, resolution: Resolution) -> SquarePreprocessor:
        if resolution.max_tiles is None or resolution.max_tiles > 4:
            raise ConfigError(field="max_tiles", expected="at most 4", found="more")
        return SquarePreprocessor(**{**SETTINGS, "size": 7})


def test_view_of_an_image_is_that_of_its_resolution(tokenizer: PreTrainedTokenizerFast) -> None:
    tiled = ImageInputs(tokenizer, Tiled(**SETTINGS))
    assert tiled.view_of(PICTURE) is tiled.view
    bounded = tiled.view_of(BoundedImage(PICTURE, BOUND))
    assert bounded.placement((40, 20)).canvas == (7, 7)
    assert tiled.view_of(BoundedImage(PICTURE, BOUND)) is bounded
    with pytest.raises(ConfigError, match=r"AtResolution\.max_tiles: expected at most 4, found more"):
        tiled.view_at(Resolution(max_tiles=5))
    fixed = ImageInputs(tokenizer, SquarePreprocessor(**SETTINGS))
    with pytest.raises(
        ConfigError, match=r"AtResolution: expected a model of type 'hf'.* found max_tiles; this model has one fixed"
    ):
        fixed.view_at(BOUND)


class Told(SquarePreprocessor):
    """What it is asked for, and the size of the image that it is given."""

    def __call__(self, image: Image.Image) -> Any:
        return "exact", image.size

    def fast(self, image: Image.Image, size: tuple[int, int]) -> Any:
        return "fast", image.size, size


@pytest.mark.parametrize(
    ("pixels", "seen"),
    [
        ("exact", ("exact", (400, 200))),
        ("close", ("fast", (400, 200), (400, 200))),
        ("reduced", ("fast", (50, 25), (400, 200))),  # JPEG decodes it at an eighth, still more than is needed
    ],
)
def test_open_takes_as_many_pixels_as_the_run_wants(
    pixels: Any, seen: tuple[object, ...], tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    Image.new("RGB", (400, 200)).save(tmp_path / "a.jpg")
    inputs = ImageInputs(tokenizer, Told(**SETTINGS))
    assert inputs.open(FileImage(str(tmp_path / "a.jpg")), pixels) == seen
    in_memory = inputs.open(MemoryImage(Image.new("RGB", (400, 200))), pixels)
    assert in_memory == (("exact", (400, 200)) if pixels == "exact" else ("fast", (400, 200), (400, 200)))


def test_open_joins_the_frames_of_a_video_where_the_model_takes_videos(tokenizer: PreTrainedTokenizerFast) -> None:
    video = Video((PICTURE, PICTURE))
    seen = ImageInputs(tokenizer, VideoPreprocessor(**SETTINGS)).open(video, "close")
    assert (seen["frames"].tolist(), seen["pixels"].shape) == ([2], (2, 3, SIDE, SIDE))
    with pytest.raises(DataError, match="a video of 2 frames, but this model takes images only") as caught:
        ImageInputs(tokenizer, SquarePreprocessor(**SETTINGS)).open(video, "close")
    assert caught.value.kind == "unsupported"


class Refusing(SquarePreprocessor):
    """A view that refuses every image at one step."""

    step = ""

    def refuse(self, step: str) -> None:
        if step == self.step:
            raise ImageError(f"no {step}")

    def __call__(self, image: Image.Image) -> Any:
        self.refuse("call")

    def fast(self, image: Image.Image, size: tuple[int, int]) -> Any:
        self.refuse("fast")

    def resized_size(self, size: tuple[int, int]) -> tuple[int, int]:
        self.refuse("size")
        return size

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        self.refuse("tokens")
        return IMAGE


def test_what_a_view_refuses_names_the_image(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    PICTURE.image.save(tmp_path / "a.png")
    ref = FileImage(str(tmp_path / "a.png"))
    view = Refusing(**SETTINGS)
    inputs = ImageInputs(tokenizer, view)
    for view.step, work in (
        ("call", lambda: inputs.open(ref, "exact")),
        ("size", lambda: inputs.open(ref, "close")),
        ("fast", lambda: inputs.open(ref, "close")),
        ("tokens", lambda: inputs.placeholders(ref, (40, 20))),
    ):
        with pytest.raises(ImageError, match=rf"a\.png: no {view.step}"):
            work()


def patched(tokenizer: PreTrainedTokenizerFast, view: type[SquarePreprocessor]) -> tuple[ImageInputs, int, int]:
    """Inputs of a view, the token that marks an image and the one of its features."""
    tokenizer.add_tokens(["<patch>", "<feature>"], special_tokens=True)
    inputs = ImageInputs(tokenizer, view(**SETTINGS))
    mark, feature = inputs.token_id, inputs.feature_token_id
    assert mark is not None
    assert feature is not None
    return inputs, mark, feature


class Patches(SquarePreprocessor):
    token, feature = "<patch>", "<feature>"
    around = ("(", ")")

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return self.feature * (size[0] // 20)


def test_fill_puts_features_where_the_marks_are(tokenizer: PreTrainedTokenizerFast) -> None:
    inputs, mark, feature = patched(tokenizer, Patches)
    item = asking(PICTURE, MemoryImage(Image.new("RGB", (20, 20))))
    filled = inputs.fill(item, [5, mark, 7, mark, 8], [IGNORE, IGNORE, 7, IGNORE, 8])
    assert filled == (
        [5, feature, feature, 7, feature, 8],
        [IGNORE, IGNORE, IGNORE, 7, IGNORE, 8],
        [1, 4],
    )
    for count in (1, 3, 4):
        with pytest.raises(ModelError, match=f"template: expected 2 <image>, one for each image, found {count}"):
            inputs.fill(item, [mark] * count, [IGNORE] * count)


def test_end_is_behind_the_last_token_of_an_image(tokenizer: PreTrainedTokenizerFast) -> None:
    inputs, mark, feature = patched(tokenizer, Patches)
    assert [inputs.end(ids) for ids in ([5, mark, 7], [feature, feature, 7, 7], [mark], [5, 7], [])] == [2, 2, 1, 0, 0]


class Arranged(SquarePreprocessor):
    def arrange(self, pieces: list[TextSpan]) -> list[TextSpan]:
        return pieces[::-1]


def test_marked_puts_the_mark_of_the_view_and_its_text_around(tokenizer: PreTrainedTokenizerFast) -> None:
    pieces = [TextSpan(IMAGE), TextSpan(IMAGE, literal=True), TextSpan("a <patch> b")]
    assert patched(tokenizer, Patches)[0].marked(pieces) == [
        *map(TextSpan, ("(", "<patch>", ")")),
        TextSpan(IMAGE, literal=True),
        TextSpan("a (<patch>) b"),
    ]
    bare = patched(tokenizer, Framed)[0]
    assert bare.marked(pieces) == [TextSpan("<patch>"), *pieces[1:]]
    assert ImageInputs(tokenizer, NoView()).marked(pieces) == pieces
    assert ImageInputs(tokenizer, Arranged(**SETTINGS)).marked(pieces) == pieces[::-1]

"""Images in tiles: more pixels than the encoder's square, cut so that each tile is one, and how features are joined.

A tiling belongs to the model. It follows from an image's size alone where the tiles lie and how many features come of
them, so that text, pixels and model agree without decoding. Sizes are (width, height) in pixels, but for pinpoints.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from PIL import Image
from torch import Tensor

from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.errors import ConfigError
from mllm.fields import FULL, OneOf, Range, Reads, check, in_field, read_section
from mllm.geometry import ImageSide, Placement, PlacementKind, fit, place, resize
from mllm.types import IMAGE

Window = tuple[int, int, int, int]
"""First row, row after the last, first column, column after the last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileLayout:
    """How an image's features follow one another: of the whole image first, then of `rows` x `columns` tiles.

    Attributes:
        whole: whether a view of the whole image comes before the tiles.
        window: the part that is kept of the grid that the tiles' features make together, read row by row; None: the
            tiles' features follow tile by tile.
        newline: whether a learned feature ends each row of the window.
    """

    whole: bool
    rows: int
    columns: int
    window: Window | None = None
    newline: bool = False

    @property
    def tiles(self) -> int:
        """With the whole image."""
        return self.whole + self.rows * self.columns

    def tokens(self, tile: int) -> int:
        """Features of the image, where the model makes `tile` of each tile."""
        if self.window is None:
            return self.tiles * tile
        top, bottom, left, right = self.window
        return self.whole * tile + (bottom - top) * (right - left + self.newline)


TileCount = Annotated[int, Range(least=1, most=64)]


def _crops(tiling: str) -> ConfigError:
    """What is wrong with a placement that crops, where a tiling shows the whole image."""
    return ConfigError(field="placement", expected=f"'pad' or 'squash' with tiling {tiling!r}", found="'crop'")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnyResolution:
    """LLaVA-NeXT's: the canvas that fits the image best, and the whole image squashed to one tile before it.

    Features of the tiles make one grid. Coordinates do not depend on it: they lie in the same frame as without tiling
    (padded square or the image's own edges), whatever canvas is chosen.

    Attributes:
        pinpoints: canvases to choose from, (height, width) in pixels as LLaVA-NeXT writes them.
        unpad: leave out features of rows or columns that are padding.
        newline: a learned feature ends each row.
        aspect: "pad" keeps it, with black bars; "squash" stretches the image to the canvas.

    Raises:
        ConfigError: no pinpoints, or nothing to unpad.
    Source: Liu et al. 2024, LLaVA-NeXT; sizes are rounded as in transformers' `llava_next`.
    """

    black_bars: ClassVar[bool] = True
    joins: ClassVar[bool] = True
    """Whether the tiles' features make one grid, where those of each tile make one."""

    pinpoints: Annotated[Sequence[tuple[ImageSide, ImageSide]], FULL]
    unpad: bool = True
    newline: bool = True
    aspect: Literal["pad", "squash"] = "pad"

    def __post_init__(self) -> None:
        if self.unpad and self.aspect == "squash":
            raise ConfigError("has no effect with aspect='squash'; set unpad=False", field="unpad")

    @property
    def by_rows(self) -> bool:
        """Whether they must make one."""
        return self.unpad or self.newline

    @property
    def whole(self) -> Literal["image", "canvas"] | None:
        """What is squashed to the tile that comes first."""
        return "image"

    def check(self, side: int) -> None:
        """
        Raises:
            ConfigError: tiles of this side do not fill each canvas.
        """
        for point in self.pinpoints:
            if any(length % side for length in point):
                raise ConfigError(
                    field="tiling.pinpoints",
                    expected=f"multiples of the tile's side, {side} pixels",
                    found=str(list(point)),
                )

    def canvas(self, size: tuple[int, int], side: int, kind: PlacementKind) -> Placement:
        """Where an image lies on tiles of this side, put side by side."""
        return fit(size, self._best(size)) if self.aspect == "pad" else resize(size, self._best(size))

    def frame(self, size: tuple[int, int], side: int, kind: PlacementKind) -> Placement:
        """What coordinates are fractions of.

        Raises:
            ConfigError: the image cannot be placed so.
        """
        if kind == "crop":
            raise _crops("any_resolution")
        if kind == "pad":
            return place(kind, size, max(self._best(size)))
        return resize(size, self._best(size))

    def layout(self, size: tuple[int, int], side: int, grid: int | None) -> TileLayout:
        """`grid`: features along the side of a tile; None: they make no square."""
        width, height = self._best(size)
        rows, columns = height // side, width // side
        if grid is None:
            return TileLayout(whole=True, rows=rows, columns=columns)
        window = (0, rows * grid, 0, columns * grid)
        if self.unpad:
            window = _unpadded(size, rows * grid, columns * grid)
        return TileLayout(whole=True, rows=rows, columns=columns, window=window, newline=self.newline)

    def _best(self, size: tuple[int, int]) -> tuple[int, int]:
        """The canvas that keeps most pixels of the image; of those the one that wastes least of its own."""

        def kept_and_wasted(point: tuple[int, int]) -> tuple[int, int]:
            height, width = point
            scale = min(width / size[0], height / size[1])
            kept = min(int(size[0] * scale) * int(size[1] * scale), size[0] * size[1])
            return kept, kept - width * height

        height, width = max(self.pinpoints, key=kept_and_wasted)
        return width, height


@dataclass(frozen=True, slots=True, kw_only=True)
class Crops:
    """A canvas of `rows` x `columns` tiles for every image, which lies on it as it would on the model's square.

    Features follow tile by tile, in reading order; those of the canvas squashed to one tile come first, with
    `thumbnail`. Coordinates are fractions of the canvas.

    Raises:
        ConfigError: fewer than one row or column.
    Source: SPHINX (Lin et al. 2023, arXiv 2311.07575) reads 2 x 2 crops and the whole image.
    """

    black_bars: ClassVar[bool] = False
    joins: ClassVar[bool] = False
    by_rows: ClassVar[bool] = False
    newline: ClassVar[bool] = False
    # the members of AnyResolution, where they are documented

    rows: TileCount
    columns: TileCount
    thumbnail: bool = True

    @property
    def whole(self) -> Literal["image", "canvas"] | None:
        return "canvas" if self.thumbnail else None

    def check(self, side: int) -> None:
        """Any side will do."""

    def canvas(self, size: tuple[int, int], side: int, kind: PlacementKind) -> Placement:
        if kind == "crop":
            raise _crops("crops")
        canvas = (self.columns * side, self.rows * side)
        return fit(size, canvas) if kind == "pad" else resize(size, canvas)

    def frame(self, size: tuple[int, int], side: int, kind: PlacementKind) -> Placement:
        return self.canvas(size, side, kind)

    def layout(self, size: tuple[int, int], side: int, grid: int | None) -> TileLayout:
        return TileLayout(whole=self.thumbnail, rows=self.rows, columns=self.columns)


Tiling = AnyResolution | Crops
TILINGS: dict[str, type[Tiling]] = {"any_resolution": AnyResolution, "crops": Crops}
TilingConfig = Annotated[Mapping[str, Any], Reads("a tiling, dict(type=...)", lambda section: read_tiling(section))]


def read_tiling(section: Mapping[str, Any]) -> Tiling:
    """The tiling that `model_args.tiling` describes.

    Raises:
        ConfigError: an unknown type or setting, one that is missing, or a value out of range.
    """
    check(section, Mapping)
    given = dict(section)
    kind = given.pop("type", None)
    in_field("type", check, kind, Annotated[str, OneOf(tuple(TILINGS))])
    return read_section(given, TILINGS[kind])


class TiledPreprocessor:
    """Tiles of `side` x `side` pixels, each normalised as the encoder's image, see `SquarePreprocessor`.

    Of an image come float32 `pixels` [N, 3, side, side], N tiles with the whole image first, and `image_sizes`
    int64 [1, 2], from which the model knows how they lie. `tokens` and `grid` are features of one tile, and along it.
    """

    token = feature = IMAGE
    around = ("", "")
    fixed = False

    def __init__(
        self,
        *,
        tiling: Tiling,
        side: int,
        mean: Sequence[float],
        std: Sequence[float],
        tokens: int,
        grid: int | None,
        placement: PlacementKind = "pad",
    ) -> None:
        self.tiling = tiling
        self.side = side
        self.tokens = tokens
        self.grid = grid
        self.kind: PlacementKind = placement
        self.tile = SquarePreprocessor(size=side, mean=mean, std=std, tokens=tokens, placement="squash")
        self.bars = (0, 0, 0) if tiling.black_bars else self.tile.background
        self.placement((side, side))  # raises where the tiling has no such placement

    def placement(self, size: tuple[int, int]) -> Placement:
        return self.tiling.frame(size, self.side, self.kind)

    def layout(self, size: tuple[int, int]) -> TileLayout:
        """How the features of an image of `size` follow one another."""
        return self.tiling.layout(size, self.side, self.grid)

    def placeholder_tokens(self, size: tuple[int, int]) -> str:
        return self.token * self.layout(size).tokens(self.tokens)

    def __call__(self, image: Image.Image) -> dict[str, Tensor]:
        canvas = lay(image, self.tiling.canvas(image.size, self.side, self.kind), self.bars)
        whole = {"image": [image], "canvas": [canvas], None: []}[self.tiling.whole]
        corners = [(x, y) for y in range(0, canvas.height, self.side) for x in range(0, canvas.width, self.side)]
        tiles = [canvas.crop((x, y, x + self.side, y + self.side)) for x, y in corners]
        pixels = torch.cat([self.tile(tile)["pixels"] for tile in (*whole, *tiles)])
        return {"pixels": pixels, "image_sizes": torch.tensor([image.size])}

    def preview(self, image: Image.Image) -> Image.Image:
        """On the frame of its coordinates, as sharp as the tiles."""
        return lay(image, self.placement(image.size), self.bars)


def lay(image: Image.Image, placement: Placement, bars: tuple[int, ...]) -> Image.Image:
    """The canvas of a placement that shows the image whole."""
    scaled = (round(image.width * placement.scale[0]), round(image.height * placement.scale[1]))
    if scaled != image.size:
        image = image.resize((max(1, scaled[0]), max(1, scaled[1])), Image.Resampling.BICUBIC)
    if image.size == placement.canvas:
        return image
    canvas = Image.new("RGB", placement.canvas, bars)
    canvas.paste(image, (round(placement.offset[0]), round(placement.offset[1])))
    return canvas


def _unpadded(size: tuple[int, int], rows: int, columns: int) -> Window:
    """Rows and columns of features on a canvas that a padded image covers, as transformers' `unpad_image` rounds."""
    width, height = size
    if width / height > columns / rows:
        covered = int(round(height * (columns / width), 7))
        bar = (rows - covered) // 2
        return bar, rows - bar, 0, columns
    covered = int(round(width * (rows / height), 7))
    bar = (columns - covered) // 2
    return 0, rows, bar, columns - bar

"""Whether a processor puts an image where the family's `Placement` says: painted images go through it and are found.

Four images of a size are enough, whatever the processor does to colours and however it orders what it makes. Black and
white tell which numbers show the image at all, and what each makes of a brightness; two ramps, from left to right and
from top to bottom, tell which point of the image each number shows. No constant of the processor is needed.

Shape suffixes: N tiles or patches, H and W pixels of a tile, D numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mllm.errors import ImageError
from mllm.geometry import Placement, fit
from mllm.models.native.placing import Size

Numbers = NDArray[np.floating[Any]]
SIZES: tuple[Size, ...] = ((200, 100), (90, 210), (125, 118))
"""Of the painted images; up to 256 pixels a side, each column and row has a brightness of its own."""
TOLERANCE = 1.0
"""Pixels of the painted image by which a point may be off, beside three quarters of a pixel of the tile."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VisibleTensor:
    """Points of the painted image that the numbers of a tensor show, in its pixels; NaN where one shows none."""

    name: str
    x: Numbers
    y: Numbers

    @property
    def tiles(self) -> bool:
        """Whether it holds tiles [..., 3, H, W], not patches [..., N, D]: the channels of a pixel show one point."""
        shape = self.x.shape
        if len(shape) < 3 or shape[-3] != 3:
            return False
        apart = np.abs(self.x - self.x[..., :1, :, :]) + np.abs(self.y - self.y[..., :1, :, :])
        return not bool(np.nanmax(np.append(apart, 0)) > 2)


def misplaced(view: Any, size: Size) -> str | None:
    """How what the view makes of an image of `size` differs from its placement; None: it does not.

    Raises:
        ImageError: the view takes no image of this size.
    """
    placement = view.placement(size)
    found = list(visible_tensors(view, size))
    if not found:
        return "no number of its tensors shows the image"
    missing = {(column, row) for column, row in _cells_with_image(placement, found)}
    for one in found:
        wrong = (_check_tiles if one.tiles else _check_patches)(one, placement, missing)
        if wrong:
            return wrong
    if missing:
        return f"no tile shows cell {min(missing)} (column, row) of a canvas of {_by(placement.canvas)}"
    return None


def visible_tensors(view: object, size: Size) -> Iterator[VisibleTensor]:
    """The tensors of an image of `size` that show it."""
    made = [_made(view, image) for image in _paintings(size)]
    black, white, across, down = made
    for name in black:
        if len({one[name].shape for one in made}) > 1 or black[name].ndim < 2:
            continue
        range_ = white[name] - black[name]
        most = np.abs(range_).max(initial=0)
        if not most > 0:
            continue
        with np.errstate(divide="ignore", invalid="ignore"):
            shown = np.where(np.abs(range_) > 0.5 * most, 1 / range_, np.nan)
        x, y = ((one[name] - black[name]) * shown for one in (across, down))
        if x.ndim > 3 and x.shape[-1] == 3 != x.shape[-3]:  # channels last
            x, y = (np.moveaxis(axis, -1, -3) for axis in (x, y))
        yield VisibleTensor(name=name, x=x * (size[0] - 1) + 0.5, y=y * (size[1] - 1) + 0.5)


def _made(view: Any, image: Image.Image) -> Mapping[str, Numbers]:
    tensors = view.tensors(image)
    return {name: tensor.double().numpy() for name, tensor in tensors.items() if tensor.is_floating_point()}


def _paintings(size: Size) -> list[Image.Image]:
    """Black, white, a ramp from left to right, and one from top to bottom."""
    width, height = size
    across = np.broadcast_to(np.linspace(0, 255, width).round(), (height, width))
    down = np.broadcast_to(np.linspace(0, 255, height).round()[:, None], (height, width))
    grey = [np.zeros((height, width)), np.full((height, width), 255), across, down]
    return [Image.fromarray(one.astype(np.uint8)).convert("RGB") for one in grey]


def _tile_of(found: list[VisibleTensor], placement: Placement) -> Size:
    """Width and height of the cells that the canvas is cut into: of the largest tiles, else the whole canvas."""
    sides = [(one.x.shape[-1], one.x.shape[-2]) for one in found if one.tiles]
    return max(sides, default=placement.canvas)


def _cells_with_image(placement: Placement, found: list[VisibleTensor]) -> Iterator[tuple[int, int]]:
    """Columns and rows of the cells of the largest tiles in which at least two pixels of the image lie."""
    width, height = _tile_of(found, placement)
    if placement.canvas[0] % width or placement.canvas[1] % height:
        yield 0, 0
        return
    yield from _cells(placement, (width, height))


def _cells(placement: Placement, cell: tuple[float, float]) -> Iterator[tuple[int, int]]:
    """Columns and rows of the canvas' cells of this size in which at least two pixels of the image lie."""
    width, height = cell
    left, top = placement.forward(0, 0)
    right, bottom = placement.forward(*placement.source)
    for column in range(round(placement.canvas[0] / width)):
        for row in range(round(placement.canvas[1] / height)):
            across = min(right, (column + 1) * width) - max(left, column * width)
            down = min(bottom, (row + 1) * height) - max(top, row * height)
            if across >= 2 and down >= 2:
                yield column, row


def _check_tiles(one: VisibleTensor, placement: Placement, missing: set[tuple[int, int]]) -> str | None:
    """Each tile is a cell of the canvas, or all of it, or all of the image, stretched or, beside other tiles, padded;
    cells that were found leave `missing`.
    """
    height, width = one.x.shape[-2:]
    x_NHW, y_NHW = (axis.reshape(-1, 3, height, width).mean(1) for axis in (one.x, one.y))
    whole = (placement.canvas[0] % width, placement.canvas[1] % height) == (0, 0)
    scaled = (placement.canvas[0] / width, placement.canvas[1] / height)
    stretched = Placement(
        source=placement.source,
        canvas=(width, height),
        scale=(width / placement.source[0], height / placement.source[1]),
    )
    beside = [] if placement.canvas == (width, height) else [fit(placement.source, (width, height))]
    wholes = [
        _expected(placement, (0, 0), scaled, (width, height)),
        *(_expected(one, (0, 0), (1.0, 1.0), (width, height)) for one in (stretched, *beside)),
    ]
    for number, (x_HW, y_HW) in enumerate(zip(x_NHW, y_NHW, strict=True)):
        if np.isnan(x_HW).all():
            continue
        cell = _cell(placement, x_HW, y_HW)
        start = (cell[0] * width, cell[1] * height)
        on_canvas = start[0] in range(0, placement.canvas[0], width) and start[1] in range(
            0, placement.canvas[1], height
        )
        if whole and on_canvas and _same(_expected(placement, start, (1.0, 1.0), (width, height)), x_HW, y_HW):
            missing.discard(cell)
        elif not any(_same(expected, x_HW, y_HW) for expected in wholes):
            shown = (
                f"x {np.nanmin(x_HW):.0f} to {np.nanmax(x_HW):.0f}, y {np.nanmin(y_HW):.0f} to {np.nanmax(y_HW):.0f}"
            )
            return f"tile {number} of {one.name} [{width} x {height}] shows {shown} of the image, {_says(placement)}"
    return None


def _cell(placement: Placement, x_HW: Numbers, y_HW: Numbers) -> tuple[int, int]:
    """Column and row of the cell of the canvas in which the middle of what a tile shows lies."""
    height, width = x_HW.shape
    x, y = placement.forward(float(np.nanmean(x_HW)), float(np.nanmean(y_HW)))
    return int(x // width), int(y // height)


def _says(placement: Placement) -> str:
    left, top = placement.forward(0, 0)
    right, bottom = placement.forward(*placement.source)
    return (
        f"where the placement has the image at x {left:.0f} to {right:.0f}, y {top:.0f} to {bottom:.0f} of a canvas of "
        f"{_by(placement.canvas)}"
    )


def _by(size: Size) -> str:
    return f"{size[0]} x {size[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Expected:
    """Points of the image that a tile's columns and rows show, and how far off they may be."""

    x: Numbers
    y: Numbers
    size: Size
    tolerance: tuple[float, float]


def _expected(placement: Placement, start: tuple[int, int], step: tuple[float, float], tile: Size) -> Expected:
    """Of a window of the canvas that begins at `start`, a pixel of the tile for each `step` of it."""
    x = (start[0] + (np.arange(tile[0]) + 0.5) * step[0] - placement.offset[0]) / placement.scale[0]
    y = (start[1] + (np.arange(tile[1]) + 0.5) * step[1] - placement.offset[1]) / placement.scale[1]
    across, down = (each / scale for each, scale in zip(step, placement.scale, strict=True))
    return Expected(
        x=x,
        y=y,
        size=placement.source,
        tolerance=(TOLERANCE + 0.75 * across, TOLERANCE + 0.75 * down),
    )


def _same(expected: Expected, x_HW: Numbers, y_HW: Numbers) -> bool:
    """Whether a tile shows what is expected: the same points inside the image, and nothing outside it."""
    inside = [
        (points > 2 * margin) & (points < side - 2 * margin)
        for points, side, margin in zip((expected.x, expected.y), expected.size, expected.tolerance, strict=True)
    ]
    outside = [
        (points < -2 * margin) | (points > side + 2 * margin)
        for points, side, margin in zip((expected.x, expected.y), expected.size, expected.tolerance, strict=True)
    ]
    shown = inside[1][:, None] & inside[0][None]
    blank = outside[1][:, None] | outside[0][None]
    if not np.isnan(x_HW[blank]).all():
        return False
    off_x = np.abs(x_HW - expected.x[None])[shown]
    off_y = np.abs(y_HW - expected.y[:, None])[shown]
    return bool((off_x <= expected.tolerance[0]).all() and (off_y <= expected.tolerance[1]).all())


def _check_patches(one: VisibleTensor, placement: Placement, missing: set[tuple[int, int]]) -> str | None:
    """The rows of [..., N, D] are patches of the canvas, each once, in whatever order.

    Of several crops [C, N, D], each shows such patches, or all of the image in a square of them.
    """
    crops = one.x.ndim == 3 and len(one.x) > 1
    x_CND, y_CND = ((axis if crops else axis.reshape(1, -1, axis.shape[-1])) for axis in (one.x, one.y))
    live_CN = np.asarray(~np.isnan(x_CND).all(-1))
    wrong: list[str] = []
    for side in _sides(x_CND.shape, int(live_CN.sum()), placement.canvas):
        covered: set[tuple[int, int]] = set()
        for x_ND, y_ND, live_N in zip(x_CND, y_CND, live_CN, strict=True):
            found = _patches(x_ND[live_N], y_ND[live_N], placement, side)
            if found is None and crops and _is_whole(x_ND, y_ND, placement.source):
                continue
            if found is None:
                x_N, y_N = np.nanmean(x_ND[live_N], 1), np.nanmean(y_ND[live_N], 1)
                columns, rows = (round(edge / side) for edge in placement.canvas)
                wrong.append(
                    f"the {len(x_N)} patches of {one.name} show x {x_N.min():.0f} to {x_N.max():.0f}, y "
                    f"{y_N.min():.0f} to {y_N.max():.0f} of the image, not the grid of {columns} x {rows} "
                    f"{_says(placement)}"
                )
                break
            covered |= found
        else:
            lacking = set(_cells(placement, (side, side))) - covered
            if not lacking:
                missing.clear()
                return None
            wrong.append(f"no patch of {one.name} shows cell {min(lacking)} (column, row), {_says(placement)}")
    count = f"{one.name} has {int(live_CN.sum())} patches, {_says(placement)}, which is no whole number of them"
    return wrong[0] if wrong else count


def _sides(shape: tuple[int, ...], live: int, canvas: Size) -> Iterator[float]:
    """Pixels a side that a patch may have: of all that show the image, or of all; of crops, by its numbers."""
    crops, patches, numbers = shape
    areas = [numbers / 3] if crops > 1 else [canvas[0] * canvas[1] / count for count in dict.fromkeys((live, patches))]
    for side in (area**0.5 for area in areas):
        if all(abs(edge / side - round(edge / side)) <= 0.01 for edge in canvas):
            yield side


def _patches(x_ND: Numbers, y_ND: Numbers, placement: Placement, side: float) -> set[tuple[int, int]] | None:
    """Columns and rows of the canvas' cells that patches show, each once; None: they lie elsewhere.

    Patches that the image fills have their middle in that of their cell, others theirs anywhere in it.
    """
    if not len(x_ND):
        return set()
    full_N = ~np.isnan(x_ND).any(1)
    found: list[NDArray[np.int_]] = []
    for axis, points_ND in enumerate((x_ND, y_ND)):
        middle_N = (np.nanmean(points_ND, 1) * placement.scale[axis] + placement.offset[axis]) / side
        cell_N = np.where(full_N, (middle_N - 0.5).round(), np.floor(middle_N)).astype(int)
        if (np.abs(middle_N - 0.5 - cell_N)[full_N] > 0.35).any():
            return None
        if (cell_N < 0).any() or (cell_N >= round(placement.canvas[axis] / side)).any():
            return None
        found.append(cell_N)
    cells = set(zip(*(cells.tolist() for cells in found), strict=True))
    return cells if len(cells) == len(x_ND) else None


def _is_whole(x_ND: Numbers, y_ND: Numbers, size: Size) -> bool:
    """Whether these patches are a square that shows all of the image."""
    side = round(len(x_ND) ** 0.5)
    whole = Placement(source=size, canvas=(side, side), scale=(side / size[0], side / size[1]))
    found = _patches(x_ND, y_ND, whole, 1)
    return found is not None and len(found) == side**2


def check_placements(view: object, sizes: tuple[Size, ...] = SIZES) -> str | None:
    """The first of these sizes whose image does not lie where the placement says, and how; None: all do."""
    for size in sizes:
        try:
            wrong = misplaced(view, size)
        except ImageError:
            continue  # a size that it refuses is never seen
        if wrong:
            return f"an image of {_by(size)}: {wrong}"
    return None

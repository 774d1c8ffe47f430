"""Which tokens of packed rows see one another: every sample sees itself and the beginnings it may share with others.

A row holds segments. One may continue another, its parent, and that a third: a token sees all that its segment
continues, and its segment up to itself.

Shape suffixes: B rows, T tokens, S tokens of a segment, K tokens that it sees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask


@dataclass(frozen=True, slots=True)
class Span:
    """`length` tokens of a row; each sees those before it, and all of the row's spans that these continue."""

    length: int
    ancestors: tuple[int, ...] = ()
    """Their numbers, the root first."""
    bidirectional: bool = False
    """Each sees all of its span, whatever the window."""


class PackedAttentionMask:
    """The segments of packed rows; handed through the language model to the attention of each layer.

    No dataclass: FSDP makes copies of those that a module is given, and what one layer notes would be lost.

    Args:
        segment_ids_BT: the sample, or the shared beginning, that a token belongs to; -1 padding, at the end of a row.
        prefix_ids_BT: the segment that this one continues, which comes before it in the row; -1 none.
        bidirectional_BT: bool, whether tokens see all of their segment, whatever the window; None: no.
        only_in_windows: whether they do so only in layers that have a window (Gemma 4).
    """

    def __init__(
        self,
        segment_ids_BT: Tensor,
        prefix_ids_BT: Tensor,
        bidirectional_BT: Tensor | None = None,
        *,
        only_in_windows: bool = False,
    ) -> None:
        self.only_in_windows = only_in_windows
        self.segment_ids_BT = segment_ids_BT
        self.prefix_ids_BT = prefix_ids_BT
        if bidirectional_BT is None:
            bidirectional_BT = torch.zeros_like(segment_ids_BT, dtype=torch.bool)
        self.bidirectional_BT = bidirectional_BT
        self.over_masks = False
        """Whether a mask that a layer brings beside these says nothing more, and need not be read."""
        self.read = False
        """Whether an attention has looked: a language model that drops it would mix samples."""
        self._masks: dict[tuple[int, int, int | None, bool], Tensor] = {}
        self._block_masks: dict[int | None, BlockMask] = {}

    @property
    def device(self) -> torch.device:
        return self.segment_ids_BT.device

    @cached_property
    def rows(self) -> list[list[Span]]:
        ids = (tensor.tolist() for tensor in (self.segment_ids_BT, self.prefix_ids_BT, self.bidirectional_BT))
        return [list(_row(*row)) for row in zip(*ids, strict=True)]

    def mask(self, seeing: int, seen: int, window: int | None, bidirectional: bool = False) -> Tensor:
        """bool [S, K]: the last `seeing` of `seen` tokens see those up to themselves, at most `window` of them;
        `bidirectional`: and one another.
        """
        key = (seeing, seen, window, bidirectional)
        if key not in self._masks:
            distance = torch.arange(seen - seeing, seen, device=self.device)[:, None] - torch.arange(
                seen, device=self.device
            )
            mask = (distance >= 0) & (distance < (seen if window is None else window))
            if bidirectional:
                mask[:, seen - seeing :] = True
            self._masks[key] = mask
        return self._masks[key]

    def block_mask(self, window: int | None) -> BlockMask:
        """The same for all rows at once. Padding sees padding, so that no token is without any."""
        if window not in self._block_masks:
            rows, tokens = self.segment_ids_BT.shape
            make = _compiled_block_mask() if self.device.type == "cuda" else create_block_mask
            self._block_masks[window] = make(self._sees(window), rows, None, tokens, tokens, device=self.device)
        return self._block_masks[window]

    def _sees(self, window: int | None) -> Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]:
        (enter_BT, leave_BT), bidirectional_BT = self.tour, self.bidirectional_BT

        def before(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
            now = enter_BT[row, query]
            return (key <= query) & (enter_BT[row, key] <= now) & (now < leave_BT[row, key])

        def together(row: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return (enter_BT[row, key] == enter_BT[row, query]) & bidirectional_BT[row, query]

        def sees_before(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return before(row, query, key)

        def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            return before(row, query, key) | together(row, query, key)

        if window is None:
            return sees_before if self.only_in_windows else sees
        place_BT = self.places

        def sees_near(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
            near = place_BT[row, query] - place_BT[row, key] < window
            return (before(row, query, key) & near) | together(row, query, key)

        return sees_near

    @cached_property
    def places(self) -> Tensor:
        """int64 [B, T]: how many tokens come before each, of its own segment and those it continues; 0 for padding."""
        place_BT = torch.zeros_like(self.segment_ids_BT, device="cpu")
        for row, spans in enumerate(self.rows):
            start = 0
            for span in spans:
                before = sum(spans[number].length for number in span.ancestors)
                place_BT[row, start : start + span.length] = torch.arange(before, before + span.length)
                start += span.length
        return place_BT.to(self.device)

    @cached_property
    def tour(self) -> tuple[Tensor, Tensor]:
        """When a walk through the trees of a row, depth first, enters the segment of a token, and when it has left it.

        Both int64 [B, T]. A segment continues those that the walk is still in when it enters it.
        """
        enter_BT, leave_BT = (torch.empty_like(self.segment_ids_BT, device="cpu") for _ in range(2))
        for row, spans in enumerate(self.rows):
            enter_BT[row], leave_BT[row] = len(spans), len(spans) + 1  # padding is a segment of its own
            sizes = torch.tensor([span.length for span in spans], dtype=torch.long)
            for times_T, times in zip((enter_BT[row], leave_BT[row]), _tour(spans), strict=True):
                times_T[: int(sizes.sum())] = torch.tensor(times, dtype=torch.long).repeat_interleave(sizes)
        return enter_BT.to(self.device), leave_BT.to(self.device)


@cache
def _compiled_block_mask() -> Any:
    """Compiled, it never holds the mask of all pairs of tokens."""
    return torch.compile(create_block_mask)


def _row(segments: list[int], prefixes: list[int], bidirectional: list[bool]) -> Iterator[Span]:
    lines: dict[int, tuple[int, ...]] = {}  # of each segment so far: its ancestors and itself
    start = 0
    while start < len(segments) and segments[start] >= 0:
        stop = start
        while stop < len(segments) and segments[stop] == segments[start]:
            stop += 1
        ancestors = lines.get(prefixes[start], ())
        yield Span(stop - start, ancestors, bidirectional[start])
        lines[segments[start]] = (*ancestors, len(lines))
        start = stop


def _tour(spans: Sequence[Span]) -> tuple[list[int], list[int]]:
    """When each span is entered and left by a walk through all trees, in numbers of spans entered before."""
    held = [1] * len(spans)  # spans of the tree below each
    for number, span in reversed(list(enumerate(spans))):
        if span.ancestors:
            held[span.ancestors[-1]] += held[number]
    enter: list[int] = []
    free: dict[int | None, int] = {}  # when the next branch of a span is entered
    for number, span in enumerate(spans):
        parent = span.ancestors[-1] if span.ancestors else None
        enter.append(free.get(parent, 0))
        free[parent] = enter[number] + held[number]
        free[number] = enter[number] + 1
    return enter, [start + size for start, size in zip(enter, held, strict=True)]

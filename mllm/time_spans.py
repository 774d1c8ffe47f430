"""Time spans of a video, the third kind of region beside boxes and points."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from mllm.errors import DataError


@dataclass(frozen=True, slots=True, kw_only=True)
class TimeSpan:
    """An interval of a video in seconds from its beginning, 0 <= start <= end."""

    start: float
    end: float

    def __post_init__(self) -> None:
        found = f"[{self.start:.10g}, {self.end:.10g}]"
        if not (math.isfinite(self.start) and math.isfinite(self.end)):
            raise DataError(expected="two finite numbers", found=found, kind="not-finite")
        if not 0 <= self.start <= self.end:
            raise DataError(expected="seconds with 0 <= start <= end", found=found, kind="coordinates")


def temporal_iou(found: Iterable[TimeSpan], true: Iterable[TimeSpan]) -> float:
    """Seconds in both over seconds in either, in [0, 1]; several spans count as their union.

    Of one span each it is the IoU of Charades-STA and ActivityNet Captions; 0 where neither lasts.

    Source: Gao et al. 2017 (TALL, arXiv 1705.02101), section 4.1.
    """
    a, b = _merged(found), _merged(true)
    shared = sum(max(0.0, min(x.end, y.end) - max(x.start, y.start)) for x in a for y in b)
    whole = sum(span.end - span.start for span in (*a, *b)) - shared
    return shared / whole if whole > 0 else 0.0


def _merged(spans: Iterable[TimeSpan]) -> Sequence[TimeSpan]:
    """The same spans without overlaps."""
    merged: list[TimeSpan] = []
    for span in sorted(spans, key=lambda each: each.start):
        if merged and span.start <= merged[-1].end:
            merged[-1] = TimeSpan(start=merged[-1].start, end=max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return merged

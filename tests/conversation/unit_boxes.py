"""Boxes in the unit square, for codecs that are compared with the processor of transformers."""

from __future__ import annotations

from hypothesis import strategies as st

# nearer to 0, the ceil(32 x - 1) of Kosmos-2's own processor slips
unit = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
SIZE = (1000, 1000)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes with an area: Kosmos-2's own processor takes no others."""
    (x1, x2), (y1, y2) = (sorted(draw(st.lists(unit, min_size=2, max_size=2, unique=True))) for _ in range(2))
    return x1, y1, x2, y2

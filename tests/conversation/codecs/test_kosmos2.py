"""Numbers equal to those of the processor that transformers holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.kosmos2 import processing_kosmos2 as kosmos2

from mllm.registry import CODECS

# nearer to 0, the ceil(32 x - 1) of Kosmos-2's own processor slips
unit = st.integers(0, 10**6).map(lambda millionths: millionths / 10**6)
SIZE = (1000, 1000)


@st.composite
def boxes(draw: st.DrawFn) -> tuple[float, float, float, float]:
    """Boxes with an area: Kosmos-2's own processor takes no others."""
    (x1, x2), (y1, y2) = (sorted(draw(st.lists(unit, min_size=2, max_size=2, unique=True))) for _ in range(2))
    return x1, y1, x2, y2


@given(box=boxes())
def test_kosmos2_names_and_reads_the_same_cells(box: tuple[float, float, float, float]) -> None:
    codec = CODECS.make("kosmos2")
    text = codec.write_boxes([box], SIZE)
    first, last = kosmos2.coordinate_to_patch_index(box, 32)
    assert text == f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"
    (reading,) = codec.read(text, SIZE)
    assert reading.boxes[0] == pytest.approx(kosmos2.patch_index_to_coordinate(first, last, 32))

"""Numbers equal to those of the processor that transformers holds."""

from __future__ import annotations

import pytest
from hypothesis import given
from transformers.models.kosmos2 import processing_kosmos2 as kosmos2

from mllm.registry import CODECS
from tests.conversation.unit_boxes import SIZE, boxes


@given(box=boxes())
def test_kosmos2_names_and_reads_the_same_cells(box: tuple[float, float, float, float]) -> None:
    codec = CODECS.make("kosmos2")
    text = codec.write_boxes([box], SIZE)
    first, last = kosmos2.coordinate_to_patch_index(box, 32)
    assert text == f"<object><patch_index_{first:04d}><patch_index_{last:04d}></object>"
    (reading,) = codec.read(text, SIZE)
    assert reading.boxes[0] == pytest.approx(kosmos2.patch_index_to_coordinate(first, last, 32))

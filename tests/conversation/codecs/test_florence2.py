"""Numbers equal to those of the processor that transformers holds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from transformers.models.florence2.processing_florence2 import Florence2PostProcessor

from mllm.registry import CODECS
from tests.conversation.unit_boxes import SIZE, boxes


@given(box=boxes())
def test_florence2_names_and_reads_the_same_bins(box: tuple[float, float, float, float]) -> None:
    codec = CODECS.make("florence2")
    reference = Florence2PostProcessor.__new__(Florence2PostProcessor)  # its tokenizer is not needed here
    reference.quantize_bins = (1000, 1000)
    bins = reference.quantize(torch.tensor([box], dtype=torch.float64) * 1000, size=(1000, 1000))
    text = codec.write_boxes([box], SIZE)
    assert text == "".join(f"<loc_{number}>" for number in bins[0].tolist())
    pixels = reference.dequantize(bins, size=(10**6, 10**6))[0].tolist()
    (reading,) = codec.read(text, SIZE)
    assert [value * 10**6 for value in reading.boxes[0]] == pytest.approx(pixels, abs=1)

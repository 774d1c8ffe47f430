"""Rows of prompt and answer, cut in two."""

import torch

from mllm.models.encoder_decoder import compact


def test_compact_moves_what_is_kept_to_the_left() -> None:
    values = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8], [1, 1, 1, 1]])
    kept = torch.tensor([[0, 1, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]]).bool()
    found, mask = compact(values, kept, -1)
    assert found.tolist() == [[2, 4], [7, -1], [-1, -1]]
    assert mask.tolist() == [[1, 1], [1, 0], [0, 0]]

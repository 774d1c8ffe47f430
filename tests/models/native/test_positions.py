"""Positions and masks of packed rows."""

from __future__ import annotations

from pathlib import Path

import torch

from mllm.models.native.positions import pieces_of
from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


def test_images_are_pieces_between_those_of_the_text() -> None:
    segment_BT = torch.tensor([[0, 0, 0, 0, 1, 1, 2, 2, 2, -1]])
    prefix_BT = torch.tensor([[-1, -1, -1, -1, 0, 0, -1, -1, -1, -1]])
    image_BT = torch.tensor([[0, 1, 1, 0, 0, 0, 1, 0, 1, 0]]).bool()
    piece_BT, parent_BT = pieces_of(segment_BT, prefix_BT, image_BT)
    assert piece_BT.tolist() == [[0, 1, 1, 2, 3, 3, 4, 5, 6, -1]]
    assert parent_BT.tolist() == [[-1, 0, 0, 1, 2, 2, -1, 4, 5, -1]]


def test_thinkers_count_outside_their_text_model(tmp_path: Path) -> None:
    Checked(save_stand_in("qwen3_omni_moe_thinker", tmp_path)).learns_the_same(packing="shared")

"""Images beside their rows: for models whose text attends to images, which are not among its tokens.

Shape suffixes: B rows, T tokens, S image slots of the whole batch, M images of the row that has most.
"""

from __future__ import annotations

import torch
from torch import Tensor


def pad_by_row(tensor_S: Tensor, count_B: Tensor) -> Tensor:
    """[S, 1, ...], an image each, in the order of the rows -> [B, M, ...]; zeros where a row has fewer."""
    rows = tensor_S.flatten(0, 1).split(count_B.tolist())
    found = tensor_S.new_zeros(len(rows), max(int(count_B.max()), 1), *tensor_S.shape[2:])
    for number, row in enumerate(rows):
        found[number, : len(row)] = row
    return found


def latest(marks_BT: Tensor) -> Tensor:
    """The number of the last image at or before each token, int64 [B, T]; -1 before the first.

    Args:
        marks_BT: bool, where an image stands.
    """
    return marks_BT.long().cumsum(1) - 1


def sees_latest(marks_BT: Tensor) -> Tensor:
    """Each token sees the last image before it, bool [B, T, M]."""
    return latest(marks_BT)[..., None] == _numbers(marks_BT)


def sees_group(marks_BT: Tensor) -> Tensor:
    """Each token sees the last images before it that stand side by side, bool [B, T, M]."""
    latest_BT = latest(marks_BT)
    begins_BT = marks_BT & ~torch.nn.functional.pad(marks_BT[:, :-1], (1, 0))
    group_BT = begins_BT.long().cumsum(1)
    number_M = _numbers(marks_BT)
    group_BM = torch.full((len(marks_BT), len(number_M)), -1, device=marks_BT.device)
    rows, columns = marks_BT.nonzero(as_tuple=True)
    group_BM[rows, latest_BT[rows, columns]] = group_BT[rows, columns]
    return (number_M <= latest_BT[..., None]) & (group_BM[:, None] == group_BT[..., None])


def _numbers(marks_BT: Tensor) -> Tensor:
    return torch.arange(max(int(marks_BT.sum(1).max()), 1), device=marks_BT.device)

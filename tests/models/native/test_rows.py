"""Images beside their rows: who sees which, as transformers' processors say it."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.models.idefics.processing_idefics import image_attention_mask_for_packed_input_ids_pt
from transformers.models.mllama import processing_mllama as mllama

from mllm.models.native.rows import pad_by_row, sees_group, sees_latest

IMAGE = 7
rows = st.lists(st.lists(st.sampled_from([1, IMAGE]), min_size=6, max_size=6), min_size=1, max_size=3)


@given(rows)
def test_a_group_is_seen_as_mllama_masks_it(ids: list[list[int]]) -> None:
    sparse = [mllama.get_cross_attention_token_mask(row, IMAGE) for row in ids]
    counts = [[1] * len(row) for row in sparse]
    if not any(counts):
        return
    dense = mllama.convert_sparse_cross_attention_mask_to_dense(sparse, counts, 1, 6)
    assert sees_group(torch.tensor(ids) == IMAGE).long().tolist() == dense[..., 0].tolist()


@given(rows)
def test_the_latest_is_seen_as_idefics_masks_it(ids: list[list[int]]) -> None:
    class Tokenizer:
        eos_token_id = 2

        def convert_tokens_to_ids(self, token: str) -> int:
            return IMAGE

    numbers, _ = image_attention_mask_for_packed_input_ids_pt(torch.tensor(ids), Tokenizer())
    found = sees_latest(torch.tensor(ids) == IMAGE)
    assert torch.where(found.any(-1), found.long().argmax(-1), -1).tolist() == numbers.tolist()


def test_images_are_put_beside_their_rows() -> None:
    images = torch.arange(1, 7.0).reshape(3, 1, 2)
    found = pad_by_row(images, torch.tensor([2, 0, 1]))
    assert found.tolist() == [[[1, 2], [3, 4]], [[0, 0], [0, 0]], [[5, 6], [0, 0]]]
    assert pad_by_row(images[:0], torch.tensor([0])).tolist() == [[[0, 0]]]

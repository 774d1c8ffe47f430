"""Images that several rows of a batch show are encoded once, whatever name their features have."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from mllm.models.native.once import PIXELS, encoded_once
from tests.models.tiny_hf import batch_of, build
from tools.native.check import item
from tools.native.stand_ins import save_stand_in


class Unpooled(torch.nn.Module):
    """As Llama 4: what its tower gives is in `last_hidden_state`, three features for an image."""

    kept = None
    family = SimpleNamespace(join=lambda images: {PIXELS: torch.cat([image[PIXELS] for image in images])})

    def get_image_features(self, pixel_values: Tensor, *, return_dict: bool) -> SimpleNamespace:
        return SimpleNamespace(last_hidden_state=pixel_values[:, :3])


def test_features_without_a_pooled_output_are_handed_out_under_their_own_name() -> None:
    images = [{PIXELS: torch.rand(count, 4)} for count in (1, 2)]
    found = encoded_once(Unpooled(), images, [1, 0, 1])
    assert found is not None
    expected = torch.cat([images[number][PIXELS][:, :3] for number in (1, 0, 1)])
    assert torch.equal(found["image"].last_hidden_state, expected)
    assert found["image"].pooler_output is None


@pytest.fixture(scope="module")
def ovis2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(save_stand_in("ovis2", tmp_path_factory.mktemp("ovis2")))


@torch.no_grad()
def test_ovis2_reads_an_image_that_two_rows_show_as_one_by_one(ovis2: str) -> None:
    model, processor = build(ovis2)
    one, other = item("a", (80, 48)), item("b", (48, 100), seed=1)
    items = [one, other, one]
    together = model(**batch_of(processor, items), return_logits=True).logits
    for row, one in zip(together, items, strict=True):
        alone = model(**batch_of(processor, [one]), return_logits=True).logits[0]
        torch.testing.assert_close(row[: len(alone)], alone, atol=1e-4, rtol=1e-4)

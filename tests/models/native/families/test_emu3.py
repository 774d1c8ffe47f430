"""Emu 3: an image means the same beside larger ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from tools.native.check import Checked
from tools.native.stand_ins import save_stand_in


def test_prompt_and_logits_are_the_models_own_and_images_are_encoded_at_their_own_size(tmp_path: Path) -> None:
    checked = Checked(save_stand_in("emu3", tmp_path))
    model, processor = checked.built
    checked.same_logits(model, processor, checked.items[0])
    view: Any = processor.view
    images = [view.tensors(item.images[0].open()) for item in checked.items]
    together = model.family.features(model, model.family.join(images))
    apart = [model.family.features(model, model.family.join([image]))[0] for image in images]
    assert len(together) == len(apart) == 2
    for found, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(found, expected)

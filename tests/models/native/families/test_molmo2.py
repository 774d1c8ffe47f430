"""Molmo 2, whose image processor wants torchvision: crops lie where the placement says, prompts begin as its processor
begins them, and each image of a batch has its own patches."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mllm.conversation.collator import Collator
from mllm.errors import ModelError
from tools.native.check import Checked, item
from tools.native.stand_ins import save_stand_in

pytest.importorskip("torchvision")


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return Checked(save_stand_in("molmo2", tmp_path_factory.mktemp("molmo2")))


def test_prompt_logits_and_answers_are_the_models_own(checked: Checked) -> None:
    _, processor = checked.built
    tokenizer: Any = processor.tokenizer
    assert tokenizer.chat_template.startswith("<s>")
    checked.several_images()
    checked.evaluates()


def test_packed_rows_learn_what_separate_ones_do_of_an_image_each(checked: Checked) -> None:
    checked.learns_the_same(packing="shared")
    model, processor = checked.built
    beside = item("a", (80, 48), (48, 100), points=True)
    question, answer = beside.turns
    apart = replace(beside, turns=(replace(question, text="<image> and <image>\nWhere is it?"), answer))
    batch: Any = Collator(pad_token_id=2, packing="rows")([processor.encode(apart, 0)])
    with pytest.raises(ModelError, match="the images of a sample see one another in molmo2"):
        model(**{name: batch[name] for name in batch if name not in ("index", "label_sources")})

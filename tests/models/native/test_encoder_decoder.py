"""Florence-2 and its kin: the encoder reads image and prompt, the decoder answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForImageTextToText

from mllm.errors import ModelError
from mllm.models.native import self_check
from tools.native.check import NEW, Checked, batch_of
from tools.native.stand_ins import save_stand_in


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Checked:
    return Checked(save_stand_in("florence2", tmp_path_factory.mktemp("florence2")))


def answered(checked: Checked, text: str) -> dict[str, Any]:
    """What Florence-2's own class is trained on: its processor's prompt, the answer's ids behind `<s>`."""
    _, processor = checked.built
    ids = processor.tokenizer(f"<s>{text}</s>", add_special_tokens=False, return_tensors="pt")["input_ids"]
    return {**checked.inputs(processor, checked.items[0]), "labels": ids}


def test_loss_and_logits_are_those_of_its_own_class(checked: Checked) -> None:
    model, processor = checked.built
    batch = batch_of(processor, checked.items)
    text = "Answer: <loc_250><loc_250><loc_500><loc_500> ."
    wanted = checked.own(**answered(checked, text))
    found = model(**batch_of(processor, checked.items[:1]), return_logits=True)
    torch.testing.assert_close(found.logits, wanted.logits)
    torch.testing.assert_close(found.loss, wanted.loss)
    apart = [model(**batch_of(processor, [one]), num_items_in_batch=1).loss for one in checked.items]
    torch.testing.assert_close(model(**batch, num_items_in_batch=1).loss, sum(apart))


def test_answers_of_a_batch_are_those_of_its_own_class(checked: Checked) -> None:
    checked.evaluates()
    model, processor = checked.built
    beams = {**NEW, "num_beams": 2}
    inputs = checked.inputs(processor, checked.items[0])
    found = model.generate(**batch_of(processor, checked.items[:1], answer=False), **beams)
    assert found.tolist() == checked.own.generate(**inputs, **beams)[:, 1:].tolist()


def test_an_answer_is_read_without_the_token_that_begins_it(checked: Checked) -> None:
    _, processor = checked.built
    ids = processor.tokenizer("<s>a dog<loc_250><loc_250><loc_499><loc_499></s>", add_special_tokens=False)["input_ids"]
    found = processor.decode(ids, checked.items[0], 0)
    assert found.text == "a dog<loc_250><loc_250><loc_499><loc_499>"
    assert found.boxes[0].xyxy == pytest.approx((20.04, 12.024, 39.96, 23.976))  # middles of bins of 80 x 48 pixels


def test_its_self_check_passes(checked: Checked) -> None:
    model, processor = checked.built
    found = {
        check.name: check.outcome
        for check in (*self_check.check_files(processor), *self_check.check_model(model, processor))
    }
    assert found == {
        **dict.fromkeys(("placement", "token count by size", "prompt ids", "a feature for each token"), "pass"),
        **dict.fromkeys(("the model's own inputs", "a batch is its samples", "answers in a batch"), "pass"),
        "prompts begin the training ids": "not applicable",  # of two rounds
        "two images in a prompt": "not applicable",
        **dict.fromkeys(("packed rows", "rows that share an image", "answers that share an image"), "not applicable"),
    }


def test_what_it_cannot_is_one_line(checked: Checked) -> None:
    model, processor = checked.built
    with pytest.raises(ModelError, match="an encoder-decoder model cannot pack"):
        model.check_packing()
    with pytest.raises(ModelError, match="its encoder reads each prompt by itself"):
        model.check_sharing()
    batch = batch_of(processor, checked.items[:1])
    with pytest.raises(ModelError, match="writes one answer per row"):
        model(**{**batch, "labels": batch["labels"].roll(-3, 1)})


def test_a_saved_folder_is_transformers_own(checked: Checked, tmp_path: Path) -> None:
    model, processor = checked.built
    model.save_pretrained(tmp_path)
    theirs: Any = AutoModelForImageTextToText.from_pretrained(tmp_path).eval()
    inputs = checked.inputs(processor, checked.items[0])
    with torch.no_grad():
        torch.testing.assert_close(theirs(**inputs).logits, checked.own(**inputs).logits)

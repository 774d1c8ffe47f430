"""The head runs on labelled positions only; loss and gradients are those of the full logits."""

import pytest
import torch
from torch.nn.functional import cross_entropy

from tests.models.tiny import TEXT, gradients, make, make_batch


def of_full_logits(model, batch) -> torch.Tensor:
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs).logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), batch["labels"][:, 1:].flatten())


@pytest.mark.parametrize("text", TEXT)
def test_equals_the_loss_of_the_full_logits(text):
    model = make(text=text)
    batch = make_batch(model)
    model(**batch).loss.backward()
    found = gradients(model)
    model.zero_grad()
    expected = of_full_logits(model, batch)
    expected.backward()
    torch.testing.assert_close(model(**batch).loss, expected, rtol=1e-5, atol=1e-5)
    wanted = gradients(model)
    assert found.keys() == wanted.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, wanted[name], rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.parametrize("text", ["gemma2", "cohere", "granite"])
def test_the_language_models_own_loss_is_the_same(text):
    """Its own forward applies the soft cap or the scale that comes after its head."""
    model = make(text=text)
    batch = make_batch(model)
    embeds = model.embed(batch["input_ids"], batch["pixels"], batch["image_index"])
    own = model.language_model(inputs_embeds=embeds, attention_mask=batch["attention_mask"], labels=batch["labels"])
    torch.testing.assert_close(model(**batch).loss, own.loss, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(model(**batch, return_logits=True).logits, own.logits, rtol=1e-5, atol=1e-5)


def test_only_labelled_positions_reach_the_head():
    model = make()
    rows = []
    model.language_model.lm_head.register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0].shape))
    model(**make_batch(model))
    assert rows == [(7, 16)]


def test_divides_by_the_items_of_the_whole_step():
    model = make()
    batch = make_batch(model)
    mean = model(**batch).loss
    torch.testing.assert_close(model(**batch, num_items_in_batch=torch.tensor(14)).loss, mean / 2)
    torch.testing.assert_close(model(**batch, num_items_in_batch=14).loss, mean / 2)


@pytest.mark.parametrize("return_logits", [False, True])
def test_nothing_labelled_is_a_loss_of_zero(return_logits):
    model = make()
    batch = make_batch(model)
    batch["labels"][:] = -100
    loss = model(**batch, return_logits=return_logits).loss
    loss.backward()
    assert loss.item() == 0
    found = gradients(model)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert not any(gradient.any() for gradient in found.values())


@pytest.mark.parametrize("text", ["llama", "gpt_neox", "gemma2"])
def test_rows_packed_by_position_do_not_see_one_another(text):
    model = make(text=text)
    batch = make_batch(model)
    lengths = batch["attention_mask"].sum(1).tolist()

    def packed(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([row[:length] for row, length in zip(rows, lengths, strict=True)])[None]

    together = model(
        input_ids=packed(batch["input_ids"]),
        labels=packed(batch["labels"]),
        position_ids=torch.cat([torch.arange(length) for length in lengths])[None],
        pixels=batch["pixels"],
        image_index=batch["image_index"],
    )
    torch.testing.assert_close(together.loss, model(**batch).loss, rtol=1e-5, atol=1e-5)

"""What every model does: it learns, is saved, comes back and answers."""

from __future__ import annotations

import torch

from mllm.models.llava.transformers_layout import load_llava
from tests.models.tiny import gradients, make_batch, prompts


def learns_is_saved_and_answers(tmp_path, model):
    model.train()
    batch = make_batch(model)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=0.00001)  # a longer step may choose other experts
    before = model(**batch).loss
    before.backward()
    found = gradients(model)
    assert found.keys() == {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(found[name].any() for name in found if name.startswith(("connector.", "mosaic.")))
    optimizer.step()
    assert model(**batch).loss < before
    model.eval().save_pretrained(tmp_path)
    again = load_llava(str(tmp_path))
    assert (again.config.connector, again.config.tiling) == (model.config.connector, model.config.tiling)
    assert again.tiling == model.tiling
    inputs = prompts(batch)
    torch.testing.assert_close(again(**inputs).logits, model(**inputs).logits, rtol=0, atol=0)
    settings = {"max_new_tokens": 2, "do_sample": False, "eos_token_id": None, "pad_token_id": 3}
    answers = again.generate(**inputs, **settings)
    assert answers.shape == (2, 2)
    assert answers.tolist() == model.generate(**inputs, **settings).tolist()

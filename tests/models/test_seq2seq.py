"""Text to text: the rows of every model here, read by transformers' encoder and decoder."""

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM

from mllm.errors import ConfigError, ModelError
from mllm.models.adapters.injection import inject_adapters, load_adapted, merge, save_adapted
from mllm.models.adapters.settings import read_adapters
from mllm.models.runtime import loss
from tests.models.tiny import TEXT, gradients, make_tokenizer
from tests.models.tiny_seq2seq import FAMILIES, IDS, LABELS, MASK, ROWS, make


@pytest.mark.parametrize("family", FAMILIES)
def test_loss_and_answers_are_those_of_transformers(family) -> None:
    model = make(family)
    inner = model.language_model
    sums = [
        inner(input_ids=torch.tensor([[5, 6, 7, 8, 2]]), labels=torch.tensor([[9, 10, 2]])).loss * 3,
        inner(input_ids=torch.tensor([[11, 12, 2]]), labels=torch.tensor([[13, 2]])).loss * 2,
    ]
    torch.testing.assert_close(model(**ROWS).loss, sum(sums) / 5)
    torch.testing.assert_close(model(**ROWS, num_items_in_batch=10).loss, sum(sums) / 10)
    arguments = {"max_new_tokens": 5, "min_new_tokens": 5, "num_beams": 2}
    alone = [inner.generate(torch.tensor([row]), **arguments)[0, 1:] for row in ([5, 6, 7, 8, 2], [11, 12, 2])]
    # prompts come padded on the left
    prompts = {"input_ids": torch.tensor([[5, 6, 7, 8, 2], [3, 3, 11, 12, 2]])}
    mask = torch.tensor([[1] * 5, [0, 0, 1, 1, 1]])
    assert model.generate(**prompts, attention_mask=mask, **arguments).tolist() == torch.stack(alone).tolist()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_head_that_runs_in_pieces_gives_the_same_loss_and_gradients(family, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(family)
    head, rows = model.language_model.lm_head, []
    own = head.forward
    head.forward = lambda states: rows.append(states.shape[-2]) or own(states)
    expected = model(**ROWS).loss
    assert rows == [5]  # labelled tokens, no padding
    expected.backward()
    wanted = gradients(model)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 2 * model.config.vocab_size)
    model.zero_grad()
    found = model(**ROWS).loss
    assert rows == [5, 2, 2, 1]
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_folder_is_transformers_own(family, tmp_path: Path) -> None:
    model = make(family)
    with torch.no_grad():
        model.language_model.lm_head.weight = torch.nn.Parameter(torch.randn(len(make_tokenizer()), 16))
    model.save_pretrained(tmp_path, state_dict=model.state_dict())
    theirs = AutoModelForSeq2SeqLM.from_pretrained(tmp_path)
    labels = {"input_ids": IDS[:1, :5], "labels": IDS[:1, 5:]}
    torch.testing.assert_close(theirs(**labels).loss, model.language_model(**labels).loss)
    again = make(model_name_or_path=str(tmp_path))
    torch.testing.assert_close(again(**ROWS).loss, model(**ROWS).loss, rtol=0, atol=0)
    other = make(family)
    other.language_model.lm_head.weight = torch.nn.Parameter(torch.zeros(len(make_tokenizer()), 16))
    other.load_state_dict(theirs.state_dict())  # as a Trainer that resumes
    torch.testing.assert_close(other(**ROWS).loss, model(**ROWS).loss, rtol=0, atol=0)


def test_adapters_train_are_saved_and_merge(tmp_path: Path) -> None:
    make().save_pretrained(tmp_path / "base")
    base = {"type": "seq2seq", "model_name_or_path": str(tmp_path / "base")}
    adapters = read_adapters({"type": "lora", "targets": [r"\.(q|v)$"], "r": 2})
    models = []
    for _ in range(2):
        model = make(model_name_or_path=str(tmp_path / "base"))
        inject_adapters(model, adapters, base)
        models.append(model.eval())
    model, again = models
    adapted = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert len(adapted) == 2 * 2 * (2 + 2 * 2)  # A and B of q and v, in two layers of the encoder, twice in the decoder
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=1.0)
    for _ in range(2):
        model(**ROWS).loss.backward()
        optimizer.step()
    save_adapted(model, str(tmp_path / "adapted"))
    load_adapted(again, str(tmp_path / "adapted"))
    loss = again(**ROWS).loss
    torch.testing.assert_close(loss, model(**ROWS).loss, rtol=0, atol=0)
    assert (loss - make(model_name_or_path=str(tmp_path / "base"))(**ROWS).loss).abs() > 1e-4
    torch.testing.assert_close(merge(again)(**ROWS).loss, loss)


def test_gradients_reach_every_parameter_with_and_without_checkpointing() -> None:
    gradients = []
    for checkpointed in (False, True):
        model = make("flan_t5").train()
        model.config.dropout_rate = 0.0
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        if checkpointed:
            model.activation_checkpointing_enable({"use_reentrant": False})
        model(**ROWS).loss.backward()
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    torch.testing.assert_close(gradients[0], gradients[1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labels": None}, "needs labels"),
        ({"labels": LABELS.roll(-1, 1)}, "template='seq2seq'"),
        ({"segment_ids": MASK}, "an encoder-decoder model cannot pack"),
    ],
)
def test_rows_that_it_cannot_read(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        make()(**{**ROWS, **change})


def test_settings_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(ConfigError, match="language_model: t5 refuses its config: division by zero"):
        make(language_model={**FAMILIES["t5"], "relative_attention_num_buckets": 3})


def test_what_is_no_encoder_decoder(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="either model_name_or_path or language_model"):
        make(dtype="float32")
    with pytest.raises(ModelError, match=r"^model_name_or_path: expected a folder on this machine, found /no/such"):
        make(model_name_or_path="/no/such")
    with pytest.raises(ModelError, match=r"^language_model: expected a folder on this machine, found /no/such"):
        make(language_model="/no/such")
    AutoModelForCausalLM.from_config(AutoConfig.for_model(**TEXT["llama"])).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="llama has no encoder and decoder"):
        make(model_name_or_path=str(tmp_path))


BART = {
    "model_type": "bart",
    **dict.fromkeys(("d_model", "encoder_ffn_dim", "decoder_ffn_dim"), 16),
    **dict.fromkeys(("encoder_layers", "decoder_layers", "encoder_attention_heads", "decoder_attention_heads"), 2),
    "max_position_embeddings": 12,
}


@pytest.mark.parametrize("options", [{}, {"num_beams": 2}])
def test_generate_ends_at_the_last_position_of_the_decoder(options: dict[str, Any]) -> None:
    model = make(language_model=BART).eval()
    settings = {"max_new_tokens": 40, "eos_token_id": None, "forced_eos_token_id": None, **options}
    assert model.generate(IDS, MASK, **settings).shape == (2, 12)


def test_more_tokens_than_positions_are_one_line() -> None:
    model = make(language_model=BART)
    long = torch.full((1, 13), 5)
    with pytest.raises(ModelError, match="expected prompts of at most 12 tokens, the most that the encoder reads, fo"):
        model.generate(long)
    answer = torch.cat([torch.tensor([[5]]), long], 1)
    labels = torch.cat([torch.tensor([[-100]]), long], 1)
    with pytest.raises(ModelError, match=r"expected answers of at most 12 tokens, .*, found 13"):
        model(input_ids=answer, labels=labels)
    model(input_ids=answer[:, :13], labels=labels[:, :13])

"""Every causal language model of transformers behind images: what it does in a batch is what it does alone, or refused.

`docs/mix_and_match.md` says for each type what it can do; these tests hold it to that.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForSeq2SeqLM, LlavaForConditionalGeneration

from mllm.errors import ModelError
from mllm.models.checkpoints.readback import WrittenModel, transformers_logits
from mllm.models.components import load_causal_lm
from mllm.models.language_models import UNLEARNED, context_of, position_limit, table_limit
from mllm.models.llava.model import Llava
from mllm.models.llava.transformers_export import as_transformers, export_obstacle
from mllm.models.llava.transformers_layout import load_llava
from mllm.models.runtime.decoding import ContinuousBatcher
from mllm.models.strict_loading import load_strictly
from mllm.pipeline.flops import FlopCounts, ModelFlops
from mllm.registry import MODELS
from tests.marks import of_this_transformers
from tests.models.documented import documented, error_of, reason
from tests.models.every_encoder import tiny as encoder_config
from tests.models.every_language_model import TYPES, VARIANTS, tiny, variant
from tests.models.tiny import VISION, WORDS, gradients, make_batch, make_tokenizer

IMAGE, PAD = WORDS - 1, 3
ANSWER: dict[str, Any] = {
    **{"max_new_tokens": 5, "do_sample": False, "eos_token_id": None, "pad_token_id": PAD},
    "suppress_tokens": [IMAGE],
}
FEW = ["bert", "mixtral", "qwen3_next"]
"""Types that every run of the tests looks at."""


def make(spec: dict[str, Any] | str) -> Llava:
    torch.manual_seed(0)
    parts = {"vision_tower": dict(VISION["clip"]), "language_model": spec, "connector": "linear"}
    model = MODELS.make({"type": "llava", **parts}, tokenizer=make_tokenizer())
    with torch.no_grad():  # small weights would hide what one token does to another
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


class Samples:
    """Three prompts with an image each, of different lengths, and their answers."""

    def __init__(self) -> None:
        numbers = torch.Generator().manual_seed(1)
        words = torch.randint(4, 30, (3, 16), generator=numbers).tolist()
        self.pixels = torch.randn(3, 3, 8, 8, generator=numbers)
        sizes = ((3, 9), (1, 4), (2, 6))
        self.prompts = [
            [1, *row[:before], *[IMAGE] * 4, *row[12:14]] for row, (before, _) in zip(words, sizes, strict=True)
        ]
        self.answers = [row[before : before + after] for row, (before, after) in zip(words, sizes, strict=True)]


def padded(rows: list[list[int]], *, left: bool = False) -> dict[str, Tensor]:
    length = max(map(len, rows))
    spare = [[PAD] * (length - len(row)) for row in rows]
    ids = [gap + row if left else row + gap for row, gap in zip(rows, spare, strict=True)]
    mask = [[0] * len(gap) + [1] * len(row) if left else [1] * len(row) + [0] * len(gap)
            for row, gap in zip(rows, spare, strict=True)]  # fmt: skip
    return {"input_ids": torch.tensor(ids), "attention_mask": torch.tensor(mask)}


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-4) -> None:
    scale = expected.abs().max().clamp(min=1e-3)
    assert (found - expected).abs().max() <= tolerance * scale


def learn(model: Llava, batch: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
    model.train().zero_grad()
    loss = model(**batch, num_items_in_batch=1).loss
    loss.backward()
    return loss.detach(), gradients(model)


def learn_alone(model: Llava, prompts: list[list[int]], answers: list[list[int]], pixels: Tensor) -> Any:
    losses, sums = [], dict[str, Tensor]()
    for prompt, answer, image in zip(prompts, answers, pixels, strict=True):
        labels = torch.tensor([[-100] * len(prompt) + answer])
        batch = padded([prompt + answer])
        loss, found = learn(model, {**batch, "labels": labels, "pixels": image[None]})
        losses.append(loss)
        for name, gradient in found.items():
            sums[name] = sums.get(name, 0) + gradient
    return torch.stack(losses).sum(), sums


def same_lessons(found: Any, expected: Any) -> None:
    close(found[0], expected[0])
    for name, gradient in found[1].items():
        if expected[1][name].abs().max() > 1e-6:
            close(gradient, expected[1][name], 1e-3)


def pack(parts: list[tuple[list[int], list[int], int]]) -> dict[str, Tensor]:
    """A row of (ids, labels, what it continues or -1), and three of padding."""
    row: dict[str, list[int]] = {
        name: [] for name in ("input_ids", "labels", "segment_ids", "prefix_ids", "position_ids")
    }
    for number, (ids, labels, prefix) in enumerate([*parts, ([PAD] * 3, [-100] * 3, -1)]):
        start, before = 0, prefix
        while before >= 0:
            start, before = start + len(parts[before][0]), parts[before][2]
        row["input_ids"] += ids
        row["labels"] += labels
        row["segment_ids"] += [number if number < len(parts) else -1] * len(ids)
        row["prefix_ids"] += [prefix] * len(ids)
        row["position_ids"] += range(start, start + len(ids))
    return {name: torch.tensor([values]) for name, values in row.items()}


@torch.no_grad()
def generated(model: Llava, rows: list[list[int]], pixels: Tensor, **more: Any) -> Tensor:
    """[B, new tokens, V] of logits."""
    batch = padded(rows, left=True)
    output: Any = model.generate(
        **batch, pixels=pixels, **ANSWER, output_logits=True, return_dict_in_generate=True, **more
    )
    return torch.stack(output.logits, 1)


def trains_in_a_batch_as_alone(model: Llava) -> None:
    data = Samples()
    rows = [prompt + answer for prompt, answer in zip(data.prompts, data.answers, strict=True)]
    batch = padded(rows)
    labels = torch.full_like(batch["input_ids"], -100)
    for number, (prompt, row) in enumerate(zip(data.prompts, rows, strict=True)):
        labels[number, len(prompt) : len(row)] = torch.tensor(row[len(prompt) :])
    found = learn(model, {**batch, "labels": labels, "pixels": data.pixels})
    assert found[0].isfinite()
    same_lessons(found, learn_alone(model, data.prompts, data.answers, data.pixels))


@torch.no_grad()
def reads_embeddings_as_ids_and_nothing_ahead(model: Llava) -> None:
    ids = torch.randint(4, 30, (2, 11), generator=torch.Generator().manual_seed(5))
    logits = model.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
    arguments = {"attention_mask": torch.ones_like(ids), "use_cache": False}
    close(logits, model.language_model(input_ids=ids, **arguments).logits)
    changed = torch.cat([ids[:, :-2], ids[:, -2:] + 1], 1)
    close(model(input_ids=changed, attention_mask=torch.ones_like(ids)).logits[:, :-2], logits[:, :-2])


@torch.no_grad()
def answers_in_a_batch_as_alone(model: Llava) -> bool:
    """Whether prompts of different lengths may be in one batch."""
    data = Samples()
    alone = torch.cat([generated(model.eval(), [data.prompts[n]], data.pixels[n : n + 1]) for n in range(3)])
    for number, prompt in enumerate(data.prompts):  # with a cache as without
        ids = [*prompt, *alone[number, :, :IMAGE].argmax(-1).tolist()]
        logits = model(**padded([ids]), pixels=data.pixels[number : number + 1]).logits
        close(alone[number], logits[0, len(prompt) - 1 : -1])
    one_by_one = answered(model, [[0], [1], [2]])
    if model.padding_obstacle is None:
        close(generated(model, data.prompts, data.pixels), alone)
        assert answered(model, [[0, 1, 2]]) == one_by_one
        return True
    with pytest.raises(ModelError, match="all prompts of a batch must have the same length"):
        generated(model, data.prompts, data.pixels)
    return False


def answered(model: Llava, groups: list[list[int]]) -> dict[int, list[int]]:
    """By our own decoding, which ends an answer at a token that one of them has in its middle."""
    data = Samples()
    found: dict[int, list[int]] = {}
    first = generated(model, [data.prompts[1]], data.pixels[1:2])[0, :, :IMAGE].argmax(-1)
    for group in groups:
        batcher = ContinuousBatcher(seed=0, evict_finished=model.supports_prefix_sharing)
        batch = padded([data.prompts[number] for number in group], left=True)
        settings = {**ANSWER, "eos_token_id": [int(first[2])]}
        batcher.generate(model, group, {**batch, "pixels": data.pixels[group], **settings})
        found |= batcher.pop_finished()
    return found


@torch.no_grad()
def answers_behind_a_shared_beginning_as_alone(model: Llava) -> bool:
    """Whether it can share."""
    data = Samples()
    rests = [[7, 8, 9], [10, 11], [12, 13, 14, 15]]
    beginnings = padded(data.prompts[:2], left=True)
    branches = padded(rests, left=True)
    arguments: dict[str, Any] = {
        **beginnings,
        **{"suffix_ids": branches["input_ids"], "suffix_mask": branches["attention_mask"]},
        **{"suffix_prefix": torch.tensor([0, 1, 0]), "pixels": data.pixels[:2]},
        **{**ANSWER, "output_logits": True, "return_dict_in_generate": True},
    }
    if not model.eval().supports_prefix_sharing:
        with pytest.raises(ModelError, match="prompts cannot share a common beginning"):
            model.generate_with_shared_prefix(**arguments)
        return False
    found = torch.stack(model.generate_with_shared_prefix(**arguments).logits, 1)  # pyright: ignore[reportAttributeAccessIssue]
    for number, (rest, which) in enumerate(zip(rests, (0, 1, 0), strict=True)):
        row = data.prompts[which] + rest
        close(found[number : number + 1], generated(model, [row], data.pixels[which : which + 1]))
    return True


def learns_in_packed_rows_as_alone(model: Llava) -> bool:
    """Whether it can be packed."""
    data = Samples()
    rows = [(p + a, [-100] * len(p) + a, -1) for p, a in zip(data.prompts, data.answers, strict=True)]
    head, last = data.prompts[0][:-1], data.prompts[0][-1:]
    image, asked = head[:-2], head[-2:]
    shared = [(image, [-100] * len(image), -1), (asked, [-100] * 2, 0)]
    shared += [(last + answer, [-100, *answer], 1) for answer in data.answers]
    refused = error_of(model.check_packing)
    if refused is not None:
        assert "packing" in refused
        with pytest.raises(ModelError):
            learn(model, {**pack(rows), "pixels": data.pixels})
        return False
    found = learn(model, {**pack(rows), "pixels": data.pixels})
    same_lessons(found, learn_alone(model, data.prompts, data.answers, data.pixels))
    found = learn(model, {**pack(shared), "pixels": data.pixels[:1]})
    same_lessons(found, learn_alone(model, [data.prompts[0]] * 3, data.answers, data.pixels[[0, 0, 0]]))
    return True


def is_metered(model: Llava) -> None:
    data = Samples()
    batch = padded(data.prompts)
    flops = ModelFlops(model.train())
    count = batch["input_ids"].numel()
    work = FlopCounts(tokens=count, labels=count, pixels=data.pixels.numel(), pairs=count)
    with flops.watching(work, count):
        loss = model(**batch, pixels=data.pixels, labels=batch["input_ids"]).loss
    loss.backward()
    assert flops.cost.tokens > 0
    assert flops.cost.labels > 0


@torch.no_grad()
def comes_back_from_a_folder(model: Llava, folder: Path) -> None:
    model.eval().save_pretrained(folder)
    data = Samples()
    batch = padded(data.prompts[:1])
    expected = model(**batch, pixels=data.pixels[:1]).logits
    torch.testing.assert_close(load_llava(str(folder))(**batch, pixels=data.pixels[:1]).logits, expected)


def is_exported_or_refused(model: Llava, folder: Path) -> None:
    """What is not said before training is found when transformers reads what was written."""
    if export_obstacle(model) is not None:
        return
    written = WrittenModel.of(model.eval(), make_tokenizer())
    as_transformers(model).save_pretrained(folder)
    theirs = load_strictly(LlavaForConditionalGeneration, str(folder), whole=True, dtype="auto")
    written.check_logits(lambda probe: transformers_logits(theirs, probe))


def outcome(spec: dict[str, Any], folder: Path) -> str:
    """What the docs should say of a type."""
    if refused := error_of(lambda: make(spec)):
        return reason(refused)
    model = make(spec)
    trains_in_a_batch_as_alone(model)
    reads_embeddings_as_ids_and_nothing_ahead(model)
    batched = answers_in_a_batch_as_alone(model)
    shared = answers_behind_a_shared_beginning_as_alone(model)
    packed = learns_in_packed_rows_as_alone(model)
    is_metered(model)
    comes_back_from_a_folder(model, folder / "ours")
    is_exported_or_refused(model, folder / "theirs")
    return " | ".join("yes" if each else "no" for each in (batched, shared, packed))


@pytest.mark.parametrize("name", FEW)
def test_some_types_do_what_the_docs_say(name: str, tmp_path: Path) -> None:
    assert outcome(tiny(name), tmp_path) == documented()[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted({*TYPES} - {*FEW}))
def test_every_type_does_what_the_docs_say(name: str, tmp_path: Path) -> None:
    assert outcome(tiny(name), tmp_path) == documented()[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", VARIANTS)
def test_every_architecture_of_a_type_is_exact_or_refused(name: str, tmp_path: Path) -> None:
    outcome(variant(name), tmp_path)


@of_this_transformers
def test_the_docs_leave_no_type_out() -> None:
    assert documented().keys() == {*TYPES}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"hidden_size": 64}, r"qk_dim_factor: expected a multiple of 64, and of num_heads 2, .* found 64 \* 0.5 = 32"),
        ({"hidden_size": 128, "v_dim_factor": 1.25}, r"v_dim_factor: expected a multiple of 64, .* = 160"),
        ({"hidden_size": 128, "num_heads": 3}, "qk_dim_factor: expected a multiple of 64, and of num_heads 3"),
        ({"hidden_size": 128, "embedding_dim": 64}, "embedding_dim: expected 128, found int '64'"),
        ({"hidden_size": 128, "num_blocks": 3}, "num_blocks: expected 2, found int '3'"),
        ({"hidden_size": 128, "mode": "train"}, "mode: expected 'inference', found str 'train'"),
    ],
)
def test_xlstm_of_sizes_that_cannot_generate_is_refused(settings: dict[str, Any], named: str) -> None:
    refused = error_of(lambda: make({"model_type": "xlstm", "num_hidden_layers": 2, "num_heads": 2, **settings}))
    assert refused is not None
    assert re.search(rf"language_model\.{named}", refused)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "gptj", "opt", "mpt", "llama", "bloom"])
def test_position_limit_is_where_a_language_model_cannot_read_on(name: str) -> None:
    language_model = make(tiny(name)).language_model
    limit = position_limit(language_model)
    settings = language_model.config
    most = getattr(settings, "max_seq_len", getattr(settings, "max_position_embeddings", 128))
    ids = torch.full((1, most + 1), 5)
    with torch.no_grad():
        language_model(input_ids=ids[:, :most], use_cache=False)
        if limit is None:
            language_model(input_ids=ids, use_cache=False)
        else:
            assert limit == most
            with pytest.raises((IndexError, RuntimeError), match=r"index|size of tensor"):
                language_model(input_ids=ids, use_cache=False)


def test_context_of_says_what_a_language_model_was_made_for() -> None:
    for kind, tokens in (("llama", 2048), ("bloom", None), ("xlnet", None)):
        model: Any = torch.nn.Module()
        model.config = AutoConfig.for_model(kind)
        assert context_of(model) == tokens
    assert context_of(None) is None


def test_position_limit_of_xlstm_is_what_it_reads_in_one_piece() -> None:
    language_model = make({**tiny("xlstm"), "max_inference_chunksize": 8}).eval().language_model
    assert position_limit(language_model) == 8
    ids = torch.arange(5, 21)[None]
    with torch.no_grad():
        whole, pieces = (language_model.train(mode)(input_ids=ids, use_cache=False).logits for mode in (True, False))
    assert torch.allclose(whole[:, :8], pieces[:, :8], atol=1e-4)
    assert not torch.allclose(whole[:, 8:], pieces[:, 8:], atol=1e-4), "transformers no longer rounds: lift the limit"


@pytest.mark.parametrize("heads", [1, 2, 4])
def test_xlstm_of_whole_sizes_answers_as_it_trains(heads: int) -> None:
    answers_in_a_batch_as_alone(make({**tiny("xlstm"), "num_heads": heads}))


@pytest.mark.parametrize(("name", "text"), [("gemma3", "gemma3_text"), ("llava", "llama"), ("got_ocr2", "qwen2")])
def test_of_a_folder_of_a_larger_model_the_language_model_is_taken(name: str, text: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vision = encoder_config("siglip_vision_model" if name != "got_ocr2" else "got_ocr2_vision")
    spec = {"model_type": name, "text_config": tiny(text) | {"vocab_size": WORDS, "pad_token_id": PAD}}
    whole = AutoModelForImageTextToText.from_config(AutoConfig.for_model(**spec, vision_config=vision))
    whole.save_pretrained(tmp_path)
    model = make(str(tmp_path))
    assert model.language_model.config.model_type == text
    loaded = load_causal_lm(str(tmp_path), make_tokenizer(), dtype=torch.float32, attn_implementation=None)
    ids = torch.arange(4, 14)[None]
    with torch.no_grad():
        expected = whole.eval()(input_ids=ids, attention_mask=torch.ones_like(ids)).logits
        torch.testing.assert_close(loaded.eval()(input_ids=ids).logits, expected)


@pytest.mark.parametrize(
    "kind",
    ["ernie4_5_moe", *(pytest.param(kind, marks=pytest.mark.slow) for kind in UNLEARNED if kind != "ernie4_5_moe")],
)
def test_what_no_loss_reaches_is_frozen_and_all_else_has_a_gradient(kind: str) -> None:
    """DDP waits for the gradient of every trained weight, and fails at the second step where one has none."""
    model = make(tiny(kind)).train()
    model(**make_batch(model)).loss.backward()
    assert [name for name, weight in model.named_parameters() if weight.requires_grad and weight.grad is None] == []
    assert [name for name, weight in model.language_model.named_parameters() if not weight.requires_grad]


def test_table_limit_of_prophetnet_counts_from_behind_the_padding_and_looks_ahead() -> None:
    sizes = dict.fromkeys(("hidden_size", "encoder_ffn_dim", "decoder_ffn_dim"), 16)
    few = dict.fromkeys(("num_encoder_layers", "num_decoder_layers"), 1)
    heads = dict.fromkeys(("num_encoder_attention_heads", "num_decoder_attention_heads"), 2)
    sizes |= {"max_position_embeddings": 12, "vocab_size": 20}
    config = AutoConfig.for_model("prophetnet", **sizes, **few, **heads)
    model = AutoModelForSeq2SeqLM.from_config(config, trust_remote_code=False).eval()
    encoder, decoder = model.get_encoder(), model.get_decoder()
    assert (table_limit(encoder), table_limit(decoder)) == (11, 10)
    with torch.no_grad():
        decoder(input_ids=torch.full((1, 10), 5))
        with pytest.raises(IndexError):
            decoder(input_ids=torch.full((1, 11), 5))

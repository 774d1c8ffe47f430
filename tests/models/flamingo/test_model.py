import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModel
from transformers.loss.loss_utils import LOSS_MAPPING, ForCausalLMLoss

from mllm.errors import ConfigError, ModelError
from mllm.models.flamingo.model import Flamingo
from mllm.models.runtime import loss
from mllm.models.runtime.ranking import candidate_log_probs
from mllm.registry import MODELS
from tests.marks import grid, slow_but
from tests.models.tiny import SIDE, gradients, prompts, without_images
from tests.models.tiny_flamingo import LMS, PERCEIVER, make, make_batch, tokenizer, trainable

GREEDY = {"do_sample": False, "eos_token_id": None, "pad_token_id": 3}


@pytest.mark.parametrize("text", slow_but(["llama", "mpt"], LMS))
def test_every_language_model_steps_saves_and_loads(tmp_path: Path, text) -> None:
    model = make(text).train()
    batch = make_batch(model)
    optimizer = torch.optim.SGD((p for p in model.parameters() if p.requires_grad), lr=0.02)
    losses = []
    for _ in range(3):
        loss = model(**batch).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert gradients(model).keys() == trainable(model)
    model.eval().save_pretrained(tmp_path)
    loaded = MODELS.make({"type": "openflamingo", "model_name_or_path": str(tmp_path)}, tokenizer=tokenizer())
    assert trainable(loaded) == trainable(model)
    for other in (loaded, Flamingo.from_pretrained(tmp_path), AutoModel.from_pretrained(tmp_path)):
        torch.testing.assert_close(
            other(**batch, return_logits=True).logits, model(**batch, return_logits=True).logits, rtol=0, atol=0
        )
        for name, tensor in model.state_dict().items():
            torch.testing.assert_close(other.state_dict()[name], tensor, rtol=0, atol=0)
    assert loaded.config.new_token_ids == model.config.new_token_ids == [39, 40, 41]
    assert loaded.generation_config.to_dict() == model.generation_config.to_dict()
    tied = {"language_model.lm_head.weight"} - {name for name, _ in model.named_parameters()}
    assert load_file(tmp_path / "model.safetensors").keys() == model.state_dict().keys() - tied


@pytest.mark.parametrize("text", slow_but(["qwen2", "gemma2", "gpt2"], LMS))
def test_cached_generation_is_the_argmax_of_forward(text) -> None:
    model = make(text)
    inputs = prompts(make_batch(model))
    found = model.generate(**inputs, max_new_tokens=5, **GREEDY)
    whole = model.generate(**inputs, max_new_tokens=5, use_cache=False, **GREEDY)
    assert found.tolist() == whole.tolist()
    ids = inputs["input_ids"]
    for number, (row, kept) in enumerate(zip(ids, inputs["attention_mask"], strict=True)):
        index = inputs["image_index"][[slice(0, 2), slice(2, 3)][number]]
        row = row[kept.bool()]
        for new in found[number]:
            logits = model(input_ids=row[None], pixels=inputs["pixels"], image_index=index).logits
            assert int(logits[0, -1].argmax()) == int(new)
            if new == model.config.image_token_id:
                break  # it has no image, so that forward cannot read it
            row = torch.cat([row, new[None]])


@pytest.mark.parametrize("text", slow_but(["llama", "gpt_neox", "mpt"], LMS))
def test_a_head_that_runs_in_pieces_gives_the_same_loss_and_gradients(text, monkeypatch: pytest.MonkeyPatch) -> None:
    model = make(text).train()
    batch = make_batch(model)
    expected = model(**batch, return_logits=True).loss
    expected.backward()
    wanted = gradients(model)
    monkeypatch.setattr(loss, "LOGITS_AT_ONCE", 100)  # two positions
    model.zero_grad()
    found = model(**batch).loss
    found.backward()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(model), wanted, rtol=1e-5, atol=1e-6)


def test_media_are_encoded_once_in_a_generation() -> None:
    model = make()
    calls = []
    model.perceiver.register_forward_pre_hook(lambda *_: calls.append(1))
    model.generate(**prompts(make_batch(model)), max_new_tokens=4, num_beams=2, **GREEDY)
    assert len(calls) == 1
    assert model.state.media is None


def test_new_tokens_read_the_image() -> None:
    model = make()
    inputs = prompts(make_batch(model))
    seen = []
    block = model.language_model.model.layers[0].gated_cross_attn_layer
    block.register_forward_pre_hook(lambda _, args: seen.append(args[2].any(-1).all().item()))
    model.generate(**inputs, max_new_tokens=3, **GREEDY)
    assert seen[1:] == [True, True]
    model.config.image_blind_decoding = True
    seen.clear()
    model.generate(**inputs, max_new_tokens=3, **GREEDY)
    assert seen[1:] == [False, False]


@pytest.mark.parametrize("text", ["llama", "mpt"])
def test_beams_find_an_answer_at_least_as_likely(text: str) -> None:
    model = make(text)
    inputs = prompts(make_batch(model))
    likely = []
    for beams in (1, 4):
        ids = model.generate(**inputs, num_beams=beams, max_new_tokens=4, bad_words_ids=[[39]], **GREEDY)
        assert ids.shape == (2, 4)
        rows = zip(ids.tolist(), rows_of(inputs), strict=True)
        likely.append([float(candidate_log_probs(model, row, [[answer]])[0]) for answer, row in rows])
    assert all(better >= first - 1e-5 for first, better in zip(*likely, strict=True))


def rows_of(inputs):
    """Each row by itself."""
    return [
        {
            "input_ids": inputs["input_ids"][number][None],
            "attention_mask": inputs["attention_mask"][number][None],
            "pixels": inputs["pixels"],
            "image_index": inputs["image_index"][mine],
        }
        for number, mine in enumerate((slice(0, 2), slice(2, 3)))
    ]


def test_each_sequence_of_a_row_reads_the_media_of_that_row() -> None:
    model = make()
    inputs = prompts(make_batch(model))
    ids = model.generate(**inputs, num_beams=4, num_return_sequences=4, max_new_tokens=3, **GREEDY)
    for number, row in enumerate(rows_of(inputs)):
        alone = model.generate(**row, num_beams=4, num_return_sequences=4, max_new_tokens=3, **GREEDY)
        assert ids[4 * number : 4 * number + 4].tolist() == alone.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_index": torch.tensor([0, 1])}, "expected 2 <image> tokens .*, found 3"),
        ({"image_index": torch.tensor([0, 1, 1, 0])}, "expected 4 <image> tokens .*, found 3"),
        ({"image_index": None}, "expected 2 <image> tokens .*, found 3"),
        ({"pixels": None, "image_index": None}, "expected 0 <image> tokens .*, found 3"),
    ],
)
def test_slots_and_media_must_agree(change: dict[str, Any], message: str) -> None:
    model = make()
    with pytest.raises(ModelError, match=message):
        model(**{**make_batch(model), **change})


@pytest.mark.parametrize("freeze", [[], ["vision_tower", "language_model"]])
@pytest.mark.parametrize("perceiver", [{}, {"max_frames": 2, "max_media": 3}])
def test_a_batch_without_images_touches_every_trainable_parameter(freeze, perceiver: dict[str, Any]) -> None:
    model = make(freeze=freeze, perceiver={"depth": 1, "latents": 2, "heads": 1, "head_width": 4, **perceiver}).train()
    batch = without_images(make_batch(model), model)
    loss = model(**batch).loss
    loss.backward()
    found = gradients(model)
    assert found.keys() == trainable(model)
    silent = ("vision_tower", "perceiver")
    assert all(not gradient.any() for name, gradient in found.items() if name.startswith(silent) or ".attn." in name)
    torch.testing.assert_close(loss, model.eval()(**batch).loss)


def test_a_row_without_images_is_the_same_beside_one_with_images() -> None:
    model = make()
    batch = make_batch(model)
    ids = batch["input_ids"][:, :9].clone()
    ids[1, 1] = 5
    mixed = model(ids, pixels=batch["pixels"]).logits[1]
    torch.testing.assert_close(mixed, model(ids[1:]).logits[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("text", "prefix", "attend"),
    grid(
        ["llama", "gpt_neox", "gemma2", "mpt", "opt"],
        [[], [1, 39, 5]],  # side by side, or behind it
        ["immediate", "next", "all_previous"],
    ),
)
def test_packed_rows_are_separate_rows(text, prefix, attend) -> None:
    """In logits and gradients; also with the numbers of media in their samples embedded."""
    model = make(text, attend=attend, perceiver={**PERCEIVER, "max_media": 3}).train()
    image = model.config.image_token_id
    samples = [[6, image, 7, image, 8], [9, 10], [image, 11, 12]]
    if attend == "next" and prefix:
        samples = [[6, 7, 8], [9, 10], [11, 12]]  # a prefix could not tell which branch's medium comes next
    shared = len(prefix)
    rows = [torch.tensor(prefix + sample) for sample in samples]
    pixels = torch.randn(4, 3, SIDE, SIDE)
    slots = [int((torch.tensor(sample) == image).sum()) for sample in samples]
    own = torch.arange(sum(slots)).split(slots)
    first = [3] if prefix else []
    packed = model(
        torch.cat([torch.tensor(prefix, dtype=torch.long), *(row[shared:] for row in rows), torch.tensor([3, 3])])[
            None
        ],
        pixels=pixels,
        image_index=torch.cat([torch.tensor(first, dtype=torch.long), *own]),
        position_ids=torch.cat(
            [torch.arange(shared), *(torch.arange(shared, len(row)) for row in rows), torch.tensor([0, 0])]
        )[None],
        segment_ids=torch.tensor(
            [0] * shared + [n for n, row in enumerate(samples, 1) for _ in row] + [-1, -1], dtype=torch.long
        )[None],
        prefix_ids=torch.tensor(
            [-1] * shared + [0 if prefix else -1 for row in samples for _ in row] + [-1, -1], dtype=torch.long
        )[None],
    ).logits[0]
    alone = []
    for row, places in zip(rows, own, strict=True):
        index = torch.cat([torch.tensor(first, dtype=torch.long), places])
        media = {"pixels": pixels, "image_index": index} if len(index) else {}
        alone.append(model(row[None], **media).logits[0][shared:])
    expected, found = torch.cat(alone), packed[shared:-2]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    direction = torch.randn_like(expected)
    model.zero_grad()
    (expected * direction).sum().backward(retain_graph=True)
    wanted = gradients(model)
    model.zero_grad()
    (found * direction).sum().backward()
    for name, gradient in gradients(model).items():
        scale = wanted[name].abs().max().clamp(min=1)
        assert (gradient - wanted[name]).abs().max() <= 1e-4 * scale, name


def test_language_models_that_do_not_hand_the_packing_on_are_refused() -> None:
    model = make("gptj", attn_implementation="eager")
    ids = torch.tensor([[1, 5]])
    with pytest.raises(ModelError, match="packing"):
        model(ids, position_ids=ids, segment_ids=torch.zeros_like(ids), prefix_ids=torch.full_like(ids, -1))


@pytest.mark.parametrize("text", ["llama", "mpt", "gptj", "opt"])
def test_only_new_embeddings_are_trained(text: str) -> None:
    model = make(text).train()
    batch = make_batch(model)
    model(**batch).loss.backward()
    inputs, head = model.get_input_embeddings(), model.get_output_embeddings()
    found = inputs.weight.grad.abs().sum(1).nonzero().flatten().tolist()
    tied = head.weight is inputs.weight
    assert tied == (text in ("mpt", "opt"))
    assert found == ([39, 40, 41] if tied else [39, 40]), "only a tied head learns a token that is not in the text"
    assert tied or not head.weight.requires_grad

    every = make(text, train_embeddings="input").train()
    every(**batch).loss.backward()
    rows = every.get_input_embeddings().weight.grad
    torch.testing.assert_close(inputs.weight.grad[found], rows[found])
    assert len(rows.abs().sum(1).nonzero()) > 5
    assert every.get_output_embeddings().weight.requires_grad == tied


def test_what_is_trained_can_change() -> None:
    model: Any = make("mpt")
    model.freeze([])
    model.train()(**make_batch(model)).loss.backward()
    assert gradients(model).keys() == trainable(model)
    assert len(model.get_input_embeddings().weight.grad.abs().sum(1).nonzero()) == 42
    model.freeze(["vision_tower", "perceiver", "language_model"])
    assert all(".gated_cross_attn_layer." in name for name in trainable(model))
    assert model.training
    assert not model.perceiver.training
    blocks = [layer.gated_cross_attn_layer for layer in model.language_model.transformer.blocks]
    assert all(block.training for block in blocks)
    assert not any(layer.decoder_layer.training for layer in model.language_model.transformer.blocks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freeze": ["percever"]}, r"freeze\.0: expected one of .*, found str 'percever'; did you mean 'perceiver'"),
        ({"freeze": "perceiver"}, "freeze: expected a list, each one of .*, found str 'perceiver'"),
        ({"freeze": [], "train_embeddings": "new"}, "the whole language model is trained already"),
        (
            {"train_embeddings": "newest"},
            "train_embeddings: expected one of .* or None, found str 'newest'; did you mean 'new'",
        ),
        ({"attend": "nearest"}, "attend: expected one of .*'all_previous'.*, found str 'nearest'"),
        ({"perceiver": {"lattents": 3}}, r"perceiver\.lattents: unknown name; did you mean 'latents'"),
        ({"vision_tower": None}, "expected model_name_or_path, or both .*, found language_model alone"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**arguments)


def test_cross_attention_needs_a_layer() -> None:
    with pytest.raises(ConfigError, match="cross_attn_every_n_layers: expected a whole number of at least 1"):
        make(cross_attn_every_n_layers=0)
    with pytest.raises(ModelError, match=r"cross_attn_every_n_layers: expected 1 to 2, .* found 3"):
        make(cross_attn_every_n_layers=3)


def test_cross_attention_stands_before_every_nth_layer() -> None:
    model = make(cross_attn_every_n_layers=2)
    layers = model.language_model.model.layers
    assert [layer.gated_cross_attn_layer is not None for layer in layers] == [False, True]


def test_closed_gates_leave_the_language_model_as_it_was() -> None:
    model = make()
    batch = make_batch(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("_gate"):
                parameter.zero_()
    images = model(batch["input_ids"], pixels=batch["pixels"], image_index=batch["image_index"]).logits
    plain = model.language_model(input_ids=batch["input_ids"]).logits
    torch.testing.assert_close(images, plain, rtol=0, atol=0)


def test_frames_of_a_video() -> None:
    model: Any = make(perceiver={"depth": 1, "latents": 3, "heads": 2, "head_width": 4, "max_frames": 4}, freeze=[])
    batch = make_batch(model, frames=3)
    loss = model(**batch).loss
    loss.backward()
    assert model.perceiver.frame_embs.grad.abs().sum(1).nonzero().flatten().tolist() == [0, 1, 2]
    shuffled = {**batch, "pixels": batch["pixels"].flip(1)}
    assert not torch.allclose(model(**shuffled).loss, loss)
    single = {**batch, "pixels": batch["pixels"][:, :1]}
    still = {**batch, "pixels": batch["pixels"][:, 0]}
    torch.testing.assert_close(model(**single).loss, model(**still).loss)
    with pytest.raises(ModelError, match=r"expected at most 4 frames, .* found 5"):
        model(**make_batch(model, frames=5))


def test_number_of_a_medium_in_its_row() -> None:
    model: Any = make(perceiver={"depth": 1, "latents": 3, "heads": 2, "head_width": 4, "max_media": 2}, freeze=[])
    ids = torch.tensor([[1, 39, 5, 39, 6], [1, 39, 5, 7, 6]])
    pixels = torch.randn(1, 3, SIDE, SIDE)
    model(ids, pixels=pixels, image_index=torch.tensor([0, 0, 0]), labels=ids).loss.backward()
    assert model.perceiver.media_time_embs.grad.abs().sum((1, 2)).gt(0).all()
    with pytest.raises(ModelError, match=r"expected at most 2 media in a row, .* found 3"):
        model(torch.tensor([[39, 39, 39]]), pixels=pixels, image_index=torch.tensor([0, 0, 0]))


def test_the_final_norm_of_the_vision_tower_is_an_option() -> None:
    plain, normed = make(), make(vision_ln_post=True, freeze=[])
    normed.load_state_dict(plain.state_dict())
    pixels = torch.randn(1, 3, SIDE, SIDE)
    assert not torch.allclose(plain.media_latents(pixels), normed.media_latents(pixels), atol=1e-3)
    assert normed.vision_tower.encoder.post_layernorm.weight.requires_grad
    normed.train()(**make_batch(normed)).loss.backward()
    assert gradients(normed).keys() == trainable(normed)


@pytest.mark.parametrize("use_reentrant", [False, True])
@pytest.mark.parametrize("text", ["llama", "mpt"])
def test_gradient_checkpointing_changes_nothing(text: str, use_reentrant: bool) -> None:
    model = make(text).train()
    batch = make_batch(model)
    model(**batch).loss.backward()
    expected = gradients(model)
    model.zero_grad()
    model.activation_checkpointing_enable({"use_reentrant": use_reentrant})
    model.train()
    model(**batch).loss.backward()
    found = gradients(model)
    assert found.keys() == expected.keys() == trainable(model)
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=1e-4, atol=1e-6, msg=name)


def test_a_copy_is_its_own_model() -> None:
    model = make()
    batch = make_batch(model)
    twin = copy.deepcopy(model)
    assert twin.state is not model.state
    assert {id(layer.state) for layer in twin.language_model.model.layers} == {id(twin.state)}
    torch.testing.assert_close(twin(**batch).loss, model(**batch).loss, rtol=0, atol=0)


def test_describes_its_slots() -> None:
    view = pickle.loads(pickle.dumps(make().image_preprocessor()))  # noqa: S301, data loading workers receive it
    assert (view.token, view.size, view.placeholder_tokens((40, 30))) == ("<image>", SIDE, "<image>")


def test_half_precision_and_units_of_sharding() -> None:
    model: Any = make(dtype="bfloat16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}
    assert {"GatedCrossAttentionBlock", "LlamaDecoderLayer", "CLIPEncoderLayer"} <= model._no_split_modules
    assert model(**make_batch(model)).loss.isfinite()


def test_the_trainer_counts_labels_as_the_loss_does() -> None:
    assert LOSS_MAPPING[make().loss_type] is ForCausalLMLoss


@pytest.mark.parametrize("more", [{"max_frames": 4}, {"max_frames": 4, "max_media": 5}])
def test_images_and_videos_of_any_length_go_together(more: dict[str, Any]) -> None:
    """Slots of several images and videos read what each medium alone would give; gradients too reach them all."""
    model = make(perceiver={"depth": 1, "latents": 3, "heads": 2, "head_width": 4, **more}, freeze=[])
    torch.manual_seed(0)
    frames = torch.tensor([1, 3, 2, 1])
    pixels = torch.randn(7, 3, SIDE, SIDE, requires_grad=True)
    index, number = torch.tensor([2, 0, 1, 3, 2]), torch.tensor([0, 1, 2, 0, 1])
    found = model.media_latents(pixels, frames, index, number)
    apart = pixels.split(frames.tolist())
    for slot, (medium, place) in enumerate(zip(index.tolist(), number.tolist(), strict=True)):
        alone = model.media_latents(apart[medium][None], None, torch.tensor([0]), torch.tensor([place]))
        torch.testing.assert_close(found[slot], alone[0])
    found.square().sum().backward()
    assert pixels.grad is not None
    assert pixels.grad.flatten(1).any(1).all()
    with pytest.raises(ModelError, match="expected 6 frames in pixels, as the media have, found 7"):
        model.media_latents(pixels, torch.tensor([1, 3, 2]))

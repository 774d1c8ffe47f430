"""Whether a model is read, and its images are seen, as mllm assumes: asked of the folder itself, on painted images.

`check_files` needs no weights: it checks pixels, counts and ids. `check_model` runs the model: features, batches,
packed rows, shared prefixes. A model type without a family file may run once all required checks pass.

Shape suffixes: B rows, T tokens, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedModel

from mllm.compat.transformers_processors import with_marks
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, DataError, MllmError, ModelError, one_line
from mllm.models.native.painted import check_placements
from mllm.models.native.placing import Size
from mllm.models.native.tensors import split_images
from mllm.records import read_item
from mllm.types import Item

WIDE, TALL = (64, 40), (36, 72)
"""Sizes in pixels of the images that questions are asked about."""
SIZES: tuple[Size, ...] = (WIDE, TALL, (150, 130), (40, 200))
TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""By which logits may differ, as a share of the largest."""
NEW_TOKENS = 4
RAISED = (
    *(MllmError, ArithmeticError, AssertionError, AttributeError, ImportError, LookupError),
    *(RuntimeError, TypeError, ValueError),
)
"""What a model or a processor may raise that works otherwise than is assumed."""
Outcome = Literal["pass", "fail", "not applicable"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """One assumption, and what was found.

    Attributes:
        why: what was found, or why it does not apply; '' where it passes.
        needed: whether the model cannot be trusted without it; others only say what it can do.
    """

    name: str
    outcome: Outcome
    why: str = ""
    needed: bool = True

    @property
    def failed(self) -> bool:
        return self.outcome == "fail"


class NotApplicable(Exception):
    """A check says nothing about this model."""


def check_files(processor: Processor) -> list[CheckResult]:
    """What the folder's files say: where images lie, what stands for them, and which ids prompts have."""
    return [
        _check("placement", lambda: _raise(check_placements(processor.view))),
        _check("token count by size", lambda: _check_counts(processor.view)),
        _check("prompt ids", lambda: _check_prompt(processor)),
        _check("prompts begin the training ids", lambda: _check_rounds(processor)),
    ]


@torch.no_grad()
def check_model(model: Any, processor: Processor) -> list[CheckResult]:
    """What the model computes; it is in evaluation mode."""
    one, other = _question(WIDE, key="a"), _question(TALL, key="b", seed=1)
    again = replace(one, key="d", turns=_question(WIDE, text="Is it red?").turns)
    items = [one, other, _question(key="c"), again]
    checks = [
        _check("a feature for each token", lambda: _check_features(model, processor)),
        _check("the model's own inputs", lambda: _check_own(model, processor)),
        _check("a batch is its samples", lambda: _check_batch(model, processor, items)),
        _check("answers in a batch", lambda: _check_answers(model, processor, items), needed=False),
        _check("two images in a prompt", lambda: _check_two(model, processor), needed=False),
    ]
    alike = [one, again, other]
    for name, packing in (("packed rows", "rows"), ("rows that share an image", "shared")):
        checks.append(
            _check(name, lambda packing=packing: _check_packed(model, processor, alike, packing), needed=False)
        )
    checks.append(
        _check(
            "answers that share an image", lambda: _check_shared(model, processor, [alike[:2], alike[2:]]), needed=False
        )
    )
    return checks


def _check(name: str, work: Callable[[], None], *, needed: bool = True) -> CheckResult:
    """What any library raises is a finding here: the model is not known to work."""
    try:
        work()
    except NotApplicable as reason:
        return CheckResult(name=name, outcome="not applicable", why=str(reason), needed=needed)
    except RAISED as error:
        return CheckResult(name=name, outcome="fail", why=one_line(error), needed=needed)
    return CheckResult(name=name, outcome="pass", needed=needed)


def _raise(wrong: str | None) -> None:
    if wrong:
        raise ModelError(wrong)


# without weights


def _check_counts(view: Any) -> None:
    """The text by the size alone is that by the pixels: the view raises where it is not."""
    if view.processor is None:
        raise NotApplicable("its family says the text itself")
    for size in SIZES:
        view.tensors(_picture(size))


def _check_prompt(processor: Processor) -> None:
    item = _question(WIDE)
    theirs = _own_inputs(processor, item)["input_ids"][0].tolist()
    ours = processor.encode(item, 0, answer=False).input_ids.tolist()
    if ours != theirs:
        place = next(
            (n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b), min(len(ours), len(theirs))
        )
        raise ModelError(
            f"ids differ from place {place} on",
            expected=f"{_words(processor, theirs, place)} of {len(theirs)} ids, as its processor makes them",
            found=f"{_words(processor, ours, place)} of {len(ours)}",
        )


def _words(processor: Processor, ids: Sequence[int], place: int) -> str:
    tokens: list[str] = cast("Any", processor.tokenizer).convert_ids_to_tokens(list(ids[max(0, place - 2) : place + 3]))
    return repr(" ".join(tokens))


def _own_inputs(processor: Processor, item: Item) -> Mapping[str, Any]:
    """What the model's own processor makes of a question.

    Raises:
        NotApplicable: its prompts are not those of a chat template, or its processor cannot be asked.
    """
    view: Any = processor.view
    if view.processor is None:
        raise NotApplicable("its family says the text itself")
    words = item.turns[0].text.removeprefix("<image>" * len(item.images)).lstrip("\n")
    images = [ref.open() for ref in item.images]
    if not view.asked:
        return view.processor(text=[words], images=images, return_tensors="pt")
    if type(processor.template).__name__ != "Chat":
        raise NotApplicable("its prompts are not its chat template's")
    tokenizer: Any = processor.tokenizer
    content = [{"type": "image"}] * len(item.images) + [{"type": "text", "text": words}]
    template: Any = processor.template
    asked = [{"role": "user", "content": content}]
    text: str = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True, **template.variables)
    if view.token not in text:
        raise NotApplicable("its chat template takes no images")
    text = text.removeprefix(view.opening)
    return view.processor(text=[text], images=images, return_tensors="pt", add_special_tokens=False)


def _check_rounds(processor: Processor) -> None:
    for count in (1, 2):
        try:
            ids = processor.encode(_question(WIDE, rounds=count), 0).input_ids.tolist()
            prompt = processor.encode(_question(WIDE, rounds=count), 0, answer=False).input_ids.tolist()
        except (ConfigError, DataError) as error:
            if count == 1:
                raise
            raise NotApplicable(f"its template takes one round: {one_line(error)}") from error
        if ids[: len(prompt)] != prompt:
            raise ModelError(f"the prompt of round {count} does not begin its training ids")


# with weights


def _check_features(model: Any, processor: Processor) -> None:
    view: Any = processor.view
    if not hasattr(model, "get_image_features") or model.family.sees_first:
        raise NotApplicable("its images are seen elsewhere than in the text")
    for size in SIZES:
        count = view.placeholder_tokens(size).count(view.feature)
        features = model.family.features(model, model.family.join(split_images(_on(model, view(_picture(size))))))
        found = features[0].numel() // features[0].shape[-1]
        if len(features) > 1 and found < count:  # of each tile or part by itself
            found = sum(feature.numel() // feature.shape[-1] for feature in features)
        if found != count:
            raise ModelError(
                f"an image of {size[0]} x {size[1]}", expected=f"{found} tokens, one for a feature", found=str(count)
            )


def _check_own(model: Any, processor: Processor) -> None:
    item = _question(WIDE)
    view: Any = processor.view
    made = with_marks(_own_inputs(processor, item), view.processor, model.own_forward)
    inputs = _on(model, {name: one for name, one in made.items() if isinstance(one, Tensor)})
    wanted = model.own_forward(**inputs).logits
    found = model(**_batch(model, processor, [item], answer=False)).logits
    _check_same(model, found, wanted)


def _check_batch(model: PreTrainedModel, processor: Processor, items: Sequence[Item]) -> None:
    together = _batch(model, processor, items)
    logits_BTV = model(**together, return_logits=True).logits
    for logits_TV, item in zip(logits_BTV, items, strict=True):
        alone = model(**_batch(model, processor, [item]), return_logits=True).logits[0]
        _check_same(model, logits_TV[: len(alone)], alone, f"of sample {item.key!r} in a batch")


def _check_two(model: PreTrainedModel, processor: Processor) -> None:
    item = _question(WIDE, TALL)
    try:
        batch = _batch(model, processor, [item])
    except (ConfigError, DataError) as error:
        raise NotApplicable(one_line(error)) from error
    model(**batch)
    _check_batch(model, processor, [item, _question(TALL, key="b", seed=1)])


def _check_answers(model: Any, processor: Processor, items: Sequence[Item]) -> None:
    if model.padding_obstacle:
        raise NotApplicable(model.padding_obstacle)
    together = model.generate(**_batch(model, processor, items, answer=False), **_greedy())
    for ids, item in zip(together.tolist(), items, strict=True):
        _check_answer(ids, model.generate(**_batch(model, processor, [item], answer=False), **_greedy())[0].tolist())


def _check_packed(model: Any, processor: Processor, items: Sequence[Item], packing: object) -> None:
    if model.family.pack is None:
        raise NotApplicable("its family packs no rows")
    if packing == "shared" and model.family.beside is None:
        raise NotApplicable("its family shares no beginnings")
    try:
        model.check_packing()
    except MllmError as error:
        raise NotApplicable(one_line(error)) from error
    packed = model(**_batch(model, processor, items, packing=packing), num_items_in_batch=1).loss
    apart_ = sum(model(**_batch(model, processor, [item]), num_items_in_batch=1).loss for item in items)
    if not abs(packed - apart_) <= _tolerance(model) * abs(apart_):
        raise ModelError(
            "the loss of packed rows",
            expected=f"{float(apart_):.6g}, that of its samples",
            found=f"{float(packed):.6g}",
        )


def _check_shared(model: Any, processor: Processor, groups: Sequence[Sequence[Item]]) -> None:
    if model.sharing_obstacle:
        raise NotApplicable(model.sharing_obstacle)
    batch = _batch(model, processor, groups, answer=False, packing="shared")
    together = model.generate_with_shared_prefix(**batch, **_greedy())
    for ids, item in zip(together.tolist(), [item for group in groups for item in group], strict=True):
        _check_answer(ids, model.generate(**_batch(model, processor, [item], answer=False), **_greedy())[0].tolist())


def _check_same(model: PreTrainedModel, found: Tensor, wanted: Tensor, which: str = "") -> None:
    if found.shape != wanted.shape:
        raise ModelError(f"logits {which}", expected=str(list(wanted.shape)), found=str(list(found.shape)))
    off, most = float((found - wanted).abs().max()), float(wanted.abs().max())
    if not off <= _tolerance(model) * most:  # nan differs
        raise ModelError(f"logits {which} differ by up to {off:.3g}, of up to {most:.3g}".replace("  ", " "))


def _check_answer(found: list[int], wanted: list[int]) -> None:
    if found != wanted:
        raise ModelError("generated ids", expected=f"{wanted}, as by itself", found=str(found))


def _tolerance(model: PreTrainedModel) -> float:
    return TOLERANCES.get(model.dtype, 3e-2)


def _greedy() -> dict[str, object]:
    return {"max_new_tokens": NEW_TOKENS, "do_sample": False, "eos_token_id": None}


def _batch(
    model: PreTrainedModel,
    processor: Processor,
    items: Sequence[Item] | Sequence[Sequence[Item]],
    *,
    answer: bool = True,
    packing: Any = "none",
) -> dict[str, Tensor]:
    """`items`, or groups of them that share their images."""
    groups = [[one] if isinstance(one, Item) else list(one) for one in items]
    opened: dict[Any, Any] = {}
    for item in (item for group in groups for item in group):
        opened |= processor.images(item, opened=opened)
    encoded = [[processor.encode(item, 0, answer=answer, images=opened) for item in group] for group in groups]
    pad = cast("int", processor.tokenizer.pad_token_id) or 0
    batch = Collator(pad_token_id=pad, packing=packing)(encoded)
    return _on(
        model,
        {
            name: one
            for name, one in batch.items()
            if isinstance(one, Tensor) and name not in ("index", "label_sources")
        },
    )


def _on(model: PreTrainedModel, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: one.to(model.device, model.dtype if one.is_floating_point() else None) for name, one in tensors.items()
    }


@cache
def _picture(size: Size, seed: int = 0) -> Image.Image:
    """Noise of this size, the same object for the same arguments: what several questions may be about."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _question(
    *sizes: Size, key: str = "a", text: str = "What is in the image?", seed: int = 0, rounds: int = 1
) -> Item:
    """A conversation about images of these sizes."""
    turns: list[dict[str, Any]] = []
    for number in range(rounds):
        asked = "<image>" * len(sizes) + ("\n" if sizes else "") + text if number == 0 else "And now?"
        turns += [{"from": "human", "value": asked}, {"from": "gpt", "value": "A dog on a red chair."}]
    images = [_picture(size, seed + number) for number, size in enumerate(sizes)]
    source: dict[str, Any] = {"images": images} if len(images) > 1 else {"image": images[0]} if images else {}
    if len(images) > 1:
        turns[0]["image"] = len(images) - 1
    return read_item({**source, "conversations": turns}, key=key)

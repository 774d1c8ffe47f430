"""What works of one type of transformers' vision language models: each thing is done, on its tiny stand-in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoTokenizer

from mllm.compat.transformers_processors import make_transformers_processor, processor_class, with_marks
from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, MllmError, one_line
from mllm.models.adapters.injection import inject_adapters
from mllm.models.adapters.settings import read_adapters
from mllm.models.auto import read_image_processor
from mllm.models.prompt_format import usual_prompt_format
from mllm.records import read_item
from mllm.registry import CODECS, MODELS, TEMPLATES
from mllm.types import Item
from tools.native.stand_ins import save_stand_in

THINGS = ("trains", "LoRA", "QLoRA", "evaluates", "packs", "shares", "several images")
METHODS = ("trains", "lora", "qlora", "evaluates", "packs", "shares", "several_images")
SIZES = ((80, 48), (48, 100))
LOGITS = 1e-4
GRADIENTS = 1e-4
NEW = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}


class Failed(Exception):
    """What was done came out otherwise than it should."""


class Checked:
    """A type's stand-in, and what is done with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def build(self, **arguments: Any) -> tuple[Any, Processor]:
        args = {"type": "hf", "model_name_or_path": self.folder, **arguments}
        prompt_format = usual_prompt_format(args)
        tokenizer = cast("Any", AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False))
        model = MODELS.make(args, tokenizer=tokenizer)
        return model, Processor(
            tokenizer=tokenizer,
            template=TEMPLATES.make(prompt_format.template),
            codec=CODECS.make(prompt_format.codec),
            view=model.image_preprocessor(),
        )

    @cached_property
    def built(self) -> tuple[Any, Processor]:
        return self.build()

    @cached_property
    def own(self) -> Any:
        return AutoModelForImageTextToText.from_pretrained(
            self.folder, dtype=torch.float32, trust_remote_code=False
        ).eval()

    @cached_property
    def own_processor(self) -> Any:
        """Of a family that needs none for itself."""
        kind = processor_class(None, self.own.config.model_type)
        if kind is None:
            raise Failed("transformers has no processor for it to compare with")
        images = read_image_processor(self.folder)
        tokenizer = AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)
        return make_transformers_processor(kind, self.folder, tokenizer=tokenizer, image_processor=images)

    @cached_property
    def items(self) -> list[Item]:
        return [self.item("a", SIZES[0]), self.item("b", SIZES[1], seed=1)]

    def item(self, key: str, *sizes: tuple[int, int], seed: int = 0) -> Item:
        _, processor = self.built
        return item(key, *sizes, seed=seed, points=not writes_boxes(processor.codec))

    def trains(self) -> None:
        """Prompt and logits are the model's own, by its own processor; a step makes the loss smaller."""
        model, processor = self.build()
        self.same_logits(model, processor, self.items[0])
        steps_down(model, batch_of(processor, self.items[:1]))
        loss = model(**batch_of(processor, self.items)).loss.item()
        if not np.isfinite(loss):
            raise Failed(f"a loss of {loss} for two images")

    def same_logits(self, model: Any, processor: Processor, asked: Item) -> None:
        batch = batch_of(processor, [asked], answer=False)
        theirs = self.inputs(processor, asked)
        if theirs["input_ids"].tolist() != batch["input_ids"].tolist():
            raise Failed("its processor writes another prompt")
        with torch.no_grad():
            expected, found = self.own(**theirs).logits, model(**batch).logits
        found = found[:, -expected.shape[1] :, : expected.shape[2]]
        if expected.shape != found.shape or not torch.allclose(expected, found, atol=LOGITS, rtol=LOGITS):
            raise Failed("other logits than its own")

    def inputs(self, processor: Processor, asked: Item) -> dict[str, Any]:
        """What the family's own processor makes of an item's prompt."""
        view: Any = processor.view
        own = view.processor or self.own_processor
        images = [image.open() for image in asked.images]
        try:
            made = self.made(own, processor, asked, images)
        except ValueError as error:
            raise Failed(f"its own processor refuses them: {one_line(error)}") from error
        with_marks(made, own, self.own.forward)
        return {
            name: tensor.to(self.own.dtype) if isinstance(tensor, Tensor) and tensor.is_floating_point() else tensor
            for name, tensor in made.items()
            if name != "labels"
        }

    def made(self, own: Any, processor: Processor, asked: Item, images: Sequence[Any]) -> Any:
        view: Any = processor.view
        if view.asked == "":  # it writes what is not the question's words
            words = asked.turns[0].text.removeprefix("<image>" * len(images)).lstrip()
            return own(images=images, text=[words], return_tensors="pt")
        text = self.prompt(processor, asked)
        if getattr(own, "image_token", None) is None and view.family.between:  # images among the words
            parts = text.removeprefix(own.tokenizer.bos_token).split(view.token)
            pieces = [one for pair in zip(parts, [*images, ""], strict=True) for one in pair if one != ""]
            return own(text=[pieces], return_tensors="pt")
        return own(images=images, text=[text], return_tensors="pt", add_special_tokens=False)

    def prompt(self, processor: Processor, asked: Item) -> str:
        """As the family's own processor takes it: that of PaliGemma writes all but the words by itself."""
        view: Any = processor.view
        if type(processor.template).__name__ == "PaliGemma":
            return asked.turns[0].text.replace("<image>", view.token).replace("\n", "", 1)
        pieces = processor.renderer.spans(asked, asked.prompt)
        text = "".join(piece.text for piece in pieces).replace(view.token.join(view.around), view.token)
        text = text.replace(view.family.between, "") if view.family.between else text
        return text.removeprefix(view.opening)

    def lora(self, **arguments: Any) -> None:
        model, processor = self.build(**arguments)
        adapters = read_adapters({"type": "lora", "targets": ["language_model"], "r": 2})
        inject_adapters(model, adapters, {"type": "hf", "model_name_or_path": self.folder, **arguments})
        steps_down(model, batch_of(processor, self.items[:1]))

    def qlora(self) -> None:
        self.lora(quantization={"type": "bitsandbytes", "bits": 4})

    def evaluates(self) -> None:
        """Answers are the model's own, and those of a batch are those one by one."""
        model, processor = self.built
        apart = [model.generate(**batch_of(processor, [one], answer=False), **NEW)[0].tolist() for one in self.items]
        theirs = self.inputs(processor, self.items[0])
        own = self.own.generate(**theirs, **NEW)[0]
        behind = own[-len(apart[0]) :].tolist()
        if behind != apart[0]:
            raise Failed("other answers than its own")
        if model.padding_obstacle is None:
            together = model.generate(**batch_of(processor, self.items, answer=False), **NEW)
            if together.tolist() != apart:
                raise Failed("a batch answers otherwise than its rows")

    def packs(self) -> None:
        self.learns_the_same(packing="rows")

    def shares(self) -> None:
        """Training and answers."""
        model, processor = self.built
        model.check_sharing()
        self.learns_the_same(packing="shared")
        answers_the_same(model, processor, self.items[0])

    def several_images(self) -> None:
        """Two in one question, as frames of a video are: ids and logits are the model's own."""
        model, processor = self.build()  # no step has moved the statistics of its batch norms
        asked = self.item("c", *SIZES)
        self.same_logits(model, processor, asked)
        loss = model(**batch_of(processor, [asked, self.items[0]])).loss.item()
        if not np.isfinite(loss):
            raise Failed(f"a loss of {loss}")

    def learns_the_same(self, **options: Any) -> None:
        model, processor = self.built
        model.check_packing()
        first, second = self.items
        again = replace(first, turns=(replace(first.turns[0], text="<image>\nIs it red?"), first.turns[1]))
        images = processor.images(first)
        examples = [processor.encode(one, 0, images=images) for one in (first, again)]
        examples.append(processor.encode(second, 0))
        pad = cast("int", processor.tokenizer.pad_token_id)
        found: list[dict[str, Tensor]] = []
        for collate in (Collator(pad_token_id=pad, **options), Collator(pad_token_id=pad)):
            batch = cast("dict[str, Any]", collate(examples))
            model.zero_grad()
            outcome = model(**{name: batch[name] for name in batch if name not in ("index", "label_sources")})
            outcome.loss.backward()
            found.append({"loss": outcome.loss.detach(), **gradients(model)})
        model.zero_grad()
        model.train()
        batch = cast("dict[str, Any]", Collator(pad_token_id=pad, **options)(examples))
        model(**{name: batch[name] for name in batch if name not in ("index", "label_sources")})
        model.eval()
        for name, expected in found[1].items():
            scale = max(expected.abs().max().item(), 1e-2)
            if (found[0][name] - expected).abs().max().item() > GRADIENTS * scale:
                raise Failed(f"another {'loss' if name == 'loss' else 'gradient'} than apart")


def writes_boxes(codec: Any) -> bool:
    try:
        codec.write_boxes([(0.0, 0.0, 1.0, 1.0)], (8, 8))
    except ConfigError:
        return False
    return True


def item(key: str, *sizes: tuple[int, int], seed: int = 0, points: bool = False) -> Item:
    """A question about images of these sizes, and the box of something in the last one, or its middle."""
    made = np.random.default_rng(seed)
    pixels = [made.integers(0, 256, (height, width, 3), dtype=np.uint8) for width, height in sizes]
    last, (width, height) = len(sizes) - 1, sizes[-1]
    kind = "points" if points else "boxes"
    turns = [
        {"from": "human", "value": f"{'<image>' * len(sizes)}\nWhere is the red circle?", "image": last},
        {"from": "gpt", "value": f"Answer: <{kind}> .", f"{kind}_seq": [[0]]},
    ]
    box, middle = [width / 4, height / 4, width / 2, height / 2], [3 * width / 8, 3 * height / 8]
    target: dict[str, Any] = {kind: [middle if points else box]}
    images = [Image.fromarray(array) for array in pixels]
    if len(sizes) > 1:
        target[f"{kind}_image"] = [last]
    source = {"images": images} if len(sizes) > 1 else {"image": images[0]}
    return read_item({**source, "target": target, "conversations": turns}, key=key)


def batch_of(
    processor: Processor, items: Sequence[Item], *, answer: bool = True, shared: bool = False
) -> dict[str, Tensor]:
    """`shared`: of prompts about the same images, which are in it once."""
    images = processor.images(items[0]) if shared else None
    examples = [processor.encode(one, number, answer=answer, images=images) for number, one in enumerate(items)]
    collate = Collator(
        pad_token_id=cast("int", processor.tokenizer.pad_token_id), packing="shared" if shared else "none"
    )
    batch = cast("dict[str, Tensor]", collate([examples] if shared else examples))
    return {name: tensor for name, tensor in batch.items() if name not in ("index", "label_sources")}


def gradients(model: Any) -> dict[str, Tensor]:
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def steps_down(model: Any, batch: Mapping[str, Tensor]) -> None:
    """A step of length 0.02 against the gradient makes the loss smaller, with the same numbers dropped out."""
    model.train()
    torch.manual_seed(0)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    before = model(**batch).loss
    before.backward()
    reached = [parameter.grad for parameter in trained if parameter.grad is not None]
    if not reached:
        raise Failed("no gradient")
    norm = torch.stack([gradient.norm() for gradient in reached]).norm().item()
    if not np.isfinite(norm) or not norm:
        raise Failed(f"a gradient of {norm}")
    with torch.no_grad():
        for parameter in trained:
            if parameter.grad is not None:
                parameter -= 0.02 / norm * parameter.grad
        torch.manual_seed(0)
        after = model(**batch).loss
    model.eval()
    model.zero_grad()
    if not after < before:
        raise Failed(f"a step raises the loss from {before.item():.5f} to {after.item():.5f}")


def answers_the_same(model: Any, processor: Processor, first: Item) -> None:
    """Two questions about one image, behind one reading of it and each read whole."""
    again = replace(first, turns=(replace(first.turns[0], text="<image>\nIs it a dog or not?"), first.turns[1]))
    questions = [first, again]
    apart = [model.generate(**batch_of(processor, [one], answer=False), **NEW)[0].tolist() for one in questions]
    found = model.generate_with_shared_prefix(**batch_of(processor, questions, answer=False, shared=True), **NEW)
    if found.tolist() != apart:
        raise Failed("other answers behind one reading")


def verdicts(model_type: str, folder: Path) -> Iterator[tuple[str, str]]:
    """What was done, and "yes" or why not."""
    why = said(lambda: save_stand_in(model_type, folder))
    if why != "yes":
        yield "all", why
        return
    checked = Checked(folder)
    why = said(lambda: checked.built)
    if why != "yes":
        yield "all", why
        return
    doing = dict(zip(THINGS, METHODS, strict=True))
    for thing, name in doing.items():
        yield thing, said(getattr(checked, name))


def said(do: Callable[[], object]) -> str:
    """Any failure is a verdict: what is asked is whether it works."""
    try:
        do()
    except (Failed, MllmError, ImportError) as error:
        return one_line(error)
    except Exception as error:  # noqa: BLE001  a type that fails in a way of its own is what the table is about
        return f"{type(error).__name__}: {one_line(error)}"
    return "yes"

"""One loaded model that answers questions: what `mllm predict --model` and notebooks use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import LogitsProcessorList

from mllm.conversation.collator import Collator
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, DataError, ModelError, printable
from mllm.files import writing_to
from mllm.generation_args import as_generate_takes_them
from mllm.images import image_ref
from mllm.models.adapters.injection import base_of
from mllm.models.base import VisionLanguageModel
from mllm.models.prompt_format import kind_of
from mllm.models.runtime.decoding import FiniteScores
from mllm.pipeline.build import build_model
from mllm.pipeline.evaluate import stopping
from mllm.pipeline.run_checks import check_generation
from mllm.pipeline.train_data import to_device
from mllm.report.drawing import draw
from mllm.types import BOXES, IMAGE, Item, Prediction

ImageSource = str | Path | Image.Image


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A model on its device, with its processor."""

    model: VisionLanguageModel
    processor: Processor
    device: torch.device

    @classmethod
    def load(cls, folder: str | Path, *, device: str | None = None, **model_args: Any) -> Session:
        """Load the model in a local folder: one that mllm trained, or any that `model_name_or_path` takes.

        Args:
            folder: a local folder; nothing is downloaded.
            device: as in torch; None: a GPU if there is one.
            model_args: as in a config (`type`, `codec`, `template`, `dtype`, ...), if the folder does not record them
                or should not be followed.

        Raises:
            ModelError: there is no such folder, or it does not record the type of the model.
            ConfigError: there is no such device.
        """
        folder = str(folder)
        if not Path(folder).is_dir():
            raise ModelError(where=folder, expected="the folder of a trained model", found="no such folder")
        where = usable_device(device)
        given = {name: value for name, value in model_args.items() if value is not None}
        if "type" not in given:
            stored = base_of(folder)
            given["type"] = stored[0]["type"] if stored else kind_of(folder)
        processor, model = build_model({**given, "model_name_or_path": folder}, {}, None)
        return cls(model=model.to(where).eval(), processor=processor, device=where)

    def ask(
        self,
        question: str,
        images: Sequence[ImageSource] = (),
        *,
        boxes: Sequence[Sequence[float]] = (),
        answer_image: int | None = None,
        generation: Mapping[str, Any] | None = None,
    ) -> Prediction:
        """Answer one question; boxes and points of the answer are in pixels of the original image.

        Args:
            question: `<image>` stands for the next image (if there is none, the images come first), `<boxes>` for the
                next box.
            images: paths, URLs or PIL images.
            boxes: x1, y1, x2, y2 in pixels of the first image.
            answer_image: the index of the image that the answer is about; None: that of the question's boxes, else 0.
            generation: arguments of `generate`; by default greedy, at most 64 new tokens.

        Raises:
            DataError: the placeholders do not match the images or boxes, or an image cannot be read.
        """
        if not question.strip():
            raise DataError(field="question", expected="a text with a word", found=repr(question))
        if images and IMAGE not in question:
            question = IMAGE * len(images) + "\n" + question
        turn = {
            "from": "human",
            "value": question,
            "boxes_seq": [[n] for n in range(question.count(BOXES))],
            "image": answer_image,
        }
        if len(turn["boxes_seq"]) != len(boxes):
            raise DataError(
                where="question",
                expected=f"a box for each of its {len(turn['boxes_seq'])} {BOXES}",
                found=str(len(boxes)),
            )
        record = {"images": list(images), "target": {"boxes": [list(box) for box in boxes]}, "conversations": [turn]}
        item = Item.from_dict(record, key="question")
        pad: Any = self.processor.tokenizer.pad_token_id
        batch = to_device(dict(Collator(pad_token_id=pad)([self.processor.encode(item, 0, answer=False)])), self.device)
        del batch["index"]
        check_generation(generation, "generation")
        arguments = {
            "max_new_tokens": 64,
            "do_sample": False,
            **stopping(self.processor),
            **as_generate_takes_them(generation or {}),
        }
        with torch.no_grad():
            ids = self.model.generate(**batch, **arguments, logits_processor=LogitsProcessorList([FiniteScores()]))
        return self.processor.decode(ids[0].tolist(), item, 0)


def usable_device(name: str | None) -> torch.device:
    """The device with this name, as in torch; None: a GPU if there is one.

    Raises:
        ConfigError: there is no such device, or it cannot be used.
    """
    try:
        device = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=device).item()
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ConfigError(
            reason[:200], where="--device", expected="a device that can be used", found=f"{name!r:.40}"
        ) from error
    return device


def answer(
    folder: str,
    prompt: str,
    images: Sequence[str] = (),
    *,
    boxes: Sequence[Sequence[float]] = (),
    answer_image: int | None = None,
    drawing: str | None = None,
    device: str | None = None,
    max_new_tokens: int = 64,
    num_beams: int = 1,
    **model_args: Any,
) -> None:
    """Print what the model in the folder answers; `drawing`: a file for its boxes and points, drawn on the images.

    The other arguments are those of `Session.load` and `Session.ask`.
    """
    if drawing:
        _check_drawing(drawing, images)
    session = Session.load(folder, device=device, **model_args)
    generation = {"max_new_tokens": max_new_tokens, "num_beams": num_beams}
    said = session.ask(prompt, images, boxes=boxes, answer_image=answer_image, generation=generation)
    print(printable(said.text, keep="\n\t"))
    for box in said.boxes:
        print("box  ", *(f"{value:.1f}" for value in box.xyxy))
    for point in said.points:
        print("point", *(f"{value:.1f}" for value in point.xy))
    if said.failure:
        print(f"a region of the answer could not be read: {said.failure}")
    if drawing:
        for path in draw_answer(said, images, Path(drawing), answer_image or 0):
            print(f"drawn: {path}")


def _check_drawing(path: str, images: Sequence[str]) -> None:
    if not Path(path).absolute().parent.is_dir():
        raise ConfigError(where="--draw", expected="a file in an existing folder", found=path)
    if not images:
        raise ConfigError(where="--draw", expected="an --image to draw on", found="none")
    if Path(path).suffix.lower() not in Image.registered_extensions():
        raise ConfigError(where="--draw", expected="the name of an image file, such as answer.png", found=path)


def draw_answer(answer: Prediction, images: Sequence[ImageSource], path: Path, about: int = 0) -> list[Path]:
    """Write each image that the answer has boxes or points on, upright as the model saw it; returns the paths.

    The first is `path`, the second gets the suffix _2, and so on. An answer without regions is drawn on image `about`.
    """
    regions = (*answer.boxes, *answer.points)
    written: list[Path] = []
    for number in sorted({region.image for region in regions}) or [about]:
        written.append(path.with_stem(f"{path.stem}_{len(written) + 1}") if written else path)
        drawn = draw(image_ref(images[number]).open(), [region for region in regions if region.image == number])
        with writing_to(written[-1]):
            drawn.save(written[-1])
    return written

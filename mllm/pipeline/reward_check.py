"""What rewards give for the true answers and for a box around the whole image, before anything is trained.

A true answer that scores little says that boxes are read in another frame than they are written in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from mllm.conversation.processor import Processor
from mllm.conversation.rendering import IGNORE
from mllm.errors import ImageError
from mllm.pipeline.prompts import PromptDataset
from mllm.rewards.base import Rewards, mean, score_answer
from mllm.types import Box, Item, Prediction

ITEMS = 32
"""As many of the training set, from all over it."""


def reference_rewards(dataset: PromptDataset, rewards: Rewards) -> dict[str, dict[str, float | None]]:
    """The means of each reward: "true answers", and "whole image" where boxes are asked for; None: it applies to none.

    Raises:
        DataError: a reward raises, or gives no finite number, for a true answer.
    """
    true: list[Prediction] = []
    whole: list[Prediction] = []
    dataset.items.set_epoch(0)
    for index in range(0, len(dataset), max(1, len(dataset) // ITEMS)):
        try:
            for item in dataset.questions(index):
                if item.turns[-1].role == "gpt":
                    true.append(dataset.processor.decode(_true_ids(dataset.processor, item), item, index))
                if (text := _whole_image(dataset.processor, item)) is not None:
                    whole.append(dataset.processor.read(text, item, index))
        except ImageError:  # where training passes over such an item, it is passed over here
            if dataset.open.settings.on_error == "raise":
                raise
    found = {"true answers": _means(true, rewards), "whole image": _means(whole, rewards)}
    return {name: values for name, values in found.items() if values}


def format_values(values: Mapping[str, float | None]) -> str:
    return ", ".join(f"{name} -" if value is None else f"{name} {value:.3f}" for name, value in values.items())


def _means(predictions: Sequence[Prediction], rewards: Rewards) -> dict[str, float | None]:
    scored = [score_answer(rewards, prediction) for prediction in predictions]
    return {name: mean([one[name] for one in scored]) for name in rewards} if scored else {}


def _true_ids(processor: Processor, item: Item) -> list[int]:
    """Those of the last answer, as training supervises it."""
    tokens = processor.tokens(item)
    return list(_last_supervised(tokens.ids, tokens.labels))[::-1]


def _last_supervised(ids: Sequence[int], labels: Sequence[int]) -> Iterator[int]:
    """Backwards."""
    begun = False
    for token, label in zip(reversed(ids), reversed(labels), strict=True):
        if label != IGNORE:
            begun = True
            yield token
        elif begun:
            return


def _whole_image(processor: Processor, item: Item) -> str | None:
    codec = processor.codec_of_answer(item) if item.truth.boxes else None
    if codec is None:
        return None
    width, height = codec.frame.source
    return codec.write_boxes([Box(x1=0, y1=0, x2=width, y2=height, image=codec.image)])

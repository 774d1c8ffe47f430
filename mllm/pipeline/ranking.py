"""Evaluation by ranking: the answer to an item is the most likely of given candidates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from string import ascii_uppercase

import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from mllm.config.data_args import Ranking
from mllm.conversation.processor import Processor
from mllm.errors import ConfigError, DataError
from mllm.fields import check, in_field, show
from mllm.files import read_json, read_text
from mllm.json_fields import is_blank, text
from mllm.models.base import VisionLanguageModel
from mllm.models.runtime.ranking import candidate_log_probs, ranking_way
from mllm.pipeline.evaluate import Loader, Work, end_if_signalled, in_step, plan, predictions_in_order
from mllm.pipeline.train_data import ItemDataset
from mllm.types import Item, Prediction

KEPT_CANDIDATES = 32
"""Candidates whose scores a prediction keeps, the best ones: ImageNet's 1,000 for each image would fill a disk."""
DIGITS = 6
"""Decimals of a score; beyond them it depends on what else is in the batch."""


class Candidates:
    """What the answers to each item are chosen from.

    Raises:
        ConfigError: the file of candidates holds none, or one twice.
        DataError: one holds half a character.
    """

    def __init__(self, ranking: Ranking) -> None:
        self.source = ranking.candidates
        self.listed: list[str] | None = None
        if self.source not in ("options", "letters"):
            self.listed = _read(self.source) if isinstance(self.source, str) else list(self.source)
            where = self.source if isinstance(self.source, str) else "data_args.ranking.candidates"
            _check_listed(self.listed, where)

    def of(self, item: Item) -> list[str]:
        """The candidates of an item, each once.

        Raises:
            DataError: it has fewer than two options.
        """
        if self.listed is not None:
            return self.listed
        options = list(dict.fromkeys(item.truth.options))
        if len(options) < 2:
            expected = "at least two options to rank (data_args.ranking.candidates names others)"
            raise DataError(where=item.key, field="truth.options", expected=expected, found=show(options))
        return options if self.source == "options" else list(ascii_uppercase[: len(item.truth.options)])


def rank(
    model: VisionLanguageModel,
    items: ItemDataset,
    processor: Processor,
    loader: Loader,
    accelerator: Accelerator,
    *,
    ranking: Ranking,
    description: str,
    first: int = 0,
) -> Iterator[Prediction]:
    """The best candidate for every item from the `first` on, in dataset order; on every rank the same.

    Images and prompt are read once for all candidates where the model can, see `candidate_log_probs`.

    Raises:
        ConfigError: the model is sharded over processes.
        DataError: an item without candidates, or with one that cannot be an answer.
    """
    if in_step(accelerator):
        expected = "a whole model in each process: launch without FSDP and DeepSpeed"
        raise ConfigError(field="data_args.ranking", expected=expected, found="one that is sharded")
    candidates = Candidates(ranking)
    for index in range(first, len(items)):
        candidates.of(items[index])  # before anything is read
    together = ranking_way(model) == "tree"
    shares = together and model.supports_prefix_sharing
    may_share = (lambda item: not processor.ends_in_image(item)) if shares else None
    found = plan(
        items,
        loader.batch_size if together else 1,
        may_share=may_share,
        demonstrated=shares and model.branches_hold_images,
        first=first,
    )
    unpadded = replace(loader, collator=replace(loader.collator, pad_to_multiple_of=1))

    def answered(indices: Sequence[int], batch: dict[str, object]) -> list[Prediction]:
        names = [candidates.of(items[index]) for index in indices]
        said = [[ranking.answer.replace("<answer>", name) for name in each] for each in names]
        ids = [processor.answer_ids(items[index], each) for index, each in zip(indices, said, strict=True)]
        with torch.no_grad(), accelerator.autocast():
            sums = candidate_log_probs(model, batch, ids, shared=found.sharing)
        predictions: list[Prediction] = []
        for index, each, some, totals in zip(indices, names, ids, sums, strict=True):
            sizes = [len(one) if ranking.score == "mean" else 1 for one in some]
            scores = {
                name: round(total / size, DIGITS)
                for name, total, size in zip(each, totals.tolist(), sizes, strict=True)
            }
            best = sorted(scores, key=lambda name: -scores[name])[:KEPT_CANDIDATES]  # equal ones in their order
            read = processor.read(best[0], items[index], index)
            predictions.append(replace(read, candidate_scores={name: scores[name] for name in best}))
        return predictions

    def everyones() -> Iterator[list[Prediction]]:
        for indices, counts, batch in Work(items, processor, unpadded, accelerator, found, answer=False):
            end_if_signalled()
            yield gather_object(answered(indices, batch) if counts else [])

    yield from predictions_in_order(
        everyones(), range(first, len(items)), description, shown=accelerator.is_main_process
    )


def _read(path: str) -> list[str]:
    if path.endswith(".json"):
        names = read_json(path, list, ConfigError)
        in_field(path, check, names, list[str], ConfigError)
        return names
    return [line.strip() for line in read_text(path, ConfigError).splitlines() if line.strip()]


def _check_listed(names: Sequence[str], where: str | Path) -> None:
    for name in names:
        in_field(str(where), text, name)
    if blank := [name for name in names if is_blank(name)]:
        raise ConfigError(where=str(where), expected="candidates with a word", found=show(blank[0]))
    if len(set(names)) < max(len(names), 2):
        double = next((name for number, name in enumerate(names) if name in names[:number]), None)
        found = show(list(names)) if double is None else f"{show(double)} twice"
        raise ConfigError(where=str(where), expected="at least two candidates, each once", found=found)

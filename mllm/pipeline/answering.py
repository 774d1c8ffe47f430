"""The answers of a loaded model to a test set: generated or ranked, written as they come, and resumed."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from mllm.config.data_args import Ranking
from mllm.conversation.processor import Processor
from mllm.metrics.base import Metric
from mllm.models.base import VisionLanguageModel
from mllm.models.prompt_format import PromptFormat
from mllm.pipeline.evaluate import Loader, predict
from mllm.pipeline.provenance import of_data, to_json
from mllm.pipeline.ranking import rank
from mllm.pipeline.ranks import on_main
from mllm.pipeline.results import resumable, write_predictions
from mllm.pipeline.train_data import ItemDataset
from mllm.types import Prediction

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class TestSet:
    """Items to be answered, and how the answers are scored."""

    items: ItemDataset
    metric: Metric | None
    metric_config: Any = None
    """As in the config: for the record of what was scored."""
    generation: Mapping[str, Any] = field(default_factory=dict)
    ranking: Ranking | None = None
    """How answers are ranked; None: they are generated."""


def of_test(test: TestSet, processor: Processor, prompt_format: PromptFormat) -> dict[str, object]:
    """What of a score's provenance the test set says, and the way in which its items are asked and read."""
    resolution = getattr(processor.view, "described", None)
    return {
        "data": of_data(test.items),
        **({"resolution": resolution} if resolution else {}),
        "metric": to_json(test.metric_config),
        "codec": to_json(prompt_format.codec),
        "template": to_json(prompt_format.template),
        "placement": prompt_format.placement,
        **({"image_numbers": True} if prompt_format.image_numbers else {}),
        "generation": to_json(dict(test.generation)),
        "ranking": None if test.ranking is None else to_json(asdict(test.ranking)),
    }


def answer_test_set(
    model: VisionLanguageModel,
    test: TestSet,
    processor: Processor,
    loader: Loader,
    accelerator: Accelerator,
    *,
    folder: Path,
    prefix: str,
    provenance: Mapping[str, Any],
    seed: int,
    resume: bool,
) -> list[Prediction]:
    """All predictions, on every rank; the main process writes them into the folder as they come.

    `resume`: go on after those that an evaluation of the same has left there.

    Raises:
        ConfigError: what was left there is of something else.
        Interrupted: a signal came.
    """
    records = on_main(lambda: resumable(folder, prefix, test.items, provenance)) if resume else []
    if records:
        logger.info("%s: continuing after %d of %d answers", prefix, len(records), len(test.items))
    kept = [
        replace(
            processor.read(record["text"], test.items[index], index),
            candidate_scores=record.get("candidate_scores", {}),
        )
        for index, record in enumerate(records)
    ]
    given = (model, test.items, processor, loader, accelerator)
    if test.ranking is not None:
        found = rank(*given, ranking=test.ranking, description=prefix, first=len(kept))
    else:
        found = predict(*given, generation=test.generation, description=prefix, seed=seed, first=len(kept))
    if accelerator.is_main_process:
        found = write_predictions(found, folder, prefix, test.items, test.metric, about=provenance, kept=len(kept))
    return [*kept, *found]

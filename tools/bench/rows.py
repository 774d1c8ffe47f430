"""How evenly packed rows fill ranks: the shuffled order in consecutive batches against planned ones. No model runs.

    OMP_NUM_THREADS=1 python tools/bench/rows.py [--ranks 4] [--items 8] [--steps 64]

Two generated sets: `expressions`, photos with 1 to 8 referring expressions each, as `SamePicture` gives them; and
`instructions`, conversations whose lengths are log-normal, half of them with a photo. A photo is 256 tokens of a
language model of 4096, whose vision tower costs as much as 0.05 tokens of it for each. Lengths in tokens come from the
text, and costs from lengths; both sides are measured alike.

Printed for each: mean over steps of the dearest rank's cost over the mean rank's (what ranks wait), the dearest step's
over the mean, the padding share of rows of `--max-tokens`, the sharing factor (tokens of the samples one by one over
tokens of the rows), and what planning takes in process CPU time. One JSON line each, then a table.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from mllm.conversation.packing import bin_pack
from mllm.conversation.preprocessing.image_preprocessor import SquarePreprocessor
from mllm.conversation.processor import Processor
from mllm.conversation.tokenizer_training import train_tokenizer
from mllm.pipeline.planning import WINDOW, Cost, Measured, PlannedBatches, row_tokens
from mllm.pipeline.train_data import SeededEpochSampler, TrainDataset
from mllm.registry import CODECS, DATASETS, TEMPLATES
from mllm.types import IMAGE

COST = Cost(pair=1 / (6 * 4096), image_token=0.05)
WORDS = (
    *("the", "man", "woman", "dog", "red", "blue", "left", "right", "of", "in", "on", "with", "a", "small", "large"),
    *("shirt", "hat", "car", "tree", "near", "standing"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", type=int, default=4)
    parser.add_argument("--items", type=int, default=8, help="of a batch of one rank")
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--window", type=int, default=WINDOW, help="steps that are planned together")
    parser.add_argument("--max-tokens", type=int, default=4096)
    given = parser.parse_args()
    print(f"{'':34}{'rank max/mean':>14}{'step max/mean':>14}{'padding':>9}{'sharing':>9}{'tokens/CPU s':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for name, write in (("expressions", expressions), ("instructions", instructions)):
            count = given.steps * given.ranks * given.items
            dataset = encoded(write(Path(folder) / f"{name}.jsonl", count))
            for result in compare(dataset, given):
                print(json.dumps({"set": name, **result}))
                speed = f"{result['tokens_per_cpu_s']:,.0f}" if "tokens_per_cpu_s" in result else "-"
                print(
                    f"{name + ', ' + result['batches']:34}{result['rank']:14.3f}{result['step']:14.3f}"
                    f"{result['padding']:9.1%}{result['sharing']:9.2f}{speed:>14}"
                )


def compare(dataset: TrainDataset, given: argparse.Namespace) -> Iterator[dict[str, Any]]:
    order = SeededEpochSampler(dataset, seed=0)
    options: dict[str, Any] = {"batch_size": given.items, "ranks": given.ranks, "cost": COST, "window": given.window}
    plan = PlannedBatches(dataset, order, sharing=True, room=given.max_tokens, **options)
    shuffled = list(order)
    naive = [shuffled[start : start + given.items] for start in range(0, len(shuffled), given.items)]
    start = time.process_time()
    planned = list(plan)
    seconds = time.process_time() - start
    items = {index: plan.measure(index) for index in range(len(dataset))}
    tokens = sum(length.tokens for item in items.values() for length in item.lengths)
    yield {"batches": "in order", **measure(naive, items, given)}
    yield {"batches": "planned", **measure(planned, items, given), "tokens_per_cpu_s": tokens / seconds}


def measure(
    batches: Sequence[Sequence[int]], items: dict[int, Measured], given: argparse.Namespace
) -> dict[str, float]:
    rows = [groups([items[index] for index in batch]) for batch in batches]
    costs = [sum(map(COST, batch)) for batch in rows]
    steps = [costs[start : start + given.ranks] for start in range(0, len(costs), given.ranks)]
    real = places = 0
    for batch in rows:
        lengths = [row_tokens(group) for group in batch]
        filled = [sum(lengths[piece] for piece in row) for row in bin_pack(lengths, given.max_tokens)]
        real += sum(filled)
        places += max(filled) * len(filled)
    single = sum(length.tokens for batch in rows for item in chain.from_iterable(batch) for length in item.lengths)
    return {
        "rank": fmean(max(step) / fmean(step) for step in steps),
        "step": max(map(sum, steps)) / fmean(map(sum, steps)),
        "padding": 1 - real / places,
        "sharing": single / real,
    }


def groups(batch: Sequence[Measured]) -> list[list[Measured]]:
    found: dict[Any, list[Measured]] = {}
    for number, item in enumerate(batch):
        found.setdefault(number if item.images is None else item.images, []).append(item)
    return list(found.values())


def encoded(file: Path) -> TrainDataset:
    tokenizer = train_tokenizer([" ".join(WORDS)] * 2, vocab_size=400)
    tokenizer.add_tokens([IMAGE], special_tokens=True)
    view = SquarePreprocessor(size=224, mean=(0.5,) * 3, std=(0.5,) * 3, tokens=256)
    prompt_format: dict[str, Any] = {"template": TEMPLATES.make("vicuna_v1"), "codec": CODECS.make("shikra")}
    processor = Processor(tokenizer=tokenizer, view=view, **prompt_format)
    return TrainDataset(DATASETS.make({"type": "Instruct", "filename": str(file)}), processor, split=True)


def expressions(file: Path, count: int) -> Path:
    rng = random.Random(0)
    return written(file, (conversation(rng, number, rng.randint(1, 8), 4, 12) for number in range(count)))


def instructions(file: Path, count: int) -> Path:
    rng = random.Random(1)
    lengths = (min(1500, int(rng.lognormvariate(4.5, 1))) for _ in range(count))
    return written(
        file, (conversation(rng, number if rng.random() < 0.5 else None, 1, 8, n) for number, n in enumerate(lengths))
    )


def conversation(rng: random.Random, image: int | None, rounds: int, asked: int, answered: int) -> dict[str, Any]:
    """`rounds` questions of `asked` words, with answers of `answered`."""
    turns: list[dict[str, str]] = []
    for number in range(rounds):
        slot = f"{IMAGE}\n" if image is not None and number == 0 else ""
        turns.append({"from": "human", "value": slot + " ".join(rng.choices(WORDS, k=asked))})
        turns.append({"from": "gpt", "value": " ".join(rng.choices(WORDS, k=answered + 1))})
    return {**({} if image is None else {"image": f"{image}.jpg"}), "conversations": turns}


def written(file: Path, records: Iterator[dict[str, Any]]) -> Path:
    file.write_text("\n".join(map(json.dumps, records)), encoding="utf-8")
    return file


if __name__ == "__main__":
    main()

"""What a prefix tree saves in an update: several answers to each of several questions about one image.

    python tools/bench/fixture.py /tmp/fixture
    OMP_NUM_THREADS=1 python tools/bench/trees.py /tmp/fixture [--answers 8] [--new-tokens 24] [--rounds 3]
    OMP_NUM_THREADS=1 python tools/bench/trees.py /tmp/fixture --answers 1 --least 1 4 8 16

The fixture's model, with its vision tower frozen, in float32. A batch holds all questions about its first image with so
many answers of random tokens each. The same samples, forward and backward, as

- one by one: padded rows (of one answer to each question, as all take the same time);
- the image once: a row where all branch from their common beginning, the image and the words that all questions share;
- a tree: also questions, and what some of them share, are in the row once.

Rounds alternate in one process, so that what else the machine does falls on all. Printed: tokens, segments, medians of
samples per second of process CPU time, and the loss of each, which must be the same. `--least`: trees whose segments
have at least so many tokens, see `prefix_tree.LEAST`.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from mllm.conversation import prefix_tree
from mllm.conversation.collator import Collator
from mllm.conversation.packing import labels_of, split_rounds
from mllm.pipeline.build import build_model
from mllm.registry import DATASETS
from mllm.types import EncodedSample

sys.path.insert(0, str(Path(__file__).parent))
from train import config_of

NEVER = 10**9
"""Tokens that no segment has."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("fixture", help="a folder that fixture.py wrote, with several questions about an image")
    parser.add_argument("--answers", type=int, default=8, help="to each question")
    parser.add_argument("--new-tokens", type=int, default=24, help="of an answer")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--least", type=int, nargs="*", default=[prefix_tree.LEAST])
    given = parser.parse_args()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    torch.manual_seed(0)
    model, examples = setting(given)
    few = examples[:: given.answers]
    batches = {
        "one by one": (few, collate(few, "none")),
        "the image once": (examples, collate(examples, "shared", NEVER)),
        **{f"a tree, from {n} tokens": (examples, collate(examples, "shared", n)) for n in given.least},
    }
    spent: dict[str, list[float]] = {name: [] for name in batches}
    losses: dict[str, float] = {}
    for _ in range(given.rounds + 1):  # the first warms up
        for name, (_, batch) in batches.items():
            start = time.process_time()
            loss = model(**batch).loss
            loss.backward()
            spent[name].append(time.process_time() - start)
            losses[name] = loss.item()
            model.zero_grad()
    print(f"{'':28}{'samples':>8}{'tokens':>8}{'segments':>9}{'samples / CPU s':>16}{'ratio':>7}{'loss':>9}")
    speeds = {name: len(batches[name][0]) / statistics.median(times[1:]) for name, times in spent.items()}
    for name, (samples, batch) in batches.items():
        segments = batch["segment_ids"] if "segment_ids" in batch else batch["attention_mask"].cumsum(0) - 1
        tokens = int((segments >= 0).sum()) if "segment_ids" in batch else int(batch["attention_mask"].sum())
        print(
            f"{name:28}{len(samples):8}{tokens:8}{int(segments.max()) + 1:9}{speeds[name]:16.2f}"
            f"{speeds[name] / speeds['one by one']:7.2f}{losses[name]:9.4f}"
        )


def setting(given: argparse.Namespace) -> tuple[Any, list[EncodedSample]]:
    """The fixture's model, and samples about its first image."""
    config = config_of(given.fixture, {"packing": "shared"})
    items = DATASETS.make(config["data_args"]["train"])
    processor, model = build_model(config["model_args"], {}, items)
    questions = split_rounds(items[0])
    images = processor.images(questions[0])
    asked = [processor.encode(each, number, images=images) for number, each in enumerate(questions)]
    rng = random.Random(0)
    some = range(100, processor.tokenizer.vocab_size)
    answers = [rng.choices(some, k=given.new_tokens) for _ in range(len(asked) * given.answers)]
    model.train()
    return model, [
        answered(example, answers[number * given.answers + n])
        for number, example in enumerate(asked)
        for n in range(given.answers)
    ]


def answered(example: EncodedSample, ids: Sequence[int]) -> EncodedSample:
    """The same prompt with another answer."""
    start = int((labels_of(example) >= 0).nonzero()[0])
    answer = torch.tensor(ids)
    return replace(
        example,
        input_ids=torch.cat([example.input_ids[:start], answer]),
        labels=torch.cat([labels_of(example)[:start], answer]),
    )


def collate(examples: Sequence[EncodedSample], packing: Any, least: int = prefix_tree.LEAST) -> Any:
    usual, prefix_tree.LEAST = prefix_tree.LEAST, least
    batch = Collator(pad_token_id=0, packing=packing)(examples)
    prefix_tree.LEAST = usual
    return {name: value for name, value in batch.items() if name not in ("index", "label_sources")}


if __name__ == "__main__":
    main()

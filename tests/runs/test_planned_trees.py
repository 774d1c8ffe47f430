"""What a plan knows of the trees of a batch before any pixel is read, and the rows that the batch then has."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from mllm.conversation.collator import Collator
from mllm.pipeline.planning import Cost, PlannedBatches, row_tokens
from mllm.pipeline.train_data import SeededEpochSampler, TrainDataset
from mllm.records import read_item
from mllm.types import Item
from tests.pipeline.packed import build
from tests.pipeline.tiny import Items

RED, BLUE = ({"image": Image.new("RGB", (32, 32), colour)} for colour in ("red", "blue"))
LONG, ALIKE = "Which colour has the small thing beside the large one?", "Which colour has the small thing on the left?"


def ask(*rounds: tuple[str, str], **record: Any) -> Item:
    """An item of these questions and answers; the boxes of the record are those that the first question mentions."""
    turns: list[dict[str, Any]] = []
    for question, answer in rounds:
        turns += [{"from": "human", "value": question}, {"from": "gpt", "value": answer}]
    if "target" in record:
        turns[0]["boxes_seq"] = [[0]]
    return read_item({**record, "conversations": turns}, key=str(rounds))


@pytest.fixture(scope="module")
def dataset() -> TrainDataset:
    first, second = (ask(("<image>\nWhat?", "It."), **shown).images for shown in (RED, BLUE))
    items = [
        *(ask((f"<image>\n{said}", answer), **RED) for answer in ("Red.", "None.") for said in (LONG, ALIKE, "What?")),
        ask(("What is in <image> here?", "Red."), **RED),
        ask((f"<image>\n{LONG}", "A."), (ALIKE, "B."), (LONG, "C."), **RED),
        *(ask((f"<image>\n{LONG}", answer), **BLUE) for answer in ("Blue.", "None.")),
        ask((LONG, "A."), (ALIKE, "B."), (LONG, "C.")),
        *(
            ask(("<image>\nWhat is at <boxes> here, among all that is there?", "It."), **BLUE, target={"boxes": [box]})
            for box in ([1, 2, 20, 30], [9, 2, 20, 30], [9, 2, 20, 30])
        ),
    ]
    blue = {8, 9, 11, 12, 13}
    items = [
        replace(item, images=second if n in blue else first) if item.images else item for n, item in enumerate(items)
    ]
    return TrainDataset(Items(items), build()[1], split=True)


def planned(dataset: TrainDataset, indices: Iterable[int]) -> int:
    order = SeededEpochSampler(dataset, seed=0)
    plan = PlannedBatches(dataset, order, batch_size=1, ranks=1, cost=Cost(), sharing=True)
    return row_tokens([plan.measure(index) for index in indices])


def real(dataset: TrainDataset, indices: Iterable[int], room: int | None = None) -> list[int]:
    batch = Collator(pad_token_id=0, packing="shared", max_tokens=room)([dataset[index] for index in indices])
    return (batch["segment_ids"] >= 0).sum(1).tolist()


@pytest.mark.parametrize(
    "indices",
    [(0, 3), (0, 1, 2), range(8), (0, 6), (3, 7), (8, 9), (10,), range(7, -1, -1)],
    ids=["answers", "questions", "all", "words before the image", "rounds", "another", "text", "in another order"],
)
def test_a_row_is_as_long_as_it_was_planned(dataset: TrainDataset, indices: Sequence[int]) -> None:
    found = planned(dataset, indices)
    assert [found] == real(dataset, indices) == real(dataset, indices, found)
    apart = sum(len(example.input_ids) for index in indices for example in dataset[index])
    assert found < apart or (list(indices) == [0, 6] and found == apart)
    if len(indices) > 1:
        assert len(real(dataset, indices, found - 1)) == 2


def test_answers_to_one_question_are_planned_with_it_once(dataset: TrainDataset) -> None:
    """The second answer adds the last token of the prompt and its own, as the first of a question all its tokens."""
    (example,) = dataset[3]
    learned = int((example.labels >= 0).sum())  # pyright: ignore[reportOptionalOperand]
    assert planned(dataset, (0, 3)) == planned(dataset, (0,)) + 1 + learned
    assert planned(dataset, (0, 1, 3)) < planned(dataset, (0, 1)) + 3 + learned


def test_a_question_that_mentions_regions_is_planned_as_its_own(dataset: TrainDataset) -> None:
    """Of its regions only the number is known; equal ones then share more than was planned, and no row is too long."""
    first, second, same = (11, 12, 13)
    assert planned(dataset, (first, second)) >= real(dataset, (first, second))[0]
    assert planned(dataset, (second, same)) > real(dataset, (second, same))[0]
    before = ask(("Is <boxes> in <image> there?", "It."), **BLUE, target={"boxes": [[1, 2, 20, 30]]})
    assert dataset.processor.length(before).shared == 0


def test_max_length_cuts_what_may_be_shared_and_leaves_a_token(dataset: TrainDataset) -> None:
    processor = dataset.processor
    (whole,) = dataset.lengths(0)[1]
    asked = whole.shared + len(whole.question)
    try:
        for limit in (asked + 3, asked + 1, asked - 2):
            processor.max_length = limit
            (cut,) = dataset.lengths(0)[1]
            assert cut.tokens == limit
            assert cut.question == whole.question[: min(asked, limit - 1) - whole.shared]
            assert [planned(dataset, (0, 3))] == real(dataset, (0, 3))
    finally:
        processor.max_length = None


def test_items_with_other_system_messages_share_no_image(dataset: TrainDataset) -> None:
    items = [replace(dataset.items[index], system=system) for index in (0, 3) for system in ("Be short.", "Be long.")]
    made = TrainDataset(Items(items), dataset.processor, split=True)
    assert [planned(made, (0, 1))] == real(made, (0, 1)) == [planned(made, (0,)) + planned(made, (1,))]
    assert [planned(made, range(4))] == real(made, range(4))
    assert planned(made, range(4)) == planned(made, (0, 2)) + planned(made, (1, 3))

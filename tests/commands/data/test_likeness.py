from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mllm.commands.data import likeness
from mllm.commands.data.likeness import (
    Comparison,
    Pairs,
    first_equal,
    near_hashes,
    near_signatures,
    partners,
)


def listed(pairs: Iterable[Pairs]) -> dict[tuple[int, int], int]:
    return {(int(a), int(b)): int(apart) for found in pairs for a, b, apart in zip(*found, strict=True)}


def array(rows: Any, kind: Any = np.int64) -> Any:
    return np.array(rows, kind)


@given(st.integers(0, 16), st.integers(0, 2**32), st.integers(0, 3))
@settings(deadline=None)
def test_near_hashes_are_those_of_comparing_each_with_each(bits: int, seed: int, more: int) -> None:
    rng = random.Random(seed)
    hashes = [rng.getrandbits(64) for _ in range(8)]
    for number in range(8):
        changed = hashes[number]
        for bit in rng.sample(range(64), rng.randrange(1, 18)):
            changed ^= 1 << bit
        hashes.append(changed)
    hashes = list(dict.fromkeys(hashes))
    found = listed(near_hashes(array(hashes, np.uint64), bits, Comparison()))
    expected = {(a, b): (hashes[a] ^ hashes[b]).bit_count() for b in range(len(hashes)) for a in range(b)}
    assert found == {pair: apart for pair, apart in expected.items() if apart <= bits}


@pytest.mark.parametrize("count", [5, 6, 7, 8])
def test_any_number_of_stretches_finds_the_same(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = random.Random(0)
    first = [rng.getrandbits(64) for _ in range(50)]
    near = [each ^ sum(1 << bit for bit in rng.sample(range(64), 4)) for each in first]
    monkeypatch.setattr(likeness, "_stretches", lambda entries, bits: count)
    found = listed(near_hashes(array([*first, *near], np.uint64), 4, Comparison()))
    assert found == {(number, 50 + number): 4 for number in range(50)}


def test_more_hashes_are_cut_into_more_stretches() -> None:
    assert likeness._stretches(100, 4) == 5
    assert likeness._stretches(10**7, 4) > 5


@given(st.lists(st.integers(0, 5), max_size=40))
def test_first_equal(values: list[int]) -> None:
    keys = array([[value // 2, value % 2] for value in values], np.uint64).reshape(-1, 2)
    assert first_equal(keys).tolist() == [values.index(value) for value in values]


def test_equal_keys_are_paired_each_with_each() -> None:
    keys = [7, 3, 7, 7, 9, 3, 1, 2**64 - 1]
    found = {
        (int(a), int(b))
        for first, second in Comparison().candidates(array(keys, np.uint64))
        for a, b in zip(first, second, strict=True)
    }
    assert found == {(0, 2), (0, 3), (2, 3), (1, 5)}
    assert list(Comparison().candidates(array([], np.uint64))) == []


def test_what_crowded_groups_leave_out_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(likeness, "LARGEST_BUCKET", 2)
    monkeypatch.setattr(likeness, "CHUNK", 3)
    comparison = Comparison()
    pairs = [
        (int(a), int(b))
        for first, second in comparison.candidates(array([5] * 5, np.uint64))
        for a, b in zip(first, second, strict=True)
    ]
    assert sorted(pairs) == [(0, 1), (0, 2), (1, 2), (1, 3), (2, 3), (2, 4), (3, 4)]
    assert comparison.left_out == 2  # 3 and 4 have more than two before them


def test_signatures_are_compared_where_a_band_is_equal() -> None:
    signatures = array([[1, 2, 3, 4, 5], [1, 2, 3, 4, 9], [1, 2, 8, 8, 8], [7, 7, 3, 4, 5]], np.uint32)
    bands = [array([1, 1, 1, 2], np.uint64), array([3, 4, 5, 3], np.uint64)]  # the first two and the last two places

    def near(similarity: float) -> dict[tuple[int, int], int]:
        return listed(near_signatures(bands, lambda numbers: signatures[numbers], similarity, Comparison()))

    assert near(0.8) == {(0, 1): 1}
    assert near(0.6) == {(0, 1): 1, (0, 3): 2}
    assert near(0.4) == {(0, 1): 1, (0, 2): 3, (1, 2): 3, (0, 3): 2}


def found(same: list[int], pairs: dict[tuple[int, int], int], training: int) -> list[tuple[int, int, int]]:
    rows = [*pairs.items()]
    arrays = (array([a for (a, _), _ in rows]), array([b for (_, b), _ in rows]), array([apart for _, apart in rows]))
    alike = partners(array(same), [arrays, arrays], training)
    return [(int(o), int(e), int(a)) for e, o, a in zip(alike.entries, alike.others, alike.apart, strict=True)]


def test_a_test_entry_is_paired_with_training_before_other_tests() -> None:
    assert found([0, 1, 1, 3, 0], {(0, 1): 3, (1, 3): 1}, 1) == [(0, 1, 3), (0, 2, 3), (1, 3, 1), (0, 4, 0)]


def test_the_nearest_is_taken_then_the_first() -> None:
    assert found([0, 1, 2, 3], {(0, 3): 2, (1, 3): 1, (2, 3): 1}, 4) == [(1, 3, 1)]
    assert found([0, 1, 2, 3], {(0, 3): 2, (1, 3): 1, (2, 3): 0}, 2) == [(1, 3, 1)]
    assert found([], {}, 0) == []


def reference(same: list[int], pairs: dict[tuple[int, int], int], training: int) -> list[tuple[int, int, int]]:
    """As one would write it for a few entries."""
    result = []
    for entry, equal in enumerate(same):
        close = [(0, equal)] * (equal != entry)
        close += [(apart, b if a == equal else a) for (a, b), apart in pairs.items() if equal in (a, b)]
        trained = [(apart, other) for apart, other in close if other < training]
        before = [(apart, other) for apart, other in close if other < entry]
        if best := (trained if entry >= training and trained else before):
            apart, other = min(best)
            result.append((other, entry, apart))
    return result


@given(st.integers(0, 2**32), st.integers(0, 12))
@settings(deadline=None)
def test_partners_are_those_of_a_search_by_hand(seed: int, training: int) -> None:
    rng = random.Random(seed)
    values = [rng.randrange(8) for _ in range(12)]
    same = [values.index(value) for value in values]
    firsts = sorted(set(same))
    pairs = {(a, b): rng.randint(1, 3) for b in firsts for a in firsts if a < b and rng.random() < 0.3}
    assert found(same, pairs, training) == reference(same, pairs, training)

"""Prompts that begin alike as a tree: what several share is in it once, and branches where they differ.

A picture, the questions about it, and several answers to each question make three levels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

LEAST = 8
"""Shorter segments behind the images are repeated in each branch: on a CPU, a segment of its own costs as much as
about five tokens of a small model (`docs/performance.md`, prefix trees)."""


@dataclass(frozen=True, slots=True)
class Segment:
    """A node of a tree: tokens `start` to `stop` of an example, and as far as they go of all that branch off behind."""

    example: int
    start: int
    """As many tokens are before it, all of which it sees."""
    stop: int
    parent: int | None
    """The number of the segment that it continues, which comes before it; None for a root."""

    def __len__(self) -> int:
        return self.stop - self.start


def prefix_tree(prompts: Sequence[Sequence[int]], lengths: Sequence[int], *, head: int = 0) -> list[Segment]:
    """The compressed trie of examples, depth first; the branches of a segment are in the order of the examples.

    Each example ends in a segment of its own, with at least one token of what is behind its prompt.

    Args:
        prompts: ids that an example may share, behind the head.
        lengths: tokens of each example; more than its head and its prompt.
        head: so many tokens are at the beginning of all examples, with all their images. They are always shared.
    """
    found: list[Segment] = []
    by_prompt = sorted(range(len(prompts)), key=lambda number: [*prompts[number]])
    # groups sorted by prompt, whose first `known` ids are the same, and what their next segment begins with
    todo: list[tuple[list[int], int, int, int | None]] = [(by_prompt, 0, 0, None)] if prompts else []
    while todo:
        group, known, start, parent = todo.pop()
        first, last = group[0], group[-1]
        if first == last:
            found.append(Segment(first, start, lengths[first], parent))
            continue
        known = _alike(prompts[first], prompts[last], known)
        stop = head + known
        if start < head or stop - start >= LEAST:
            found.append(Segment(min(group), start, stop, parent))
            start, parent = stop, len(found) - 1
        todo += [(branch, known, start, parent) for branch in reversed(_branches(prompts, group, known))]
    return found


def leaves(tree: Sequence[Segment], lengths: Sequence[int]) -> list[int]:
    """The examples in the order in which the tree ends them."""
    return [segment.example for segment in tree if segment.stop == lengths[segment.example]]


def _alike(first: Sequence[int], last: Sequence[int], known: int) -> int:
    """How many ids are the same at the beginning of both, and so of all that are sorted between them."""
    while known < min(len(first), len(last)) and first[known] == last[known]:
        known += 1
    return known


def _branches(prompts: Sequence[Sequence[int]], group: Sequence[int], known: int) -> list[list[int]]:
    """The group by the next id; who has none is alone."""
    found: dict[int | tuple[int], list[int]] = {}
    for example in group:
        prompt = prompts[example]
        found.setdefault(prompt[known] if len(prompt) > known else (example,), []).append(example)
    return sorted(found.values(), key=min)

"""The log-probability of given answers behind a prompt that is read once.

Three ways, the first that a language model can take exactly:

- The candidates of a prompt are a tree of tokens, in which a common beginning stands once, in one row behind the cache.
- They are rows behind copies of the cache, where positions follow from what the cache holds (MPT), or it forgets.
- Each is read with the prompt, where a state cannot go on by several tokens (Mamba, T5).

Shape suffixes: B prompts, P tokens of the cache, S tokens of a tree, R candidates in rows of N tokens, V vocabulary.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from mllm.compat.transformers_generation import CACHE, arguments_after, missing_steps, prefill
from mllm.compat.transformers_models import attention_of
from mllm.errors import ModelError
from mllm.models.language_models import position_limit, sharing_obstacle
from mllm.models.runtime.loss import IGNORE_INDEX, LOGITS_AT_ONCE
from mllm.models.runtime.packed_attention import FLEX, PACKED

if TYPE_CHECKING:
    from mllm.models.base import VisionLanguageModel

RankingWay = Literal["tree", "rows", "alone"]
Ids = Sequence[int]
ROW_TOKENS = 8192
"""Tokens of all copies of a cache at once, and of what stands behind them."""
PER_TOKEN = ("position_ids", "token_type_ids", "mm_token_type_ids", "moe_mm_token_type_ids")
"""Arguments of a step that hold a value for each of its tokens, in their last dimension."""


def ranking_way(model: VisionLanguageModel) -> RankingWay:
    """How a `VisionLanguageModel` reads candidates; `alone` takes one prompt at a time, and so does `rows`."""
    if missing_steps() or model.continuing_obstacle is not None:
        return "alone"
    text = model.text_model
    masked = attention_of(text.config) in ("sdpa", "eager", PACKED, FLEX)
    return "tree" if masked and sharing_obstacle(text) is None else "rows"


@torch.no_grad()
def candidate_log_probs(
    model: Any, arguments: Mapping[str, Any], candidates: Sequence[Sequence[Ids]], *, shared: bool = False
) -> list[Tensor]:
    """The sum of the log-probabilities of the tokens of each candidate, float64 [candidates] for each prompt.

    Args:
        model: a `VisionLanguageModel`.
        arguments: prompts and their images, as its `generate` takes them; with `shared` as
            `generate_with_shared_prefix`.
        candidates: of each prompt the token ids of its candidates, none of them empty.

    Raises:
        ModelError: a value is not a number, there are more tokens than the model has positions, or several prompts
            where each is to be read alone.
    """
    way = ranking_way(model)
    if way != "tree" and len(candidates) > 1:
        raise ModelError(f"{type(model).__name__} ranks the candidates of one prompt at a time")
    if way == "alone":
        found = [_alone(model, arguments, candidates[0])]
    else:
        found = []
        generate = model.generate_with_shared_prefix if shared else model.generate
        read = partial(_behind_prompt, way, candidates, found)
        cached = {"use_cache": True} if way == "rows" else {}  # a folder of MPT may say otherwise
        generate(**arguments, custom_generate=read, max_new_tokens=1, do_sample=False, num_beams=1, **cached)
    if not all(bool(sums.isfinite().all()) for sums in found):
        raise ModelError("the scores of candidates are nan or infinite: the model diverged in training")
    return found


def _alone(model: PreTrainedModel, arguments: Mapping[str, Any], candidates: Sequence[Ids]) -> Tensor:
    rest = dict(arguments)
    prompt_1P = rest.pop("input_ids")
    mask_1P = rest.pop("attention_mask")
    sums: list[float] = []
    for ids in candidates:
        ids_1N = torch.tensor([ids], device=prompt_1P.device)
        labels = torch.cat([torch.full_like(prompt_1P, IGNORE_INDEX), ids_1N], 1)
        row = {"input_ids": torch.cat([prompt_1P, ids_1N], 1), "labels": labels}
        mask = torch.cat([mask_1P, torch.ones_like(ids_1N)], 1)
        sums.append(-float(model(**row, attention_mask=mask, **rest, num_items_in_batch=1).loss))
    return torch.tensor(sums, dtype=torch.float64)


def _behind_prompt(
    way: RankingWay,
    candidates: Sequence[Sequence[Ids]],
    found: list[Tensor],
    model: Any,
    input_ids: Tensor,
    *,
    generation_config: Any,
    logits_processor: Any,
    stopping_criteria: Any,
    **arguments: Any,
) -> Tensor:
    """In place of the loop of `generate`: read the prompts, then the candidates behind them."""
    outputs = prefill(model, input_ids, generation_config, arguments)
    arguments = arguments_after(model, outputs, arguments)
    cache = arguments.pop(CACHE)
    next_BT = torch.cat([input_ids, input_ids.new_zeros(len(candidates), 1)], 1)
    step = model.prepare_inputs_for_generation(next_BT, next_sequence_length=1, **{CACHE: cache}, **arguments)
    step |= {CACHE: cache, "use_cache": True, "return_dict": True}
    step.pop("logits_to_keep", None)  # all of them
    scores = [_Scores(first_V, len(each)) for first_V, each in zip(outputs.logits[:, -1], candidates, strict=True)]
    mask = arguments.get("attention_mask")  # None: there is no padding
    every_BP = torch.ones(len(scores), cache.get_seq_length(), dtype=torch.bool, device=outputs.logits.device)
    prompt_BP = every_BP if mask is None else mask[:, :-1].bool()
    _check_positions(model, prompt_BP, candidates)
    if way == "tree":
        _read_trees(model, step, prompt_BP, candidates, scores)
    else:
        _read_rows(model, step, prompt_BP, candidates[0], scores[0])
    found += [each.sums for each in scores]
    return input_ids


def _check_positions(model: PreTrainedModel, prompt_BP: Tensor, candidates: Sequence[Sequence[Ids]]) -> None:
    limit = position_limit(model)
    read = [max(map(len, each)) - 1 for each in candidates]  # the last token of each is not
    longest = max(tokens + more for tokens, more in zip(prompt_BP.sum(1).tolist(), read, strict=True))
    if limit is not None and longest > limit:
        expected = f"prompts with candidates of at most {limit:,} tokens, the most that the language model reads"
        raise ModelError(expected=expected, found=f"{longest:,}")


class _Scores:
    """The sums of one prompt; `first_V` are the logits behind it."""

    def __init__(self, first_V: Tensor, candidates: int) -> None:
        self.first_1V = first_V[None].float()
        self.sums = torch.zeros(candidates, dtype=torch.float64)

    def add(self, tree: Tree, logits_SV: Tensor) -> None:
        """What the nodes of a tree say of the tokens behind them."""
        after_prompt = [each for each in tree.wanted if each[1] < 0]
        self._add(after_prompt, self.first_1V, [0] * len(after_prompt))
        behind = [each for each in tree.wanted if each[1] >= 0]
        self._add(behind, logits_SV, [node for _, node, _ in behind])

    def _add(self, wanted: Sequence[tuple[int, int, int]], logits_SV: Tensor, rows: Sequence[int]) -> None:
        if not wanted:
            return
        row_W = torch.tensor(rows, device=logits_SV.device)
        token_W = torch.tensor([token for _, _, token in wanted], device=logits_SV.device)
        logits_SV = logits_SV.float()
        found_W = logits_SV[row_W, token_W] - logits_SV.logsumexp(-1)[row_W]
        self.sums.index_add_(0, torch.tensor([number for number, _, _ in wanted]), found_W.double().cpu())


@dataclass(slots=True)
class Tree:
    """The tokens of some candidates behind a prompt, but those that end one and begin none: nothing follows them.

    Attributes:
        tokens: of its nodes, each behind its parent.
        parents: the node before each; -1: the prompt.
        wanted: (candidate, node before a token of it, that token).
    """

    tokens: list[int] = field(default_factory=list[int])
    parents: list[int] = field(default_factory=list[int])
    wanted: list[tuple[int, int, int]] = field(default_factory=list[tuple[int, int, int]])
    _children: dict[tuple[int, int], int] = field(default_factory=dict[tuple[int, int], int])

    def missing(self, ids: Ids) -> int:
        """How many nodes a candidate would add."""
        node = -1
        for place, token in enumerate(ids[:-1]):
            if (node, token) not in self._children:
                return len(ids) - 1 - place
            node = self._children[node, token]
        return 0

    def add(self, number: int, ids: Ids) -> None:
        node = -1
        for token in ids[:-1]:
            self.wanted.append((number, node, token))
            if (node, token) not in self._children:
                self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
            node = self._children[node, token]
        self.wanted.append((number, node, ids[-1]))

    @property
    def depths(self) -> list[int]:
        depths: list[int] = []
        for parent in self.parents:
            depths.append(depths[parent] + 1 if parent >= 0 else 0)
        return depths

    def sees(self, size: int) -> Tensor:
        """bool [size, size]: each node sees those before it and itself; what fills the row up, itself."""
        sees = torch.eye(size, dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                sees[node] |= sees[parent]
        return sees


def trees(candidates: Sequence[Ids], room: int) -> Iterator[Tree]:
    """The candidates in trees of at most `room` nodes; one that is longer alone makes a larger one."""
    tree = Tree()
    for number in sorted(range(len(candidates)), key=lambda number: tuple(candidates[number])):
        if tree.wanted and len(tree.tokens) + tree.missing(candidates[number]) > room:
            yield tree
            tree = Tree()
        tree.add(number, candidates[number])
    yield tree


def _read_trees(
    model: Any,
    step: dict[str, Any],
    prompt_BP: Tensor,
    candidates: Sequence[Sequence[Ids]],
    scores: Sequence[_Scores],
) -> None:
    device, cache = prompt_BP.device, step[CACHE]
    room = max(LOGITS_AT_ONCE // (scores[0].first_1V.shape[1] * len(candidates)), 1)
    eager = attention_of(model.config.get_text_config()) == "eager"
    for some in itertools.zip_longest(*(trees(each, room) for each in candidates), fillvalue=Tree()):
        size = max(len(tree.tokens) for tree in some)
        logits_BSV: Any = [scores[0].first_1V[:0]] * len(some)
        if size:
            ids_BS = torch.tensor([tree.tokens + [0] * (size - len(tree.tokens)) for tree in some], device=device)
            depth_BS = torch.tensor([tree.depths + [0] * (size - len(tree.tokens)) for tree in some], device=device)
            own_BSS = torch.stack([tree.sees(size) for tree in some]).to(device)
            sees_BSK = torch.cat([prompt_BP[:, None].expand(-1, size, -1), own_BSS], 2)
            mask = torch.where(sees_BSK, 0.0, torch.finfo(model.dtype).min).to(model.dtype) if eager else sees_BSK
            inputs = {**_longer(step, depth_BS), "input_ids": ids_BS, "attention_mask": mask[:, None]}
            logits_BSV = model(**inputs).logits
            cache.crop(-size)
        for score, tree, logits_SV in zip(scores, some, logits_BSV, strict=True):
            score.add(tree, logits_SV)


def _read_rows(
    model: PreTrainedModel, step: dict[str, Any], prompt_1P: Tensor, candidates: Sequence[Ids], scores: _Scores
) -> None:
    device, cache = prompt_1P.device, step[CACHE]
    each = [Tree() for _ in candidates]
    for number, (tree, ids) in enumerate(zip(each, candidates, strict=True)):
        tree.add(number, ids)
    longest_first = sorted((tree for tree in each if tree.tokens), key=lambda tree: -len(tree.tokens))
    for tree in each:
        if not tree.tokens:
            scores.add(tree, scores.first_1V[:0])
    while longest_first:
        rows = max(ROW_TOKENS // (prompt_1P.shape[1] + len(longest_first[0].tokens)), 1)
        some, longest_first = longest_first[:rows], longest_first[rows:]
        ids_RN = pad_sequence([torch.tensor(tree.tokens) for tree in some], batch_first=True).to(device)
        behind = copy.deepcopy(cache)  # it grows in place
        behind.batch_select_indices(torch.zeros(len(some), dtype=torch.long, device=device))
        inputs = {**_longer(step, torch.arange(ids_RN.shape[1], device=device).expand_as(ids_RN)), "input_ids": ids_RN}
        mask_RK = torch.cat([prompt_1P.expand(len(some), -1), torch.ones_like(ids_RN, dtype=torch.bool)], 1)
        inputs["attention_mask"] = mask_RK.long()
        logits_RNV = model(**{**inputs, CACHE: behind}).logits
        for tree, logits_NV in zip(some, logits_RNV, strict=True):
            scores.add(tree, logits_NV)


def _longer(step: Mapping[str, Any], depth_RS: Tensor) -> dict[str, object]:
    """The arguments of a step of one token for rows of S tokens, which stand so far behind the next one."""
    changed: dict[str, Any] = dict(step)
    for name in PER_TOKEN:
        if isinstance(step.get(name), Tensor):
            changed[name] = step[name][..., -1:] + (depth_RS if name == "position_ids" else torch.zeros_like(depth_RS))
    return changed

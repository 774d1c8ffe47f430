"""Loss, gradient and log-probabilities of TRL's GRPOTrainer, in all recorded cases; and what it has no case for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from mllm.conversation import prefix_tree
from mllm.models.runtime.advantages import advantages
from mllm.models.runtime.loss import Scoring
from mllm.models.runtime.policy_loss import AnswerBatch, entropy_threshold, policy_loss
from tests.marks import slow_but
from tests.models import grpo_reference as reference

needs_fixture = pytest.mark.skipif(reference.FIXTURE is None, reason="no reference numbers beside this checkout")
EVERY = [(kind, name) for kind in reference.KINDS for name in reference.cases(kind)] if reference.FIXTURE else []
CLOSE = {"rtol": 0.0, "atol": 1e-5}
OF_THEIR_SIZE = {"rtol": 1e-5, "atol": 1e-5}
"""Log-probabilities down to -15, after an SGD step of rate 2: ten times what float32 can tell apart there."""


def whole(answers: list[int], tokens: Tensor) -> Tensor:
    """Their [answers, longest] as our tokens side by side."""
    return torch.cat([tokens[number, : len(reference.fixture()["completions"][number])] for number in answers])


class Case:
    """A recorded case, computed by us."""

    def __init__(self, kind: str, name: str, packing: str, folder: Path) -> None:
        self.kind, self.packing, self.case = kind, packing, reference.cases(kind)[name]
        self.model = reference.model_of(kind, folder)
        self.args = reference.args_of(self.case["options"])
        every = list(range(12))
        ended = [ids[-1] == reference.END for ids in reference.fixture()["completions"]]
        self.learned = [n for n in every if ended[n] or not self.args.mask_truncated_completions]
        self.micro = [every[:6], every[6:]] if "micro" in self.case else [every]
        self.scoring = Scoring(temperature=self.args.temperature, entropy_gradient=self.args.entropy_coef > 0)
        self.advantages = advantages(
            reference.rewards(),
            torch.tensor(self.args.weights),
            group=reference.GROUP,
            scale=self.args.scale_rewards,
            aggregation=self.args.multi_objective_aggregation,
        )

    def log_probs(self, answers: list[int]) -> tuple[Tensor, Tensor]:
        kept = [number for number in answers if number in self.learned]
        return reference.scored(self.model, self.kind, kept, self.packing, self.scoring)

    def reference(self, answers: list[int]) -> Tensor | None:
        if not self.args.beta:
            return None
        policy = {name: tensor.clone() for name, tensor in self.model.state_dict().items()}
        reference.load(self.model, reference.fixture()["models"][self.kind]["ref_state_dict"], self.kind)
        with torch.no_grad():
            found = self.log_probs(answers)[0]
        self.model.load_state_dict(policy)
        return found

    def step(self, answers: list[int], old: Tensor | None) -> tuple[Tensor, dict[str, Tensor], Tensor, Tensor]:
        before = self.reference(answers)
        log_probs, entropies = self.log_probs(answers)
        texts = reference.fixture()["completions"]
        lengths = torch.tensor([len(texts[n]) if n in self.learned else 0 for n in answers])
        loss, metrics = policy_loss(
            log_probs,
            entropies,
            AnswerBatch(lengths=lengths, advantages=self.advantages[answers], old=old, reference=before),
            self.args,
            accumulated=len(self.micro),
            tokens=self.case["num_items_in_batch"],
            entropy_threshold=entropy_threshold(entropies, self.args.top_entropy_quantile),
        )
        loss.backward()
        return loss.detach(), metrics, log_probs.detach(), entropies.detach()


@needs_fixture
@pytest.mark.parametrize(("kind", "name"), slow_but(EVERY[::5], EVERY), ids=["/".join(case) for case in EVERY])
def test_policy_loss_is_that_of_trl_through_the_shared_tree(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_tree, "LEAST", 1)  # the prompts are short
    check(kind, name, "shared", tmp_path)


@needs_fixture
def test_the_shared_tree_holds_each_prompt_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix_tree, "LEAST", 1)
    batch = reference.batch_of("llava", list(range(12)), "shared")
    prompts = reference.fixture()["prompts"]
    answers = reference.fixture()["completions"]
    shared = sum(4 + len(prompt) - 1 for prompt in prompts)  # the last token is in each branch
    assert batch["input_ids"].shape == (1, shared + sum(1 + len(answer) for answer in answers))


@needs_fixture
@pytest.mark.parametrize("packing", ["none", "rows"])
@pytest.mark.parametrize("name", ["grpo_second_iteration_sequence", "dapo_mask_truncated"])
def test_policy_loss_is_that_of_trl_row_by_row(name: str, packing: str, tmp_path: Path) -> None:
    check("llava", name, packing, tmp_path)


def check(kind: str, name: str, packing: str, folder: Path) -> None:
    ours = Case(kind, name, packing, folder)
    case = ours.case
    torch.testing.assert_close(ours.advantages, case["advantages"], **CLOSE)
    old: Tensor | None = None
    if "first" in case:
        answers = list(range(12))
        loss, metrics, old, _ = ours.step(answers, None)
        torch.testing.assert_close(loss, case["first"]["loss"], **CLOSE)
        check_metrics(metrics, case["first"]["metrics"])
        torch.testing.assert_close(old, whole(answers, case["old_per_token_logps"]), **CLOSE)
        with torch.no_grad():
            for parameter in ours.model.parameters():
                if parameter.grad is not None:
                    parameter -= reference.fixture()["sgd_lr"] * parameter.grad
        ours.model.zero_grad()
    for number, answers in enumerate(ours.micro):
        loss, metrics, log_probs, entropies = ours.step(answers, old)
        recorded: dict[str, Any] = case["micro"][number] if "micro" in case else case
        torch.testing.assert_close(loss, recorded["loss"], **CLOSE)
        check_metrics(metrics, recorded["metrics"] if "micro" not in case else {})
        if "micro" not in case:
            torch.testing.assert_close(log_probs, whole(ours.learned, case["per_token_logps"]), **OF_THEIR_SIZE)
            torch.testing.assert_close(entropies, whole(ours.learned, case["entropies"]), **OF_THEIR_SIZE)
    found = dict(ours.model.named_parameters())
    for name_of_theirs, gradient in case["grads"].items():
        own = found[reference.name_of(name_of_theirs, kind, ours.model)].grad
        largest = max(1.0, float(gradient.abs().max()))
        torch.testing.assert_close(
            own, gradient, rtol=0, atol=1e-5 * largest, msg=lambda text, name=name_of_theirs: f"{name}: {text}"
        )


def check_metrics(ours: dict[str, Tensor], theirs: dict[str, float]) -> None:
    for name in theirs.keys() & {*ours, "kl", "entropy"}:
        assert float(ours[name]) == pytest.approx(theirs[name], abs=1e-5, rel=1e-5), name


def answers_of(lengths: list[int], advantage: list[float], **rest: Any) -> AnswerBatch:
    return AnswerBatch(lengths=torch.tensor(lengths), advantages=torch.tensor(advantage), **rest)


def test_answers_that_are_left_out_have_no_gradient_and_still_count_as_answers() -> None:
    log_probs = torch.tensor([-1.0, -2.0, -3.0], requires_grad=True)
    given = answers_of([2, 0, 1], [1.0, 5.0, -1.0])
    args = reference.args_of({"loss_type": "grpo"})
    loss, _ = policy_loss(log_probs, torch.zeros(3), given, args, accumulated=2, tokens=3)
    loss.backward()
    torch.testing.assert_close(log_probs.grad, torch.tensor([-1 / 12, -1 / 12, 1 / 6]))


@pytest.mark.parametrize("loss_type", ["grpo", "dr_grpo"])
def test_an_answer_counts_the_same_in_a_small_batch(loss_type: str) -> None:
    """Four answers of one batch have the gradients that they have as one and three of two."""
    args = reference.args_of({"loss_type": loss_type})
    lengths, advantage = [2, 1, 3, 2], [1.0, -1.0, 0.5, 2.0]
    found = []
    for split in ([(0, 4)], [(0, 1), (1, 4)]):
        log_probs = torch.full((8,), -1.0, requires_grad=True)
        for first, last in split:
            some = slice(sum(lengths[:first]), sum(lengths[:last]))
            given = answers_of(lengths[first:last], advantage[first:last])
            of_batches = dict(accumulated=len(split), tokens=1, count=4 / len(split))
            policy_loss(log_probs[some], torch.zeros(8)[some], given, args, **of_batches)[0].backward()  # type: ignore[arg-type]
        found.append(log_probs.grad)
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("loss_type", ["grpo", "bnpo", "dr_grpo", "dapo"])
@pytest.mark.parametrize("level", ["token", "sequence"])
def test_a_batch_in_which_all_answers_are_left_out_has_a_loss_of_0(loss_type: str, level: str) -> None:
    log_probs = torch.zeros(0, requires_grad=True)
    args = reference.args_of({"loss_type": loss_type, "importance_sampling_level": level, "beta": 0.1})
    given = answers_of([0, 0], [1.0, -1.0], reference=torch.zeros(0))
    loss, metrics = policy_loss(log_probs, torch.zeros(0), given, args, accumulated=1, tokens=7)
    loss.backward()
    assert float(loss) == 0
    assert all(float(value) == 0 for value in metrics.values())


def test_entropy_threshold_leaves_out_the_surest_tokens() -> None:
    entropies = torch.tensor([0.0, 1.0, 2.0, 3.0])
    assert entropy_threshold(entropies, 1.0) is None
    assert entropy_threshold(entropies, 0.5) == 1.5
    log_probs = torch.full((4,), -1.0, requires_grad=True)
    given = answers_of([4], [1.0])
    args = reference.args_of({"loss_type": "bnpo", "top_entropy_quantile": 0.5})
    loss, _ = policy_loss(log_probs, entropies, given, args, accumulated=1, tokens=4, entropy_threshold=1.5)
    loss.backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == [0, 0, -0.25, -0.25]

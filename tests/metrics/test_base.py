"""The headline of every metric of regions follows from what it tells of each answer."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mllm.metrics.base import Metric, Tallied
from mllm.metrics.boxes_f1 import BoxesF1
from mllm.metrics.breakdown import breakdown
from mllm.metrics.counting import Counting
from mllm.metrics.density_f1 import DensityF1
from mllm.metrics.detection import Detection
from mllm.metrics.grec import GREC
from mllm.metrics.phrase_grounding import PhraseGrounding
from mllm.metrics.point_in import PointIn
from mllm.metrics.ref_l4 import RefL4
from mllm.types import Prediction
from tests.metrics.official_boxes import stored_answers

ANSWERS = stored_answers("domain")
AIMED = [one for one in ANSWERS if one.truth.boxes]
ONE_BOX = [replace(one, truth=replace(one.truth, boxes=one.truth.boxes[:1])) for one in AIMED]
CASES = [
    (BoxesF1(), ANSWERS),
    (GREC(), ANSWERS),
    (DensityF1(), ANSWERS),
    (PhraseGrounding(group=None), AIMED),
    (RefL4(group=None), ONE_BOX),
    (PointIn(rule="all"), ANSWERS),
    (Counting(reading="regions"), ANSWERS),
]


@pytest.mark.parametrize(("metric", "answers"), CASES, ids=[type(metric).__name__ for metric, _ in CASES])
def test_headline_follows_from_tallies(metric: Metric, answers: list[Prediction]) -> None:
    assert isinstance(metric, Tallied)
    totals = np.array([metric.tally(one) for one in answers]).sum(axis=0)
    assert float(metric.headline_of(totals)) == pytest.approx(metric(answers)[metric.headline])
    assert all(0 <= metric.value(one) <= 1 for one in answers)


def test_breakdown_leaves_out_parts_that_the_headline_is_not_of() -> None:
    names = [str(one.index) for one in ANSWERS]
    for metric in (DensityF1(), Detection()):
        values = [part.value for part in breakdown(metric, ANSWERS, names)["domain"]]
        assert values == ["attribute", "position", "reasoning"]  # not "rejection"

"""Which models can take requests together, and what is read of them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from mllm.models.llava.model import Llava
from mllm.serve.prefill import way_of
from tests.models.tiny import make
from tests.models.tiny_flamingo import make as make_flamingo


@pytest.mark.parametrize(
    ("text", "way", "obstacle"),
    [
        ("llama", "joined", None),
        ("gemma2", "together", "layers with a window"),
        ("mpt", "together", "counts positions by what its cache holds"),
        ("qwen3_next", "together", "layers that keep a state"),
    ],
)
def test_way_of_a_model_says_what_keeps_requests_from_joining(text: str, way: str, obstacle: str | None) -> None:
    found, said = way_of(make(text=text))
    assert found == way
    assert (said is None) if obstacle is None else (said is not None and obstacle in said)


def test_way_of_a_model_whose_rows_look_at_each_other_is_alone() -> None:
    assert way_of(make_flamingo())[0] == "together"
    way, obstacle = way_of(make_flamingo(generated_image_resets=True))
    assert way == "alone"
    assert obstacle is not None
    assert "generated_image_resets" in obstacle


def test_way_of_a_model_that_padding_changes_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Llava, "padding_obstacle", "it has a state")
    assert way_of(make()) == ("alone", "it has a state")
    monkeypatch.undo()
    other: Any = SimpleNamespace(
        padding_obstacle=None, sharing_obstacle=None, config=None, text_model=make().text_model
    )
    monkeypatch.setattr("mllm.serve.prefill.roomy_cache", lambda *_: {})
    assert way_of(other)[0] == "together"

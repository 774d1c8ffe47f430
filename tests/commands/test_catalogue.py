"""`mllm list`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mllm.cli import main
from mllm.commands.catalogue import Listing, list_rows
from mllm.registry import CODECS, CONNECTORS, DATASETS, METRICS, MODELS, REWARDS, TEMPLATES

ROOT = Path(__file__).parents[2]
REGISTRIES = {
    Listing.DATASETS: DATASETS,
    Listing.METRICS: METRICS,
    Listing.REWARDS: REWARDS,
    Listing.CODECS: CODECS,
    Listing.TEMPLATES: TEMPLATES,
    Listing.MODELS: MODELS,
    Listing.CONNECTORS: CONNECTORS,
}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_every_registered_name_is_listed_with_a_line_and_its_file(kind: Listing) -> None:
    listed = {name: (about, path) for name, about, path in list_rows(kind)}
    registered = {name for name in REGISTRIES[kind].names() if not name.startswith("_")}
    of_package = {name for name in registered if name in listed or _is_ours(REGISTRIES[kind], name)}
    assert set(listed) == of_package
    for name, (about, path) in listed.items():
        assert about, name
        assert (ROOT / path).is_file()


def _is_ours(registry: object, name: str) -> bool:
    """Tests register classes of their own."""
    return registry.find(name).__module__.startswith("mllm.")  # type: ignore[attr-defined]


def test_configs_are_those_that_run() -> None:
    listed = list_rows(Listing.CONFIGS)
    files = [*(ROOT / "config").glob("*.py"), *(ROOT / "config" / "eval").glob("*.py")]
    assert {path for _, _, path in listed} == {path.relative_to(ROOT).as_posix() for path in files}
    assert all(about for _, about, _ in listed)


def test_list_prints_the_kinds_that_are_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "metrics", "codecs"]) == 0
    said = capsys.readouterr().out
    assert "mllm/metrics/rec.py" in said
    assert "mllm/conversation/codecs/shikra.py" in said
    assert "mllm/dataset" not in said
    assert main(["list", "metric"]) == 2
    assert "'metric' is not one of" in capsys.readouterr().err

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mllm.metrics.outcome import outcome
from mllm.metrics.text import ExactMatch
from mllm.report.index import write_index
from mllm.types import GroundTruth, Prediction


def results(folder: Path, prefix: str, right: list[bool], **about: Any) -> None:
    predictions = [
        Prediction(key=f"a:{n}", index=n, text="yes" if hit else "no", truth=GroundTruth(texts=("yes",)))
        for n, hit in enumerate(right)
    ]
    record = outcome(ExactMatch(), predictions, [str(n) for n in range(len(right))]).as_json(prefix)
    model = {"type": "llava", "model_name_or_path": "<here>", **about}
    (folder / f"{prefix}_results.json").write_text(json.dumps({**record, "about": {"model": model}}))


def test_write_index_lists_all_test_sets_with_links(tmp_path: Path) -> None:
    results(tmp_path, "multitest_words", [True, False, True, True])
    results(tmp_path, "multitest_<b>", [False, False])
    (tmp_path / "multitest_words_report.html").write_text("")
    (tmp_path / "old_results.json").write_text('{"old_loss": 1.0}')
    assert write_index(tmp_path) == tmp_path / "report.html"
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<a href="multitest_words_report.html">words</a>' in html
    assert "0.7500" in html
    assert "&lt;b&gt;" in html
    assert "llava: &lt;here&gt;" in html
    assert "2 test sets" in html
    assert html.count("<script") == 1
    assert "As published" not in html


def test_write_index_of_one_test_set_is_none(tmp_path: Path) -> None:
    results(tmp_path, "test", [True])
    assert write_index(tmp_path) is None
    assert not (tmp_path / "report.html").exists()


def test_write_index_sets_published_scores_beside_ours(tmp_path: Path) -> None:
    for name, score in (("a", 0.25), ("b", 0.5)):
        results(tmp_path, f"multitest_{name}", [True, False])
        path = tmp_path / f"multitest_{name}_results.json"
        others = [{"model": "<m>", "score": score, "source": "a paper"}]
        path.write_text(json.dumps({**json.loads(path.read_text()), "published": others}))
    results(tmp_path, "multitest_c", [True])
    write_index(tmp_path)
    html = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert '<th scope="row">this evaluation</th><td class="count score">0.5000</td>' in html
    line = '<th scope="row">&lt;m&gt;</th><td class="count">0.2500</td><td class="count">0.5000</td>'
    assert line + '<td class="note">a paper</td>' in html

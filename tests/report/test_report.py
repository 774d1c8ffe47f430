from __future__ import annotations

import json
import re
import shutil
import subprocess
from base64 import b64decode, b64encode
from collections.abc import Sequence
from dataclasses import replace
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from PIL import Image

from mllm.images import FileImage, ImageRef, MemoryImage
from mllm.metrics.breakdown import Part
from mllm.metrics.outcome import Outcome
from mllm.metrics.rec import FAILURES, REC, iou_of
from mllm.metrics.statistics import Interval
from mllm.report import gallery
from mllm.report.report import AnswerRow, write_report
from mllm.types import Box, Failure, GroundTruth, Point, Prediction, TimeSpan

COCO = Path(__file__).parents[2].parent / "shared" / "data" / "coco_photos" / "images"
SCENE = MemoryImage(Image.new("RGB", (48, 32), "navy"))


def row(
    index: int, width: float = 10, *, failure: Failure | None = None, text: str = "", image: ImageRef | None = SCENE
) -> AnswerRow:
    """IoU is width / 10."""
    prediction = Prediction(
        key=f"scene:{index}",
        index=index,
        text=text or f"answer {index}",
        boxes=() if failure else (Box(x1=2, y1=3, x2=2 + width, y2=13),),
        failure=failure,
        truth=GroundTruth(boxes=(Box(x1=2, y1=3, x2=12, y2=13),), texts=("Answer: <boxes> .",)),
    )
    return AnswerRow(prediction=prediction, question="<image> Where is it?", image=image, iou=iou_of(prediction))


def report(rows: Sequence[AnswerRow], folder: Path, **options: Any) -> str:
    metric = REC(constant_box=True)
    given: dict[str, Any] = {"title": "REC", "meanings": metric.meanings, **options}
    if "found" not in given:
        scores = metric([row.prediction for row in rows])
        given["found"] = Outcome(scores=scores, headline=metric.headline)
    write_report(folder / "report.html", rows=rows, **given)
    return (folder / "report.html").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Tags, their balance, and the text of a page."""

    VOID = ("meta", "img", "input", "br", "link")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


def sections(html: str) -> dict[str, list[str]]:
    """Heading of each section of the gallery -> keys of its cards, in order."""
    parts = re.split(r"<h2>([^<]*) <small>", html)[1:]
    found = {name: re.findall(r'class="id">([^<]*)<', body) for name, body in zip(parts[::2], parts[1::2], strict=True)}
    return {name: keys for name, keys in found.items() if keys}


def test_it_holds_scores_their_meaning_and_the_floor(tmp_path: Path) -> None:
    rows = [row(0), row(1, 6), row(2, 3), row(3, failure="malformed")]
    html = report(rows, tmp_path, subtitle="llava · config/rec.py", date="2025-01-02")
    page = Page(html)
    for expected in (
        *("acc@0.25", "0.7500", "acc@0.5", "0.5000", "acc@0.75", "0.2500", "mean_iou", "0.4750"),
        *("share of all answers with IoU > 0.5", "1.0000 is the floor"),
        *("malformed", "numbers that cannot be read", "25.0%"),
        *("REC", "llava · config/rec.py", "2025-01-02", "4 items"),
    ):
        assert expected in page.text
    tiles = re.findall(r"<dt>([^<]*)</dt>\n<dd class=\"value\"", html)
    assert tiles == ["acc@0.5", "acc@0.25", "acc@0.75", "mean_iou", "clipped"]


def data_of(folder: Path) -> list[dict[str, Any]]:
    """What each file of data gives to the page."""
    texts = [path.read_text(encoding="utf-8") for path in sorted((folder / "report_files").glob("*.js"))]
    return [json.loads(text.removeprefix("loaded(").removesuffix(")\n")) for text in texts]


def test_the_page_fetches_nothing_and_reads_alone(tmp_path: Path) -> None:
    html = report([row(0), row(1, failure="none")], tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report_files"]
    assert not re.search(r"(src|href|action|srcset|data)\s*=\s*[\"']?(https?:)?//", html)
    assert "url(" not in html
    assert "@import" not in html
    page = Page(html)
    assert {"link", "iframe", "object", "base"}.isdisjoint(tag for tag, _ in page.tags)
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))


def test_the_page_permits_its_own_script_alone(tmp_path: Path) -> None:
    html = report([row(0)], tmp_path)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    own = b64encode(sha256(script.encode()).digest()).decode()
    policies = [meta["content"] for meta in Page(html).all("meta") if "http-equiv" in meta]
    assert policies == [
        "default-src 'none'; img-src data: 'self' file:; "
        f"script-src 'sha256-{own}' 'self' file:; style-src 'unsafe-inline'"
    ]


def test_what_people_and_models_write_is_escaped(tmp_path: Path) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\" onload='x' & {{ 7 * 7 }} {% raw %}"
    prediction = Prediction(
        key=attack, index=0, text=attack, truth=GroundTruth(texts=(attack,)), group={attack: attack}
    )
    rows = [
        AnswerRow(prediction=prediction, question=attack, image=SCENE, image_name=attack),
        AnswerRow(prediction=replace(prediction, index=1, group={attack: "b"}), question="", image_name=attack),
    ]
    part = Part(value=attack, count=1, score=0.5, interval=None)
    found = Outcome(scores={attack: 0.5}, headline=attack, parts={attack: [part]})
    html = report(rows, tmp_path, title=attack, subtitle=attack, found=found, meanings={})
    page = Page(html)
    assert page.all("script") == [{"type": "application/json", "id": "data"}, {}]
    # title twice, subtitle, score, name and score of its parts each twice, a value; of
    # two cards keys, one question, answers, truths
    assert page.text.count(attack) == 16
    assert [image["alt"] for image in page.all("img")] == [f"Image of {attack}"]
    assert not any("onload" in attributes or "onerror" in attributes for _, attributes in page.tags)
    (filtered,) = [tr["data-filter"] for tr in page.all("tr") if "data-filter" in tr]
    assert json.loads(filtered or "") == [attack, attack]
    (data,) = re.findall(r'id="data">(.*?)</script>', html, re.DOTALL)
    assert json.loads(data)["kinds"] == {attack: {attack: 1, "b": 1}}
    assert data_of(tmp_path)[0]["items"][0]["key"] == attack


def test_all_answers_are_in_files_of_a_thousand(tmp_path: Path) -> None:
    rows = [row(index, index % 11, image=None) for index in range(2001)]
    html = report(rows, tmp_path)
    shares = data_of(tmp_path)
    assert [len(share["items"]) for share in shares] == [1000, 1000, 1]
    first = shares[0]["items"][3]
    assert (first["key"], first["true"], first["measures"]) == ("scene:3", [[2, 3, 12, 13]], {"IoU": 0.3})
    assert first["answers"] == [{"text": "answer 3", "verdict": "IoU 0.30", "regions": [[2, 3, 5, 13]]}]
    assert first["question"] == ["Where is it?"]
    assert len(html) < 200_000


def test_images_are_read_from_their_files_or_copied(tmp_path: Path) -> None:
    photo = tmp_path / "photos" / "a b?.png"
    photo.parent.mkdir()
    Image.new("RGB", (300, 200)).save(photo)
    tiff = tmp_path / "photos" / "c.tiff"
    Image.new("RGB", (300, 200)).save(tiff)
    images = [FileImage(str(photo)), SCENE, FileImage(str(tiff)), FileImage(str(photo))]
    names = ["photo", "scene", "tiff", "photo"]
    rows = [replace(row(n, n, image=image), image_name=names[n]) for n, image in enumerate(images)]
    report(rows, tmp_path)
    (share,) = data_of(tmp_path)
    sources = [image["source"] for image in share["images"]]
    assert sources[0] == "photos/a%20b%3F.png"
    assert [(tmp_path / unquote(source)).is_file() for source in sources] == [True] * 3
    assert [source.rpartition(".")[2] for source in sources] == ["png", "png", "jpeg"]
    assert [item["image"] for item in share["items"]] == [0, 1, 2, 0]
    assert share["images"][0]["boxes"] == [[2, 3, 12, 13]]


def test_copies_of_images_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gallery, "MOST_COPIES", 1)
    report([replace(row(n), image_name=str(n)) for n in range(2)], tmp_path)
    (share,) = data_of(tmp_path)
    assert share["images"][1]["missing"] == "not copied: only the first 1 images are"


def test_other_boxes_of_an_image_are_those_of_all_its_items(tmp_path: Path) -> None:
    known = row(0)
    candidates = (known.prediction.truth.boxes[0], Box(x1=20, y1=3, x2=30, y2=13))
    truth = replace(known.prediction.truth, candidates=candidates)
    first = replace(known, image_name="a", prediction=replace(known.prediction, truth=truth))
    other = GroundTruth(boxes=(Box(x1=1, y1=1, x2=5, y2=5),))
    second = replace(row(1), image_name="a", prediction=replace(row(1).prediction, truth=other))
    html = report([first, second], tmp_path)
    assert data_of(tmp_path)[0]["images"][0]["boxes"] == [[2, 3, 12, 13], [20, 3, 30, 13], [1, 1, 5, 5]]
    assert 'id="show-other"' in html


def test_several_regions_of_an_answer_are_numbered(tmp_path: Path) -> None:
    boxes = tuple(Box(x1=n, y1=n, x2=n + 10, y2=n + 10, label=f"<{n}>") for n in range(2))
    prediction = Prediction(key="a", index=0, text="two", boxes=boxes, points=(Point(x=5, y=6),))
    html = report([AnswerRow(prediction=prediction, question="", image=SCENE)], tmp_path, found=Outcome(scores={}))
    assert re.findall(r'class="number tag answered a0 (c\d)"[^>]*>(\d)<', html) == [
        ("c0", "1"),
        ("c1", "2"),
        ("c2", "3"),
    ]
    assert "1, 1, 11, 11 &lt;1&gt;" in html
    assert data_of(tmp_path)[0]["items"][0]["answers"][0]["labels"] == ["<0>", "<1>", ""]


def test_regions_are_numbered_in_the_text_where_it_is_known_where_they_stand(tmp_path: Path) -> None:
    boxes = tuple(Box(x1=n, y1=n, x2=n + 10, y2=n + 10) for n in range(3))
    prediction = Prediction(key="a", index=0, text="a <1>, b <2>.", boxes=boxes, spans=((2, 5), (9, 12), (9, 12)))
    html = report([AnswerRow(prediction=prediction, question="", image=SCENE)], tmp_path, found=Outcome(scores={}))
    (answer,) = data_of(tmp_path)[0]["items"][0]["answers"]
    assert answer["pieces"] == ["a ", ["<1>", [0]], ", b ", ["<2>", [1, 2]], "."]
    shown = html.split('class="answer">')[1].split("<ol")[0]
    assert re.sub(r"<[^>]*>", "|", shown).strip() == "a |1|&lt;1&gt;, b |2||3|&lt;2&gt;."


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
def test_a_browser_shows_all_answers_and_runs_nothing_of_their_texts(tmp_path: Path) -> None:
    assert CHROMIUM is not None
    attack = "</script><script>document.title='taken'</script><img src=x onerror=\"document.title='taken'\">"
    rows = [row(n, n, text=f"{attack}{n}") for n in range(11)]
    rows[3] = replace(
        rows[3], question=attack, prediction=replace(rows[3].prediction, key=attack, group={attack: attack})
    )
    report(rows, tmp_path)
    html = subprocess.run(
        [
            *(CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=5000", "--dump-dom"),
            (tmp_path / "report.html").as_uri(),
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    ).stdout
    assert "<title>REC</title>" in html
    shown = html.split('id="all"')[1].split("</section>")[0]
    assert shown.count("<article") == 11
    assert "11 of 11" in shown
    assert '<img src="x"' not in html


def test_rows_of_tables_filter_by_what_they_count(tmp_path: Path) -> None:
    rows = [row(0), row(1, failure="malformed"), row(2, 3)]
    page = Page(report(rows, tmp_path))
    filters = [
        json.loads(attributes["data-filter"] or "") for _, attributes in page.tags if "data-filter" in attributes
    ]
    assert filters == [["IoU", 0.25, 0.3], ["IoU", 0.95, 1.0], ["answer", "malformed"]]


def test_text_that_has_no_encoding(tmp_path: Path) -> None:
    assert "a ? b" in report([row(0, text="a \ud83d b")], tmp_path)


def test_without_failures(tmp_path: Path) -> None:
    html = report([row(index, 10 - index) for index in range(4)], tmp_path)
    assert "Unreadable answers <small>none</small>" in html
    assert sections(html) == {"Worst": ["scene:3", "scene:2"], "Best": ["scene:0", "scene:1"]}


def test_with_failures_alone(tmp_path: Path) -> None:
    rows = [row(index, failure=failure) for index, failure in enumerate(FAILURES)]
    html = report(rows, tmp_path)
    assert sections(html) == {"Unreadable answers": [f"scene:{index}" for index in range(5)]}
    assert "<title>unreadable: 5</title>" in html
    for failure in FAILURES:
        assert f'<span class="verdict">{failure}</span>' in html


def test_worst_and_best_come_sorted_and_bounded(tmp_path: Path) -> None:
    rows = [row(index, width) for index, width in enumerate([5, 1, 9, 3, 7, 10, 2])]
    html = report(rows[::-1], tmp_path, limit=2)
    assert sections(html) == {"Worst": ["scene:1", "scene:6"], "Best": ["scene:5", "scene:2"]}
    assert "2 of 7, lowest IoU among the readable answers" in html


def test_one_answer_is_shown_once(tmp_path: Path) -> None:
    html = report([row(0)], tmp_path)
    assert sections(html) == {"Worst": ["scene:0"]}
    assert "1 item<" in html


def test_captions_show_text_without_iou(tmp_path: Path) -> None:
    rows = [
        AnswerRow(
            prediction=Prediction(
                key=f"cap:{n}", index=n, text=f"caption {n}", truth=GroundTruth(texts=("one", "two"))
            ),
            question="<image> Describe it.",
            image=SCENE if n else None,
        )
        for n in range(10)
    ]
    html = report(rows, tmp_path, found=Outcome(scores={"exact_match": 0.25, "CIDEr": 113.24, "count": 10}), limit=5)
    assert sections(html) == {"Answers": ["cap:0", "cap:2", "cap:4", "cap:6", "cap:8"]}
    page = Page(html)
    assert "113.24" in page.text
    assert "IoU" not in page.text
    assert len(page.all("img")) == 4
    assert page.all("rect") == []


def test_no_rows_at_all(tmp_path: Path) -> None:
    html = report([], tmp_path, found=Outcome(scores={"loss": 1.25}))
    assert "1.25" in Page(html).text
    assert "0 items" in html


def test_the_histogram_puts_a_tie_below_its_threshold(tmp_path: Path) -> None:
    html = report([row(0, 5), row(1, 5), row(2, 5.1), row(3, 10), row(4, 0)], tmp_path)
    titles = [title for title in re.findall(r"<title>([^<]*)</title>", html) if ":" in title]
    assert [unescape(title) for title in titles] == [
        "0.0 to 0.05: 1",
        "0.45 < IoU ≤ 0.5: 2",
        "0.5 < IoU ≤ 0.55: 1",
        "0.95 < IoU ≤ 1.0: 1",
    ]


def test_boxes_are_drawn_in_pixels_of_the_original(tmp_path: Path) -> None:
    photo = MemoryImage(Image.new("RGB", (1600, 1200), "gray"))
    page = Page(report([row(0, 6, image=photo)], tmp_path))
    images = [svg for svg in page.all("svg") if "preserveaspectratio" in svg]
    assert [svg["viewbox"] for svg in images] == ["0 0 1600 1200"]
    drawn = {(r["x"], r["y"], r["width"], r["height"]) for r in page.all("rect") if r["class"] == "mark"}
    assert drawn >= {("2.00", "3.00", "10.00", "10.00"), ("2.00", "3.00", "6.00", "10.00")}
    assert page.all("img")[0]["alt"] == "Image of scene:0; true: [2, 3, 12, 13]; predicted: [2, 3, 8, 13]"


def test_only_what_lies_on_the_image_is_drawn(tmp_path: Path) -> None:
    prediction = Prediction(
        key="pair",
        index=0,
        text="",
        boxes=(Box(x1=1, y1=1, x2=2, y2=2), Box(x1=3, y1=3, x2=4, y2=4, image=1)),
        points=(Point(x=5, y=6, image=1),),
    )
    rows = [
        AnswerRow(
            prediction=prediction,
            question="<image><image> What is at <points> in <boxes>?",
            image=SCENE,
            places={1: (0, 0)},
            asked=(Point(x=7, y=8), Box(x1=9, y1=9, x2=10, y2=10, image=1)),
        )
    ]
    page = Page(report(rows, tmp_path, found=Outcome(scores={})))
    assert page.all("img")[0]["alt"] == "Image of pair; predicted: [3, 3, 4, 4], [5, 6]; asked: [9, 9, 10, 10]"
    assert [path["d"] for path in page.all("path")] == ["M5.00 6.00h0"] * 2
    assert "2 images What is at point in box?" in page.text
    assert [box["id"] for box in page.all("input")] == ["show-a0", "show-asked"]


def embedded(page: Page) -> list[Image.Image]:
    return [Image.open(BytesIO(b64decode((image["src"] or "").split(",")[1]))) for image in page.all("img")]


def test_images_are_bounded_and_small_ones_stay_crisp(tmp_path: Path) -> None:
    scene = Image.effect_noise((48, 32), 80).convert("RGB")
    images = [
        MemoryImage(Image.new("RGB", (2000, 500))),
        MemoryImage(scene),
        MemoryImage(Image.new("RGB", (300, 200))),
    ]
    page = Page(report([row(n, 10 - n, image=image) for n, image in enumerate(images)], tmp_path))
    by_key = dict(
        zip([(image["alt"] or "").split(";")[0][-1] for image in page.all("img")], embedded(page), strict=True)
    )
    assert [by_key[key].size for key in "012"] == [(480, 120), (48, 32), (300, 200)]
    assert [by_key[key].format for key in "012"] == ["JPEG", "PNG", "JPEG"]
    assert by_key["1"].convert("RGB").tobytes() == scene.tobytes()
    assert sum(image.get("class") == "pixel-art" for image in page.all("img")) == 1


def test_only_images_that_are_shown_are_opened(tmp_path: Path) -> None:
    cut = tmp_path / "cut.png"
    Image.new("RGB", (300, 200)).save(cut)
    cut.write_bytes(cut.read_bytes()[:60])  # it has a size
    rows = [
        replace(row(index, 10 - index, image=SCENE if index in (0, 9) else FileImage(str(cut))), image_name=str(index))
        for index in range(10)
    ]
    assert sections(report(rows, tmp_path, limit=1)) == {"Worst": ["scene:9"], "Best": ["scene:0"]}


@pytest.mark.skipif(not COCO.is_dir(), reason="no photos in this checkout")
def test_a_full_gallery_of_photos_is_a_few_megabytes(tmp_path: Path) -> None:
    photos = [FileImage(str(path)) for path in sorted(COCO.iterdir())[:72]]
    rows = [row(n, n / 8, failure="none" if n < 24 else None, image=photo) for n, photo in enumerate(photos)]
    html = report(rows, tmp_path)
    assert html.count("<article") == 72
    assert len(html) < 6_000_000


def test_parts_of_the_data_stand_in_tables_with_their_intervals(tmp_path: Path) -> None:
    parts = {
        "split": [
            Part(value="testA", count=30, score=0.75, interval=Interval(low=0.5, high=0.875)),
            Part(value="<b>", count=1, score=0.0, interval=None),
        ]
    }
    found = Outcome(
        scores={"acc@0.5": 0.7258, "count": 31}, headline="acc@0.5", interval=Interval(low=0.6, high=0.8), parts=parts
    )
    page = Page(report([], tmp_path, found=found))
    assert "acc@0.5 by split" in page.text
    assert "0.5000 to 0.8750" in page.text
    assert "0.6000 to 0.8000: 95 %" in page.text
    assert "<b>" in page.text


def test_published_scores_stand_around_ours(tmp_path: Path) -> None:
    others = [{"model": f"<{n}>", "score": n / 4, "source": "a paper"} for n in (1, 3)]
    found = Outcome(scores={"acc@0.5": 0.5}, headline="acc@0.5")
    html = report([], tmp_path, found=found, published=others)
    shown = re.findall(r'<th scope="row">([^<]*)</th><td class="count">([^<]*)</td>', html)
    assert shown == [("&lt;3&gt;", "0.7500"), ("this evaluation", "0.5000"), ("&lt;1&gt;", "0.2500")]


def test_time_spans_are_bars_on_the_time_line_of_their_video(tmp_path: Path) -> None:
    spans = tuple(TimeSpan(start=start, end=end) for start, end in ((2.5, 5), (6, 7)))
    truth = GroundTruth(time_spans=(TimeSpan(start=0, end=5),), texts=("<spans>",))
    answer = Prediction(key="a:1", index=0, text="x", time_spans=spans, truth=truth, duration=10.0)
    row = AnswerRow(prediction=answer, question="<image><image><image>When?", iou=0.5)
    write_report(tmp_path / "report.html", title="t", found=Outcome(scores={"count": 1.0}), rows=[row])
    page = (tmp_path / "report.html").read_text()
    assert '<span style="--from: 25.0%; --to: 50.0%"></span><span style="--from: 60.0%; --to: 70.0%"></span>' in page
    assert 'aria-label="truth 0 to 5 s; answer 2.5 to 5 s 6 to 7 s; of 10.0 s"' in page
    assert '<span class="chip">3 images</span>When?' in page
    data = (tmp_path / "report_files" / "000.js").read_text()
    assert '"timeline":{"length":10.0,"rows":[[[0.0,50.0]],[[25.0,50.0],[60.0,70.0]]]' in data

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Sequence
from html import unescape
from html.parser import HTMLParser
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mllm.images import FileImage, ImageRef, MemoryImage
from mllm.metrics.breakdown import Part
from mllm.metrics.outcome import Outcome
from mllm.metrics.rec import FAILURES, REC, iou_of
from mllm.metrics.statistics import Interval
from mllm.report.report import Row, write_report
from mllm.types import Box, Failure, GroundTruth, Point, Prediction

COCO = Path(__file__).parents[2].parent / "shared" / "data" / "coco_photos" / "images"
SCENE = MemoryImage(Image.new("RGB", (48, 32), "navy"))


def row(
    index: int, width: float = 10, *, failure: Failure | None = None, text: str = "", image: ImageRef | None = SCENE
) -> Row:
    """IoU is width / 10."""
    prediction = Prediction(
        key=f"scene:{index}",
        index=index,
        text=text or f"answer {index}",
        boxes=() if failure else (Box(x1=2, y1=3, x2=2 + width, y2=13),),
        failure=failure,
        truth=GroundTruth(boxes=(Box(x1=2, y1=3, x2=12, y2=13),), texts=("Answer: <boxes> .",)),
    )
    return Row(prediction=prediction, question="<image> Where is it?", image=image, iou=iou_of(prediction))


def report(rows: Sequence[Row], folder: Path, **options: Any) -> str:
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


def test_it_is_one_self_contained_file(tmp_path: Path) -> None:
    html = report([row(0), row(1, failure="none")], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    assert not re.search(r"(src|href|action|srcset|data)\s*=\s*[\"']?(https?:)?//", html)
    assert "url(" not in html
    assert "@import" not in html
    page = Page(html)
    assert {"script", "link", "iframe", "object", "base"}.isdisjoint(tag for tag, _ in page.tags)
    assert all((image["src"] or "").startswith("data:image/") for image in page.all("img"))
    policies = [meta["content"] for meta in page.all("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; img-src data:; style-src 'unsafe-inline'"]


def test_what_people_and_models_write_is_escaped(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>\" onload='x' & {{ 7 * 7 }} {% raw %}"
    prediction = Prediction(key=attack, index=0, text=attack, truth=GroundTruth(texts=(attack,)))
    rows = [Row(prediction=prediction, question=attack, image=SCENE)]
    html = report(
        rows, tmp_path, title=attack, subtitle=attack, found=Outcome(scores={attack: 0.5}, headline=attack), meanings={}
    )
    assert "<script" not in html
    page = Page(html)
    assert page.text.count(attack) == 8  # title twice, subtitle, score, key, question, answer, truth
    assert [image["alt"] for image in page.all("img")] == [f"Image of {attack}"]
    assert not any("onload" in attrs for _, attrs in page.tags)


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
        assert f'<span class="iou">{failure}</span>' in html


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
        Row(
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
        Row(
            prediction=prediction,
            question="<image><image> What is at <points> in <boxes>?",
            image=SCENE,
            image_number=1,
            asked=(Point(x=7, y=8), Box(x1=9, y1=9, x2=10, y2=10, image=1)),
        )
    ]
    page = Page(report(rows, tmp_path, found=Outcome(scores={})))
    assert page.all("img")[0]["alt"] == "Image of pair; predicted: [3, 3, 4, 4], [5, 6]; asked: [9, 9, 10, 10]"
    assert [path["d"] for path in page.all("path")] == ["M5.00 6.00h0"] * 2
    assert "imageimage What is at point in box?" in page.text
    assert [box["id"] for box in page.all("input")] == ["show-predicted", "show-asked"]


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
    rows = [row(index, 10 - index, image=SCENE if index in (0, 9) else FileImage("no.jpg")) for index in range(10)]
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

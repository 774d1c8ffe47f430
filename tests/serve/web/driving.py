"""A person at the page, in the system's Chromium."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from playwright.sync_api import Browser, Page, expect

Place = tuple[float, float]
PATIENCE_MS = 20_000
"""On a machine that does much else."""
expect.set_options(timeout=PATIENCE_MS)
SIZE = (320, 240)
"""Of the example that is opened."""


@dataclass
class Person:
    page: Page
    touches: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    """The questions that the page has sent."""
    faults: list[str] = field(default_factory=list)
    """What the browser complained of, and what was asked of other servers."""

    def open_example(self, name: str = "scene.png") -> None:
        self.page.locator("#start").get_by_role("button", name=f"Example {name}").click()
        self.page.wait_for_selector(".stage .layer:not([hidden]) img")
        self.page.wait_for_function("document.querySelector('.stage .layer').clientWidth > 0")

    def at(self, place: Place) -> Place:
        """Where a pixel of the image is on the screen."""
        area = self.page.locator(".stage svg").bounding_box()
        assert area is not None
        return area["x"] + place[0] * area["width"] / SIZE[0], area["y"] + place[1] * area["height"] / SIZE[1]

    def drag(self, start: Place, end: Place) -> None:
        """By mouse, or by a finger."""
        (x1, y1), (x2, y2) = self.at(start), self.at(end)
        if self.touches:
            fingers = self.page.context.new_cdp_session(self.page)

            def touch(kind: str, *points: Place) -> None:
                where = [{"x": x, "y": y} for x, y in points]
                fingers.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": where})

            touch("touchStart", (x1, y1))
            touch("touchMove", ((x1 + x2) / 2, (y1 + y2) / 2))
            touch("touchMove", (x2, y2))
            touch("touchEnd")
            return
        self.page.mouse.move(x1, y1)
        self.page.mouse.down()
        self.page.mouse.move(x2, y2, steps=3)
        self.page.mouse.up()

    def write(self, text: str) -> None:
        self.page.get_by_role("textbox", name="Question").press_sequentially(text)

    def ask(self) -> None:
        """Ask, and wait for the end of the answer."""
        with self.page.expect_request("**/chat/completions"):
            self.page.get_by_role("button", name="Ask", exact=True).click()
        expect(self.page.get_by_role("button", name="Ask", exact=True)).to_be_visible()

    def drawn(self, selector: str) -> list[tuple[str, list[float], str]]:
        """Name, pixels of the image and colour of each box on the image."""
        found: Any = self.page.eval_on_selector_all(
            f".stage {selector}",
            """(marks, [width]) => marks.map((mark) => {
              const line = mark.querySelector(".line");
              const scale = width / mark.ownerSVGElement.clientWidth;
              const [x, y, w, h] = ["x", "y", "width", "height"].map((name) => line.getAttribute(name) * scale);
              return [mark.querySelector("text").textContent, [x, y, x + w, y + h], getComputedStyle(line).stroke];
            })""",
            list(SIZE),
        )
        return [(name, numbers, colour) for name, numbers, colour in found]


@contextmanager
def person(browser: Browser, address: str, *, width: int = 1200, touches: bool = False) -> Iterator[Person]:
    """Someone who has opened the page."""
    context = browser.new_context(viewport={"width": width, "height": 844}, has_touch=touches, is_mobile=touches)
    page = context.new_page()
    page.set_default_timeout(PATIENCE_MS)
    someone = Person(page, touches)

    def sent(request: Any) -> None:
        if urlsplit(request.url).scheme in ("http", "https") and not request.url.startswith(address):
            someone.faults.append(f"asks {request.url}")
        if request.url.endswith("/v1/chat/completions"):
            someone.asked.append(json.loads(request.post_data))

    page.on("request", sent)
    page.on("pageerror", lambda error: someone.faults.append(str(error)))
    page.on("console", lambda said: said.type == "error" and someone.faults.append(said.text))
    page.goto(address)
    page.wait_for_selector("#start")
    try:
        yield someone
    finally:
        context.close()


def near(found: Sequence[float], expected: Sequence[float], by: float = 1.5) -> bool:
    return len(found) == len(expected) and all(abs(a - b) <= by for a, b in zip(found, expected, strict=True))

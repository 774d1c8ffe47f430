"""The web page: its files, and what people do on it, in the system's Chromium where there is one."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect, sync_playwright
from starlette.testclient import TestClient

from mllm.errors import ConfigError, DataError
from mllm.report.drawing import COLOURS
from mllm.serve.api.app import create_app
from mllm.serve.api.limits import Limits
from mllm.serve.api.loading import load_models
from mllm.serve.api.problems import Problem
from mllm.serve.api.server import Settings
from mllm.serve.question import Message, to_item
from mllm.serve.reading import Answer, read_answer_text
from mllm.serve.web.page import BYTES, STATIC, page_router
from tests.serve.api.running import FOLDER, Script, running, scripted, state_of
from tests.serve.web.driving import SIZE, near, person

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")
TEXT = (
    "The dog<b_st><bin_1><bin_2><bin_5><bin_9><b_ed> looks at a red ball"
    "<b_st><bin_8><bin_9><bin_10><bin_11><b_sep><bin_3><bin_3><bin_4><bin_4><b_ed>."
)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dataset") / "images"
    folder.mkdir()
    image = Image.new("RGB", SIZE, (170, 190, 200))
    ImageDraw.Draw(image).rectangle((40, 60, 140, 200), fill=(200, 120, 30))
    image.save(folder / "scene.png")
    image.save(folder / "other one.jpg")
    (folder / "notes.txt").write_text("no image")
    lines = [
        {"img_path": "scene.png", "expression": "the orange box"},
        {"img_path": "images/scene.png", "question": "What is it?"},
        {"img_path": "gone.png", "expression": "not offered"},
        {"image": "a line of something else"},
    ]
    (folder.parent / "train.jsonl").write_text("\n".join(map(json.dumps, lines)))
    return folder


@pytest.fixture
def client(examples: Path) -> TestClient:
    return TestClient(create_app(state_of({}), page=page_router(examples)))


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def test_the_page_runs_its_own_files_alone(client: TestClient) -> None:
    page = client.get("/")
    assert page.headers["content-security-policy"].startswith("default-src 'self'; img-src 'self' blob: data:;")
    assert page.headers["cache-control"] == "no-cache"
    links = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert {Path(link).name for link in links} == {"icon.svg", "style.css", "main.js"}
    base = links[0].rpartition("/")[0]
    for path in STATIC.glob("*.js"):
        found = client.get(f"{base}/{path.name}")
        assert found.text == path.read_text(encoding="utf-8")
        assert found.headers["content-type"].startswith("text/javascript")
        assert "immutable" in found.headers["cache-control"]
        imported = re.findall(r'from "\./([^"]+)"', found.text)
        assert all((STATIC / name).is_file() for name in imported)
    for path in STATIC.iterdir():
        addresses = re.findall(r"https?://[^\"'\s)]+", path.read_text(encoding="utf-8"))
        assert set(addresses) <= {"http://www.w3.org/2000/svg"}, path.name


@pytest.mark.parametrize(
    "path",
    ["page.py", "../page.py", "..%2fpage.py", "%2e%2e/page.py", "index.html", "main.js%00", ".", ""],
)
def test_no_other_file_is_given_out(client: TestClient, path: str) -> None:
    version = re.findall(r"static/(\w+)/", client.get("/").text)[0]
    assert client.get(f"/static/{version}/{path}").status_code == 404
    assert client.get(f"/static/0000/{path}").status_code == 404


def test_examples_with_their_questions(client: TestClient, examples: Path) -> None:
    assert client.get("/examples").json() == [
        {"name": "other one.jpg", "questions": []},
        {"name": "scene.png", "questions": ["the orange box", "What is it?"]},
    ]
    assert client.get("/examples/scene.png").content == (examples / "scene.png").read_bytes()
    assert client.get("/examples/other%20one.jpg").headers["content-type"] == "image/jpeg"
    for name in ("notes.txt", "..%2ftrain.jsonl", "%2e%2e/train.jsonl", "gone.png", "/etc/passwd"):
        assert client.get(f"/examples/{name}").status_code == 404, name


def test_without_examples_none_are_listed() -> None:
    assert TestClient(create_app(state_of({}), page=page_router(None))).get("/examples").json() == []


def test_a_link_out_of_the_folder_is_no_example(tmp_path: Path, examples: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "own.png")
    (tmp_path / "linked.png").symlink_to(examples / "scene.png")
    client = TestClient(create_app(state_of({}), page=page_router(tmp_path)))
    assert [example["name"] for example in client.get("/examples").json()] == ["own.png"]
    assert client.get("/examples/linked.png").status_code == 404


def test_a_folder_without_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--examples: expected a folder with images .*, found"):
        page_router(tmp_path)


def test_a_broken_annotation_line_is_named(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4)).save(tmp_path / "own.png")
    (tmp_path / "lines.jsonl").write_text('{"img_path": "own.png"}\n{broken\n')
    with pytest.raises(DataError, match=r"lines.jsonl:2: expected a line of JSON"):
        page_router(tmp_path)


def preview(client: TestClient, data: bytes, kind: str = BYTES, **headers: str) -> Any:
    return client.post("/preview", content=data, headers={"content-type": kind, **headers})


@pytest.mark.parametrize("form", ["TIFF", "PPM", "JPEG2000"])
def test_files_that_browsers_do_not_show_are_previewed_as_png(client: TestClient, form: str) -> None:
    image = Image.new("RGB", (9, 5), (200, 30, 30))
    found = preview(client, encoded(image, form))
    assert found.headers["content-type"] == "image/png"
    shown = Image.open(BytesIO(found.content))
    assert (shown.format, shown.size, shown.getpixel((4, 2))) == ("PNG", (9, 5), (200, 30, 30))


def test_a_preview_is_upright(client: TestClient) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    found = preview(client, encoded(Image.new("RGB", (9, 5)), "TIFF", exif=exif))
    assert Image.open(BytesIO(found.content)).size == (5, 9)


def test_previews_have_the_bounds_of_the_api(examples: Path) -> None:
    state = state_of({}, limits=Limits(max_pixels=100, max_body_mb=0.01), key="secret")
    client = TestClient(create_app(state, page=page_router(examples)))
    small = encoded(Image.new("RGB", (9, 5)), "TIFF")
    allowed = {"authorization": "Bearer secret"}
    assert preview(client, small).status_code == 401
    assert preview(client, small, **allowed).status_code == 200
    assert preview(client, small, "text/plain", **allowed).status_code == 415
    wrong = preview(client, b"no image", **allowed)
    assert (wrong.status_code, wrong.json()["error"]["code"]) == (400, "invalid_image")
    large = preview(client, encoded(Image.new("RGB", (20, 20)), "TIFF"), **allowed)
    assert (large.status_code, large.json()["error"]["code"]) == (400, "invalid_image")
    assert preview(client, bytes(20_000), **allowed).status_code == 413
    state.state = "loading"
    assert preview(client, small, **allowed).json()["error"]["code"] == "loading"


def test_the_page_draws_in_the_colours_of_answer_draw() -> None:
    line = re.search(r"COLOURS = (\[.*\]);", (STATIC / "dom.js").read_text(encoding="utf-8"))
    assert line is not None
    assert json.loads(line[1]) == list(COLOURS)


# In a browser.


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    assert CHROMIUM is not None
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=arguments)
        yield chromium
        chromium.close()


@pytest.fixture
def model(loaded: Any) -> tuple[Any, Script]:
    served, script = scripted(loaded)
    script.text = TEXT
    return served, script


def read_on_scene(loaded: Any, examples: Path) -> Answer:
    """The answer as Python reads it."""
    asked = to_item([Message(role="user", text="What is it?", images=[examples / "scene.png"])])
    return read_answer_text(loaded.processor, asked, TEXT)


def rgb(colour: str) -> str:
    return f"rgb({', '.join(str(int(colour[at : at + 2], 16)) for at in (1, 3, 5))})"


@in_a_browser
def test_a_box_by_mouse_is_asked_about_and_the_answer_is_drawn(
    browser: Browser, loaded: Any, model: tuple[Any, Script], examples: Path
) -> None:
    state = state_of({"tiny": model[0]})
    with running(state, page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        user.drag((140, 200), (40, 60))  # from right to left
        user.write("What is in")
        user.page.get_by_role("button", name="Refer to box 1").click()
        user.page.keyboard.type("?")
        user.ask()
        (request,) = user.asked
        assert request["messages"][0]["content"][-1]["text"] == "What is in <boxes>?"
        assert near(request["regions"][0].pop("boxes")[0], (40, 60, 140, 200))
        assert (request["regions"], request["image_sizes"]) == ([{"image": 0}], [list(SIZE)])

        ours = read_on_scene(loaded, examples)
        boxes = [(region.index, box.xyxy) for region in ours.regions for box in region.boxes]
        drawn = user.drawn(".mark.answer")
        names_and_colours = [("A", rgb(COLOURS[0])), ("B", rgb(COLOURS[1])), ("B", rgb(COLOURS[1]))]
        assert [(name, colour) for name, _, colour in drawn] == names_and_colours
        assert all(near(found, box) for (_, found, _), (_, box) in zip(drawn, boxes, strict=True))
        ((name, found, _),) = user.drawn(".mark.own")
        assert (name, near(found, (40, 60, 140, 200))) == ("1", True)
        dashes = "selector => getComputedStyle(document.querySelector(selector)).strokeDasharray"
        assert user.page.evaluate(dashes, ".mark.own .line") != "none"
        assert user.page.evaluate(dashes, ".mark.answer .line") == "none"

        phrases = user.page.locator(".phrase")
        assert phrases.all_inner_texts() == ["A The dog", "B a red ball"]
        assert user.page.locator(".text").inner_text() == "A The dog looks at B a red ball."
        underlines = [phrase.evaluate("e => getComputedStyle(e).boxShadow") for phrase in phrases.all()]
        assert [rgb(COLOURS[n]) in line for n, line in enumerate(underlines)] == [True, True]
        phrases.nth(1).hover()
        assert user.page.locator(".stage .mark.lit").count() == 2
        user.page.locator(".stage .mark.answer").first.focus()
        assert user.page.locator(".phrase.lit").inner_text() == "A The dog"
        user.page.get_by_role("button", name="Model's own words").click()
        assert "<b_st><bin_1>" in user.page.locator(".text").inner_text()
        assert Axe().run(user.page).response["violations"] == []
        assert user.faults == []


@in_a_browser
@pytest.mark.slow
def test_a_real_model_answers(browser: Browser, loaded: Any, examples: Path) -> None:
    models = load_models(Settings(models={"tiny": str(FOLDER)}, device="cpu"))
    with running(state_of(models), page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        user.page.get_by_text("Sampling", exact=True).click()
        user.page.get_by_label("Most tokens").fill("12")
        user.write("Where is it?")
        user.ask()
        user.page.get_by_role("button", name="Model's own words").click()
        expected = loaded.chat(examples / "scene.png", "Where is it?", max_new_tokens=12).text
        assert user.page.locator(".text").inner_text() == expected
        assert user.faults == []


@in_a_browser
@pytest.mark.slow
def test_regions_by_keyboard(browser: Browser, model: tuple[Any, Script], examples: Path) -> None:
    with running(state_of({"tiny": model[0]}), page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        keys = user.page.keyboard
        user.page.get_by_role("button", name="Add").focus()
        keys.press("Enter")
        box = user.page.get_by_role("button", name=re.compile("^Box 1, "))
        expect(box).to_be_focused()
        before = user.drawn(".mark.own")[0][1]
        for key in ("ArrowRight", "ArrowDown", "Control+ArrowUp"):
            keys.press(key)
        moved = [value + by for value, by in zip(before, (3, 2, 3, 2), strict=True)]
        assert near(user.drawn(".mark.own")[0][1], moved, 0.1)
        keys.press("Shift+ArrowLeft")
        assert near(user.drawn(".mark.own")[0][1], [*moved[:2], moved[2] - 3, moved[3]], 0.1)
        user.page.get_by_label("Point").focus()
        keys.press("Space")
        user.page.get_by_role("button", name="Add").press("Enter")
        expect(user.page.get_by_role("button", name=re.compile("^Point 2, "))).to_be_focused()
        keys.press("Enter")
        keys.type("and what else?")
        keys.press("Enter")
        expect(user.page.locator(".phrase")).to_have_count(2)
        assert user.asked[0]["messages"][0]["content"][-1]["text"] == "<points> and what else?"
        assert near(user.asked[0]["regions"][0]["points"][0], (160 * 1.08, 120 * 1.08), 0.1)
        box.focus()
        keys.press("Delete")
        expect(box).to_have_count(0)
        expect(user.page.get_by_role("button", name=re.compile("^Point 2, ")).first).to_be_focused()
        assert user.faults == []


@in_a_browser
@pytest.mark.slow
def test_a_finger_draws_on_a_phone(browser: Browser, model: tuple[Any, Script], examples: Path) -> None:
    page = page_router(examples)
    with (
        running(state_of({"tiny": model[0]}), page=page) as address,
        person(browser, address, width=390, touches=True) as user,
    ):
        user.open_example()
        user.drag((40, 60), (140, 200))
        user.drag((90, 130), (110, 120))  # the box is taken hold of, and moved
        user.drag((160, 190), (180, 200))  # its far corner
        user.page.get_by_role(
            "button", name="Refer to box 1"
        ).click()  # taps behind drags are not always taken as clicks
        user.ask()
        assert user.asked[0]["messages"][0]["content"][-1]["text"] == "<boxes>"
        assert near(user.asked[0]["regions"][0]["boxes"][0], (60, 50, 180, 200), 3)
        expect(user.page.locator(".answer .figure .mark.answer")).to_have_count(3)
        assert user.page.evaluate("document.documentElement.scrollWidth") <= 390
        assert Axe().run(user.page).response["violations"] == []
        assert user.faults == []


@in_a_browser
@pytest.mark.slow
def test_what_is_wrong_is_said(browser: Browser, model: tuple[Any, Script], examples: Path) -> None:
    served, script = model
    state = state_of({"tiny": served}, key="secret")
    state.state = "loading"
    with running(state, page=page_router(examples)) as address, person(browser, address) as user:
        user.page.get_by_role("textbox", name="Key").fill("wrong")
        user.page.get_by_role("button", name="Continue").click()
        expect(user.page.get_by_text("did not accept this key")).to_be_visible()
        user.page.get_by_role("textbox", name="Key").fill("secret")
        user.page.get_by_role("button", name="Continue").click()
        expect(user.page.get_by_text("The model is still loading")).to_be_visible()
        state.state = "ready"
        expect(user.page.get_by_text("The model is still loading")).to_be_hidden()

        user.open_example()
        script.refusal = Problem(429, "the queue is full: 80 requests are here", code="queue_full", retry_after=3)
        user.write("Where?")
        user.ask()
        expect(user.page.get_by_text("the queue is full: 80 requests are here")).to_be_visible()
        script.refusal = None
        script.text = "at<b_st><bin_9><bin_2><b_ed> now"
        user.page.get_by_role("button", name="Ask again").click()
        expect(user.page.get_by_text("Region A could not be read")).to_be_visible()

        script.go.clear()
        user.write("And now?")
        user.page.get_by_role("button", name="Ask", exact=True).click()
        user.page.get_by_role("button", name="Stop").click()
        expect(user.page.get_by_text("stopped")).to_be_visible()
        assert len(user.asked[-1]["messages"]) == 3


@in_a_browser
@pytest.mark.slow
def test_a_turn_keeps_its_image(browser: Browser, model: tuple[Any, Script], examples: Path) -> None:
    with running(state_of({"tiny": model[0]}), page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        user.write("Where?")
        user.ask()
        tiff = encoded(Image.new("RGB", (50, 80), (9, 90, 9)), "TIFF")
        user.page.set_input_files("#file", {"name": "a.tif", "mimeType": "image/tiff", "buffer": tiff})
        expect(user.page.get_by_text(re.compile("^a.tif . 50 . 80 pixels"))).to_be_visible()
        user.write("And here?")
        user.ask()
        user.write("Really?")
        user.ask()
        first, second, third = user.asked
        assert [len(request["messages"]) for request in (first, second, third)] == [1, 1, 3]
        assert (second["image_sizes"], third["image_sizes"]) == ([[50, 80]], [[50, 80]])
        assert third["messages"][1]["content"] == TEXT
        assert user.page.locator(".thumb img").evaluate_all("all => all.map((i) => i.naturalWidth)") == [
            SIZE[0],
            50,
            50,
        ]
        user.page.get_by_role("button", name="Show scene.png, the image of question 1").click()
        expect(user.page.get_by_text(re.compile("^scene.png . 320 . 240 pixels"))).to_be_visible()
        user.write("And in both?")
        user.ask()
        assert user.asked[3]["image_sizes"] == [[50, 80], list(SIZE)]
        assert user.asked[3]["answer_image"] == 1
        assert user.faults == []


@in_a_browser
@pytest.mark.slow
def test_a_bad_answer_is_kept_with_the_right_one(
    browser: Browser, loaded: Any, model: tuple[Any, Script], examples: Path, tmp_path: Path
) -> None:
    state = state_of({"tiny": model[0], "other": model[0]}, reports=tmp_path / "bad.jsonl")
    with running(state, page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        user.page.get_by_label("Beside it").select_option("other")
        user.page.get_by_role("button", name="Find").click()
        user.page.keyboard.type("the box")
        user.ask()
        assert {request["model"] for request in user.asked} == {"tiny", "other"}
        assert user.asked[0]["messages"][0]["content"][-1]["text"] == "Where is the box?"
        user.drag((40, 60), (140, 200))
        answer = user.page.get_by_role("article", name="Answer, tiny")
        answer.get_by_role("button", name="Report").click()
        right = answer.get_by_role("textbox", name="The right answer")
        expect(right).to_contain_text("The dog")
        right.fill("It is at")
        answer.get_by_role("button", name="Put in box 1").click()
        answer.get_by_label("Comment").fill("no dog")
        answer.get_by_role("button", name="Send").click()
        expect(answer.get_by_text("Kept as number 1")).to_be_visible()
        assert user.faults == []
    (line,) = (tmp_path / "bad.jsonl").read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert record["conversations"][-1] == {"from": "gpt", "value": "It is at <boxes>", "boxes_seq": [[0]]}
    assert near(record["target"]["boxes"][0], (40, 60, 140, 200))
    assert record["group"] == {"bad_answer": TEXT, "comment": "no dog"}


@in_a_browser
@pytest.mark.slow
def test_image_and_answer_are_saved(browser: Browser, model: tuple[Any, Script], examples: Path) -> None:
    with running(state_of({"tiny": model[0]}), page=page_router(examples)) as address, person(browser, address) as user:
        user.open_example()
        user.write("Where?")
        user.ask()
        answer = user.page.get_by_role("article", name="Answer")
        with user.page.expect_download() as saved:
            answer.get_by_role("button", name="Image").click()
        image = Image.open(saved.value.path()).convert("RGB")
        assert (saved.value.suggested_filename, image.size) == ("scene_answer.png", (960, 720))
        colours = {colour for _, colour in image.getcolors(1 << 20) or []}
        assert {tuple(int(COLOURS[n][at : at + 2], 16) for at in (1, 3, 5)) for n in (0, 1)} <= colours
        with user.page.expect_download() as saved:
            answer.get_by_role("button", name="JSON").click()
        record = json.loads(saved.value.path().read_text(encoding="utf-8"))
        assert (record["answer"]["text"], record["images"][0]["name"]) == (TEXT, "scene.png")
        assert "base64" not in json.dumps(record)
        assert user.faults == []

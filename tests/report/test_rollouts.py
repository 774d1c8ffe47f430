from __future__ import annotations

from pathlib import Path

from PIL import Image

from mllm.images import image_ref
from mllm.report.rollouts import FLAT, SCALE, SampledQuestion, ScoredAnswer, colour_of_reward, write_rollouts
from mllm.types import Box, Point


def test_the_least_and_the_greatest_reward_have_the_ends_of_the_scale() -> None:
    assert [colour_of_reward(value, -1, 1) for value in (-1, 1)] == [SCALE[0], SCALE[-1]]
    assert colour_of_reward(0.5, 0.5, 0.5) == colour_of_reward(None, 0, 1) == FLAT


def test_write_rollouts_draws_every_answer_in_its_colour_and_escapes_texts(tmp_path: Path) -> None:
    answers = (
        ScoredAnswer(
            text="[1, 2]", reward=0.9, rewards={"iou": 0.9}, ended=True, regions=(Box(x1=1, y1=2, x2=30, y2=9),)
        ),
        ScoredAnswer(text="<b>", reward=0.0, rewards={"iou": 0.0}, ended=False, regions=(Point(x=5, y=6),)),
        ScoredAnswer(text="", reward=None, rewards={"iou": None}, ended=True),
    )
    image = image_ref(Image.new("RGB", (64, 48)), None)
    question = SampledQuestion(
        key="a:1", text="the dog", answers=answers, image=image, true=(Box(x1=0, y1=0, x2=9, y2=9),)
    )
    path = tmp_path / "rollouts" / "step.html"
    write_rollouts(path, [question], title="t", subtitle="s")
    page = path.read_text()
    assert f'width="29" height="7" stroke="{SCALE[-1]}"' in page.replace("29.0", "29").replace("7.0", "7")
    assert f'stroke="{SCALE[0]}"' in page
    assert page.count('class="true"') == 1
    assert "&lt;b&gt;" in page
    assert "cut off" in page
    assert "(nothing)" in page

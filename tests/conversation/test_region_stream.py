"""Regions of a growing text: a group that was given does not change any more."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mllm.conversation.codec_base import read_answer
from mllm.conversation.region_stream import RegionStream
from mllm.registry import CODECS

SIZE = (1000, 500)
BOX, OTHER, POINT = (0.1234, 0.25, 0.5, 0.75), (0.0, 0.0, 0.99, 0.9), (0.25, 0.5)
POINTING = ("molmo",)
BOXING = (
    *("shikra", "bins", "cogvlm", "ferret", "florence2", "gemini", "internvl", "kosmos2", "llava15", "minigpt_v2"),
    *("paligemma", "qwen25_vl", "qwen2_vl", "qwen3_vl", "qwen_vl"),
)
NAMES = (*BOXING, *POINTING)
ANSWERS = {
    "qwen_vl": "<ref>the dog</ref><box>(1,2),(30,40)</box> and <ref>a cat</ref><box>(5,6),(70,80)</box>.",
    "qwen3_vl": '```json\n[\n\t{"bbox_2d": [1, 2, 30, 40], "label": "dog"},\n\t{"bbox_2d": [5, 6, 7, 8]}\n]\n```\nYes.',
    "gemini": '{"box_2d": [1, 2, 30, 40], "label": "a"} then [{"point": [5, 6]}, {"point": [7, 8]}] end',
    "molmo": '<point x="12.3" y="75.0" alt="dog">dog</point> and <points x1="1" y1="2" x2="3" y2="4" alt="">a</points>',
    "ferret": "the dogs [1, 2, 30, 40], [5, 6, 70, 80], a cat [1, 2, 3, 4].",
    "paligemma": "<loc0001><loc0002><loc0300><loc0400> cat ; <loc0001><loc0002><loc0300><loc0400> dog",
    "florence2": "cat<loc_1><loc_2><loc_300><loc_400>dog<loc_1><loc_2><loc_300><loc_400><loc_5><loc_6><loc_7><loc_8>",
    "kosmos2": "<phrase>a dog</phrase><object><patch_index_0044><patch_index_0863></object> runs",
    "internvl": "<ref>dog</ref><box>[[1, 2, 30, 40], [3, 4, 50, 60]]</box>",
    "shikra": "The man [0.1,0.2,0.3,0.4] holds [sic] two balls [0.1,0.2,0.3,0.4;0.5,0.6,0.7,0.8] at [0.5,0.5] [0.1,0.2",
}


def stream(codec_name: str, pieces: list[str]) -> None:
    """The groups given are the first of the whole text, each once."""
    codec = CODECS.make(codec_name)
    regions = RegionStream(codec, SIZE)
    text, found = "", []
    for piece in pieces:
        text += piece
        found += regions.new_groups(text)
        assert found == codec.read(text, SIZE)[: len(found)], text
    whole = read_answer(codec, text, SIZE)
    assert found == whole[: len(found)], text


@pytest.mark.parametrize("name", NAMES)
def test_groups_come_once_in_any_form_of_its_family(name: str) -> None:
    """Text codecs letter by letter; those with tokens of their own by these, as a tokenizer gives them."""
    codec = CODECS.make(name)
    forms: list[str] = []
    if name not in POINTING:
        forms += [codec.write_boxes([BOX], SIZE), codec.write_boxes([BOX, OTHER], SIZE)]
    if name in (*POINTING, "shikra", "bins", "ferret", "qwen_vl", "qwen3_vl", "gemini"):
        forms += [codec.write_points([POINT], SIZE), codec.write_points([POINT, POINT], SIZE)]
    texts = [f"The dog {form} runs to {form}." for form in forms] + forms
    for text in [*texts, *([ANSWERS[name]] if name in ANSWERS else [])]:
        stream(name, pieces_of(text, codec.tokens))


def pieces_of(text: str, tokens: tuple[str, ...]) -> list[str]:
    pieces, place = [], 0
    while place < len(text):
        token = max((t for t in tokens if text.startswith(t, place)), key=len, default=text[place])
        pieces.append(token)
        place += len(token)
    return pieces


@given(st.sampled_from(NAMES), st.data())
def test_groups_come_once_in_any_text(name: str, data: st.DataObject) -> None:
    codec = CODECS.make(name)
    marks = [
        "[0.1,0.2,0.3,0.4]",
        "[1, 2, 30, 40]",
        "[",
        "]",
        ", ",
        ";",
        '{"bbox_2d": ',
        '"label": "a"',
        "}",
        "```",
        "1",
    ]
    some = [*codec.tokens[:6], *codec.tokens[-2:]]
    form = [codec.write_points([POINT], SIZE)] if name in POINTING else [codec.write_boxes([BOX], SIZE)]
    pieces = data.draw(st.lists(st.sampled_from([*marks, *some, *form, " dog", "\n", "<"]), max_size=12))
    stream(name, pieces)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("shikra", "a dog [0.1,0.2,0.3,0.4]"),
        ("qwen_vl", "<ref>dog</ref><box>(1,2),(30,40)</box> "),
        ("qwen3_vl", '{"bbox_2d": [1, 2, 30, 40]} '),
        ("internvl", "<box>[[1, 2, 30, 40]]</box>"),
        ("kosmos2", "<object><patch_index_0044><patch_index_0863></object>"),
    ],
)
def test_a_group_comes_as_soon_as_its_form_is_closed(name: str, text: str) -> None:
    regions = RegionStream(CODECS.make(name), SIZE)
    before = regions.new_groups(text.rstrip()[:-1])
    assert (before, len(regions.new_groups(text + "x"))) == ([], 1)


def test_numbers_that_may_be_another_family_s_are_never_final() -> None:
    regions = RegionStream(CODECS.make("qwen3_vl"), SIZE)
    assert regions.new_groups("[1, 2, 30, 40] is the dog") == []
    assert regions.new_groups('[{"bbox_2d": [1, 2, 30, 40') == []

from __future__ import annotations

import pytest

from mllm.commands.regions.words import region_words


@pytest.mark.parametrize(
    ("text", "names", "words"),
    [
        ("A <ref>dog</ref><box>[[1, 5, 20, 25]]</box>.", ["internvl"], "<ref>dog</ref><box>[[1, 5, 20, 25]]</box>"),
        ("<box>(536,509),(588,602)</box>", ["qwen_vl"], None),
        ("<|box_start|>(12,34),(56,78)<|box_end|>", ["qwen2_vl"], None),
        ("<|box_start|>(12,34)<|box_end|>", ["qwen2_vl"], None),
        ("[0.12, 0.34, 0.56, 0.78]", ["llava15", "shikra"], None),
        ("[0.123,0.456,0.789,0.901]", ["shikra"], None),
        ("[123, 456, 789, 901]", ["ferret"], None),
        ("[[012,345,678,901]]", ["cogvlm"], None),
        ('```json\n[{"bbox_2d": [1, 2, 300, 400], "label": "dog 7"}]\n```', ["qwen25_vl", "qwen3_vl"], None),
        ('{"bbox_2d": [1, 2, 1900, 400]}', ["qwen25_vl"], None),
        ('{"point_2d": [19, 40]}', ["qwen25_vl", "qwen3_vl"], None),
        ('{"box_2d": [1, 2, 300, 400]}', ["gemini"], None),
        ('<point x="12.3" y="45.6" alt="dog">dog</point>', ["molmo"], None),
        ("<b_st><bin_1><bin_2><bin_3><bin_4><b_ed>", ["bins"], None),
        ("<object><patch_index_0044><patch_index_0863></object>", ["kosmos2"], None),
        ("<loc0012><loc0034><loc0056><loc0078> cat", ["paligemma"], "<loc0012><loc0034><loc0056><loc0078>"),
        ("cat<loc_0><loc_0><loc_999><loc_999>", ["florence2"], "<loc_0><loc_0><loc_999><loc_999>"),
        ("{<12><34><56><78>}", ["minigpt_v2"], None),
        # numbers that cannot be read, and marks alone
        ("<box>[[100,50,2000,250]]</box>", ["internvl", "qwen_vl"], None),
        ("Where is <ref>the dog</ref>", ["internvl", "qwen_vl"], "<ref>the dog</ref>"),
        ("<|object_ref_start|>dog<|object_ref_end|>", ["qwen2_vl"], None),
    ],
)  # fmt: skip
def test_region_words_names_the_codecs_that_match(text: str, names: list[str], words: str | None) -> None:
    assert [(list(found.codecs), found.words) for found in region_words(text)] == [(names, words or text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("[0.1,0.2,0.3,0.4] and <box>10 20 30 40</box>", [("[0.1,0.2,0.3,0.4]", ("llava15", "shikra"))]),
        ("<quad>(1,2),(3,4),(5,6),(7,8)</quad>", []),
        ('{"bbox_2d": [1, 2, 3, 4], "score": 0.9, "looks": {"legs": 4}}', None),
        ('{"bbox_2d": [1.5, 2, 3, 4]}', []),
    ],
)
def test_region_words_of_several_forms(text: str, found: list[tuple[str, tuple[str, ...]]] | None) -> None:
    """A form that no codec reads is named beside those that some do; numbers beside a box are not its own."""
    known = [(text, ("qwen25_vl", "qwen3_vl"))] if found is None else found
    assert [(one.words, one.codecs) for one in region_words(text) if one.codecs] == known
    assert bool([one for one in region_words(text) if not one.codecs]) == (found is not None)


@pytest.mark.parametrize(
    "text",
    [
        *("see [1, 2] and (3, 4)", "f(1,2,3,4) = [1, 2, 3]", "1, 2, 3, 4", "[12.5, 30.2, 40, 50]", "[4, 3, 2, 1]", ""),
        *("[sic] <p>para</p>", "at 10:30, 5 [4]", "(x, y) = (12, 34)", "a < b > c", "<boxes> is <image>", "0.5, 0.25"),
    ],
)
def test_region_words_leaves_other_numbers_alone(text: str) -> None:
    assert region_words(text) == []

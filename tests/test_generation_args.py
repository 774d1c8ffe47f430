import json
import re
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig

from mllm.errors import ModelError
from mllm.generation_args import (
    GenerationArgs,
    as_generate_takes_them,
    check_generation_file,
    check_ids,
    check_room,
    with_fractions,
    without_effect,
)
from mllm.model_files import check_folder
from mllm.signatures import parameters_of

WRONG = ("x", "two", -2, {"a": 1}, [[]], ["x"])
TEXTS = {"cache_implementation", "num_assistant_tokens_schedule", "speculation_type", "transformers_version"}


def test_every_field_of_transformers_is_known() -> None:
    assert {name for name in vars(GenerationConfig()) if not name.startswith("_")} == set(parameters_of(GenerationArgs))


@pytest.mark.parametrize("name", sorted(set(parameters_of(GenerationArgs)) - TEXTS))
def test_no_field_of_a_folder_takes_every_value(name, tmp_path: Path) -> None:
    """Of each field, values of another type are refused by a line that names file and key."""
    allowed = {"length_penalty": [-2], "watermarking_config": [{"a": 1}], "cache_config": [{"a": 1}]}
    for value in WRONG:
        if value in allowed.get(name, []):
            continue
        (tmp_path / "generation_config.json").write_text(json.dumps({name: value}))
        with pytest.raises(ModelError, match=rf"generation_config\.json: {name}\b.*: expected .*, found ") as caught:
            check_folder(tmp_path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"repetition_penalty": -2}, "repetition_penalty: expected a number above 0 or None, found int '-2'"),
        ({"num_beams": "two"}, "num_beams: expected a whole number from 1 to 4,096 or None, found str 'two'"),
        ({"num_beams": 0}, "num_beams: expected a whole number from 1 to 4,096 or None, found int '0'"),
        ({"do_sample": "maybe"}, "do_sample: expected True or False or None, found str 'maybe'"),
        ({"eos_token_id": "x"}, "eos_token_id: expected a whole number of at least 0 or .*, found str 'x'"),
        ({"eos_token_id": []}, "eos_token_id: expected .*, found list"),
        ({"do_sample": True, "temperature": 0}, "temperature: expected a number above 0 or None, found int '0'"),
        ({"top_p": "a"}, "top_p: expected"),
        ({"max_new_tokens": 1.5}, "max_new_tokens: expected a whole number"),
        ({"sequence_bias": [[[1]]]}, "sequence_bias"),
    ],
)
def test_wrong_settings_of_a_folder_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=re.escape("a.json: ") + message):
        check_generation_file(settings, "a.json")


def test_settings_of_public_folders_are_taken() -> None:
    for settings in (
        {
            "_from_model_config": True,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "transformers_version": "4",
        },
        {"do_sample": True, "eos_token_id": [128001, 128009], "temperature": 0.6, "top_p": 0.9, "max_length": 4096},
        {"temperature": 0, "top_p": 0, "do_sample": False, "cache_implementation": "hybrid"},
        {"chat_format": "chatml", "max_window_size": 24000, "top_k": 0, "top_p": 0.3, "do_sample": True},
        {"repetition_penalty": 1, "return_dict_in_generate": True, "output_attentions": False, "max_length": 20},
    ):
        check_generation_file(settings, "a.json")


@pytest.mark.parametrize(
    "settings",
    [
        {"eos_token_id": 40},
        {"eos_token_id": [2, 40]},
        {"forced_bos_token_id": 40},
        {"bad_words_ids": [[1], [2, 40]]},
        {"suppress_tokens": [40]},
        {"sequence_bias": [[[1, 40], 50.0]]},
    ],
)
def test_ids_beyond_the_embeddings_are_refused(settings: dict[str, Any]) -> None:
    (name,) = settings
    with pytest.raises(ModelError, match=rf"{name}: expected ids below 40, the model's embeddings, found int '40'"):
        check_ids(settings, 40)
    check_ids(settings, 41)
    check_ids({"sequence_bias": [[[1], 50]], "eos_token_id": None}, 40)


MADE_FOR = "2,048, the tokens that the language model was made for"


@pytest.mark.parametrize(("context", "most"), [(2048, MADE_FOR), (None, "1,048,576")])
def test_an_answer_has_an_end(context: int | None, most: str) -> None:
    for name in ("max_new_tokens", "max_length"):
        with pytest.raises(ModelError, match=re.escape(f"{name}: expected at most {most}, found int '")):
            check_room({name: 2**62}, context)
    for settings in ({"max_new_tokens": 2048}, {"max_new_tokens": None}, {}):
        check_room(settings, context)


def test_whole_numbers_become_the_fractions_that_transformers_wants() -> None:
    found = with_fractions({"repetition_penalty": 2, "top_k": 2, "temperature": None})
    assert found == {"repetition_penalty": 2, "top_k": 2, "temperature": None}
    assert [type(found[name]) for name in ("repetition_penalty", "top_k")] == [float, int]


def test_settings_without_effect_are_named_and_left_out() -> None:
    given = {"max_new_tokens": 4, "temperature": 1, "top_p": 0.9, "length_penalty": 0.5}
    assert list(without_effect(given, "data_args.gen_kwargs")) == [
        "data_args.gen_kwargs.temperature has no effect: it needs do_sample=True",
        "data_args.gen_kwargs.top_p has no effect: it needs do_sample=True",
        "data_args.gen_kwargs.length_penalty has no effect: it needs num_beams above 1",
    ]
    assert as_generate_takes_them(given) == {"max_new_tokens": 4}
    given |= {"do_sample": True, "num_beams": 2}
    assert not list(without_effect(given, "data_args.gen_kwargs"))
    assert as_generate_takes_them(given) == given

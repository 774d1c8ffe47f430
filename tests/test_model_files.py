"""What is refused of a model's folder before any library reads it."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ModelError
from mllm.model_files import LARGEST_SETTINGS, check_folder, indexed_files
from mllm.pipeline.manifest import write_manifest

INDEX = "model.safetensors.index.json"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 32}))
    (folder / "model-1.safetensors").write_bytes(b"")
    return folder


def write_index(folder: Path, *names: Any) -> None:
    placed = {f"layer.{number}": name for number, name in enumerate(names)}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": placed}))


def test_check_folder_takes_a_usual_folder(folder: Path) -> None:
    write_index(folder, "model-1.safetensors", "model-1.safetensors")
    (folder / "original").mkdir()
    (folder / "gone").symlink_to(folder / "nothing")
    check_folder(folder)


def test_check_folder_takes_the_layout_of_the_hugging_face_cache(folder: Path, tmp_path: Path) -> None:
    """There a snapshot's files are links to blobs beside it."""
    snapshot = tmp_path / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (tmp_path / "blobs").mkdir()
    write_index(folder, "model-1.safetensors")
    for number, file in enumerate(sorted(folder.iterdir())):
        file.rename(tmp_path / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("..", "..", "blobs", str(number)))
    check_folder(snapshot)
    assert indexed_files(snapshot / INDEX) == {"layer.0": "model-1.safetensors"}


def test_check_folder_takes_links_inside_it_and_a_link_to_a_folder(folder: Path, tmp_path: Path) -> None:
    (folder / "model-2.safetensors").symlink_to("model-1.safetensors")
    write_index(folder, "model-2.safetensors")
    (tmp_path / "named").symlink_to(folder)
    assert indexed_files(tmp_path / "named" / INDEX) == {"layer.0": "model-2.safetensors"}


@pytest.mark.parametrize("place", ["model", "other/model", "snapshots/abc"])
def test_check_folder_refuses_an_index_that_names_a_link_out_of_it(folder: Path, tmp_path: Path, place: str) -> None:
    """Also in a folder that is named as the cache's: only its own blobs belong to a snapshot."""
    elsewhere = tmp_path / "elsewhere" / "blobs" / "w"
    elsewhere.parent.mkdir(parents=True)
    elsewhere.write_bytes(b"")
    if place != "model":
        (tmp_path / place).parent.mkdir(parents=True)
        folder = folder.rename(tmp_path / place)
    (folder / "model-2.safetensors").symlink_to(elsewhere)
    write_index(folder, "model-1.safetensors", "model-2.safetensors")
    with pytest.raises(ModelError) as caught:
        check_folder(folder)
    assert str(caught.value) == (
        f"{folder / INDEX}: weight_map: expected a file of this folder, found str 'model-2.safetensors', "
        f"a link to {elsewhere}; put the file itself there, or a hard link"
    )


@pytest.mark.parametrize("name", ["mllm_speech.json", "generation_config.json", "tokenizer_config.json"])
def test_check_folder_refuses_a_folder_that_lost_what_says_how_it_is_used(folder: Path, name: str) -> None:
    (folder / name).write_text("{}")
    write_manifest(folder)
    check_folder(folder)
    (folder / name).unlink()
    with pytest.raises(ModelError, match=rf"{name}: is missing, though manifest.json lists it"):
        check_folder(folder)


@pytest.mark.parametrize("text", ["", "[]", '{"files": 7}', '{"name": "of another program"}'])
def test_check_folder_asks_no_other_manifest(folder: Path, text: str) -> None:
    (folder / "manifest.json").write_text(text)
    check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "mllm_speech.json", "tokenizer.json"])
@pytest.mark.parametrize("kind", ["nothing", "itself", "folder"])
def test_check_folder_refuses_settings_that_are_no_file(folder: Path, name: str, kind: str) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path if kind == "itself" else folder / "nothing")
    with pytest.raises(ModelError, match=name):
        check_folder(folder)


def test_check_folder_refuses_a_type_that_is_no_text(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": [["x"]]}')
    with pytest.raises(ModelError, match=r"config.json: model_type: expected a text, found list"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors", "anything"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device", "link to a pipe"])
def test_check_folder_refuses_what_might_never_end(folder: Path, name: str, kind: str, tmp_path: Path) -> None:
    path = folder / name
    path.unlink(missing_ok=True)
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        here = os.getcwd()
        os.chdir(folder)  # the names of sockets are short
        try:
            socket.socket(socket.AF_UNIX).bind(name)
        finally:
            os.chdir(here)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        os.mkfifo(tmp_path / "pipe")
        path.symlink_to(tmp_path / "pipe")
    with pytest.raises(ModelError, match=rf"{name}: expected a file, found a pipe, a socket or a device"):
        check_folder(folder)


@pytest.mark.parametrize(
    "name",
    ["../secret.safetensors", "/etc/passwd", "inner/model.safetensors", "..", ".", "", "a\x00b/../c", 3, None, ["a"]],
)
def test_check_folder_refuses_an_index_that_names_files_elsewhere(folder: Path, name: Any) -> None:
    (folder.parent / "secret.safetensors").write_bytes(b"")
    write_index(folder, "model-1.safetensors", name)
    with pytest.raises(ModelError, match=rf"{INDEX}: weight_map: expected the name of a file beside it, found"):
        check_folder(folder)


def test_check_folder_refuses_an_index_of_missing_files(folder: Path) -> None:
    write_index(folder, "model-1.safetensors", "model-2.safetensors", "model-3.safetensors")
    with pytest.raises(ModelError, match=r"2 of 3 shards are missing: model-2\.safetensors, model-3\.safetensors"):
        check_folder(folder)
    (folder / "model-2.safetensors").mkdir()
    with pytest.raises(ModelError, match="2 of 3 shards are missing"):
        check_folder(folder)


@pytest.mark.parametrize("placed", [None, [], {}, "model.safetensors"])
def test_check_folder_refuses_an_index_without_files(folder: Path, placed: Any) -> None:
    (folder / INDEX).write_text(json.dumps({"weight_map": placed}))
    with pytest.raises(ModelError, match="weight_map: expected an object of tensors"):
        check_folder(folder)


@pytest.mark.parametrize(
    ("file", "settings", "place"),
    [
        ("config.json", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("config.json", {"n_layer": 1025}, "n_layer"),
        ("config.json", {"text_config": {"num_hidden_layers": 10**6}}, r"text_config\.num_hidden_layers"),
        ("config.json", {"vision_config": {"depths": [2, 10**9]}}, r"vision_config\.depths\[1\]"),
        ("config.json", {"num_local_experts": 10**6}, "num_local_experts"),
        ("config.json", {"num_attention_heads": 10**9}, "num_attention_heads"),
        ("config.json", {"max_position_embeddings": 10**9}, "max_position_embeddings"),
        ("config.json", {"num_labels": 10**9}, "num_labels"),
        ("config.json", {"image_size": 10**9}, "image_size"),
        ("config.json", {"vision_config": {"image_size": [224, 10**9]}}, r"vision_config\.image_size\[1\]"),
        ("config.json", {"vocab_size": 10**400}, "vocab_size"),
        ("config.json", {"connector": {"type": "perceiver", "layers": 10**9}}, r"connector\.layers"),
        ("config.json", {"tiling": {"type": "crops", "rows": 10**9}}, r"tiling\.rows"),
        ("config.json", {"num_hidden_layers": -(10**9)}, "num_hidden_layers"),
        ("generation_config.json", {"num_beams": 10**6}, "num_beams"),
        ("generation_config.json", {"num_return_sequences": 10**6}, "num_return_sequences"),
        ("tokenizer_config.json", {"extra_ids": 10**9}, "extra_ids"),
        ("preprocessor_config.json", {"size": {"height": 10**9}}, r"size\.height"),
        ("preprocessor_config.json", {"max_patches": 10**6}, "max_patches"),
        ("preprocessor_config.json", {"min_pixels": 10**12}, "min_pixels"),
    ],
)
def test_check_folder_refuses_numbers_out_of_bounds(folder: Path, file: str, settings: Any, place: str) -> None:
    (folder / file).write_text(json.dumps(settings))
    with pytest.raises(ModelError, match=rf"{file}: {place}: expected at most [\d,]+, found int ") as caught:
        check_folder(folder)
    assert "\n" not in str(caught.value)


def test_check_folder_takes_the_numbers_of_public_models(folder: Path) -> None:
    config = {
        **{"num_hidden_layers": 126, "vocab_size": 262_208, "max_position_embeddings": 10_485_760},
        **{"rope_theta": 5_000_000_000, "num_experts": 512, "n_routed_experts": 384, "image_size": 1536},
        **{"num_labels": 21_843, "tie_word_embeddings": True, "torch_dtype": "bfloat16"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 10**30}))
    processor = {"size": {"longest_edge": 12_845_056, "shortest_edge": 3136}, "max_patches": 12}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    check_folder(folder)


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation", "experts_implementation"])
def test_check_folder_refuses_kernels_from_a_hub(folder: Path, key: str) -> None:
    (folder / "config.json").write_text(json.dumps({"text_config": {key: "somebody/kernel@main"}}))
    with pytest.raises(ModelError, match=rf"text_config\.{key}: expected a name, found str 'somebody/kernel@main'"):
        check_folder(folder)


@pytest.mark.parametrize("name", ["config.json", INDEX])
def test_check_folder_refuses_settings_of_no_sensible_size(folder: Path, name: str) -> None:
    with (folder / name).open("wb") as file:
        file.truncate(LARGEST_SETTINGS + 1)  # a hole, which takes no room
    with pytest.raises(ModelError, match=rf"{name}: expected at most 64 MB, found 67 MB"):
        check_folder(folder)

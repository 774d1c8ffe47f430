from __future__ import annotations

from pathlib import Path

import pytest

from mllm.commands.shards import Shard, claim, new_part, stage_parts, unfinished
from mllm.errors import ConfigError, RunError


@pytest.mark.parametrize("total", [0, 1, 7, 100])
@pytest.mark.parametrize("count", [1, 3, 8])
def test_shards_are_every_number_once_in_order(total: int, count: int) -> None:
    ranges = [Shard(number, count).of(total) for number in range(count)]
    assert [each for numbers in ranges for each in numbers] == list(range(total))
    assert max(map(len, ranges)) - min(map(len, ranges)) <= 1


def test_a_part_takes_its_name_once_it_is_complete(tmp_path: Path) -> None:
    def fail() -> None:
        with new_part(tmp_path, "read", Shard(0, 2)) as target:
            (target / "a").write_text("half")
            target.write_text("")

    with pytest.raises(IsADirectoryError):
        fail()
    assert list((tmp_path / "read").iterdir()) == []
    for text in ("first", "again"):
        with new_part(tmp_path, "read", Shard(0, 2)) as target:
            (target / "a").write_text(text)
            assert unfinished(tmp_path, ["read"], 2) == (2 if text == "first" else 1)
    assert (tmp_path / "read" / "00000" / "a").read_text() == "again"
    with pytest.raises(RunError, match="read: expected 2 parts, found none of 00001"):
        stage_parts(tmp_path, "read", 2)


def test_a_folder_belongs_to_one_job_on_the_same_files(tmp_path: Path) -> None:
    folder, data = tmp_path / "job", tmp_path / "a.jsonl"
    data.write_text("{}\n")
    cfg = {"train": [{"filename": str(data)}]}
    for _ in range(2):
        claim(folder, {"bits": 4}, cfg)
    with pytest.raises(
        ConfigError,
        match=r"job: expected the parts of this job, found those of another, bits differ; name another folder",
    ):
        claim(folder, {"bits": 5}, cfg)
    data.write_text("{}\n{}\n")
    with pytest.raises(ConfigError, match=r"those of another, files differ"):
        claim(folder, {"bits": 4}, cfg)


def test_claim_takes_no_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(ConfigError, match="expected an empty folder or that of a job, found other files"):
        claim(tmp_path, {}, {})
    with pytest.raises(ConfigError, match=r"a\.txt: cannot be used: File exists"):
        claim(tmp_path / "a.txt", {}, {})
    (tmp_path / "job.json").write_text('{"half')
    with pytest.raises(ConfigError, match=r"job\.json: expected a JSON object"):
        claim(tmp_path, {}, {})

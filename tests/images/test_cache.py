from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mllm.errors import ConfigError
from mllm.images.cache import DiskCache

NAME = "https://x.org/../../a.jpg?key=1"


def used(cache: DiskCache, name: str, seconds_ago: float) -> None:
    when = time.time() - seconds_ago
    os.utime(cache._path(name), (when, when))


def kept_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("??/*"))


def test_what_is_put_is_got(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path / "kept", 100)
    assert cache.get(NAME) is None
    cache.put(NAME, b"image")
    assert cache.get(NAME) == b"image"
    assert cache.get(NAME + "2") is None
    cache.drop(NAME)
    assert cache.get(NAME) is None
    cache.drop(NAME)


def test_names_are_hashed(tmp_path: Path) -> None:
    DiskCache(tmp_path / "kept", 100).put(NAME, b"image")
    names = sorted(path.name for path in (tmp_path / "kept").rglob("*") if path.is_file())
    assert names[1] == "total"
    assert len(names) == 2
    assert set(names[0]) <= set("0123456789abcdef")


def test_the_unused_leave_first(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    for number in range(10):
        cache.put(str(number), bytes(10))
        used(cache, str(number), 100 - number)
    cache.get("0")  # the oldest, but just used
    cache.put("new", bytes(10))
    assert kept_bytes(tmp_path) <= 100
    assert cache.get("0") is not None
    assert cache.get("new") is not None
    assert cache.get("1") is None
    assert cache.get("9") is not None


def test_the_bound_holds_at_every_step(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    for number in range(40):
        cache.put(str(number), bytes(1 + number * 7 % 30))
        assert kept_bytes(tmp_path) <= 100


def test_one_larger_than_all_is_not_kept(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    cache.put("small", bytes(60))
    cache.put("large", bytes(101))
    assert cache.get("large") is None
    assert cache.get("small") is not None


def test_the_count_is_made_anew_when_it_is_lost(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    for number in range(9):
        cache.put(str(number), bytes(10))
    for state in ("", "nonsense"):
        (tmp_path / "total").write_text(state)
        cache.put("0", bytes(10))
        assert (tmp_path / "total").read_text() == "90"


def test_remains_of_a_process_that_died_leave(tmp_path: Path) -> None:
    cache = DiskCache(tmp_path, 100)
    cache.put("a", bytes(60))
    remains = cache._path("a").parent / "ab.tmp"
    remains.write_bytes(bytes(60))
    (tmp_path / "total").unlink()
    cache.put("b", bytes(30))
    assert remains.exists(), "somebody may be writing it"
    os.utime(remains, (0, 0))
    cache.put("c", bytes(30))
    assert not remains.exists()


def test_several_processes_share_one(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from mllm.images.cache import DiskCache\n"
        "cache = DiskCache(Path(sys.argv[1]), 2000)\n"
        "for number in range(60):\n"
        "    name = f'{number % 23}'\n"
        "    found = cache.get(name)\n"
        "    assert found is None or found == name.encode() * 100\n"
        "    cache.put(name, name.encode() * 100)\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)]) for _ in range(3)]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert 0 < kept_bytes(tmp_path) <= 2000
    assert not [path for path in tmp_path.glob("??/*") if "." in path.name]


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"the cache of images cannot be written \(MLLM_CACHE names another\)"):
        DiskCache(tmp_path / "file" / "kept", 100).put("a", b"1")
    with pytest.raises(ConfigError, match=r"cannot be read \(images\.cache names another\)"):
        DiskCache(tmp_path / "file" / "kept", 100).get("a")


def test_what_was_used_since_a_lasting_cache_was_made_never_leaves(tmp_path: Path) -> None:
    before = DiskCache(tmp_path, 100)
    for number in range(5):
        before.put(f"old {number}", bytes(10))
        used(before, f"old {number}", 100 - number)
    cache = DiskCache(tmp_path, 100, lasting=True)
    assert cache.get("old 0") is not None
    for number in range(20):
        cache.put(str(number), bytes(10))
    assert kept_bytes(tmp_path) <= 100
    assert cache.get("old 0") is not None
    assert cache.get("old 1") is None
    assert [number for number in range(20) if cache.get(str(number))] == list(range(9))

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mllm.errors import ConfigError
from mllm.images.settings import ImageSettings, read_settings


def test_nothing_given_is_the_default() -> None:
    assert read_settings(None) == read_settings({}) == ImageSettings()


def test_a_section_is_read() -> None:
    section = {"on_error": "skip", "background": [1, 2, 3], "protocols": ["s3"], "max_mb": 0.5}
    expected = ImageSettings(on_error="skip", background=(1, 2, 3), protocols=("s3",), max_mb=0.5)
    assert read_settings(section) == expected
    assert expected.max_bytes == 500_000


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLLM_CACHE", "/data/kept")
    assert ImageSettings().cache_path == Path("/data/kept/images")
    assert ImageSettings(cache="/fast").cache_path == Path("/fast")
    assert ImageSettings(cache=False).cache_path is None


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cahce": True}, "unknown key 'cahce'; did you mean 'cache'"),
        ({"on_error": "warn"}, "on_error: expected 'raise' or 'skip', found 'warn'"),
        ({"pixels": "fast"}, "pixels: expected 'exact', 'close' or 'reduced', found 'fast'"),
        ({"cache": 3}, "cache: expected True, False or a folder, found 3"),
        ({"cache": ""}, "cache: expected True, False or a folder, found ''"),
        ({"cache_gb": 0}, "cache_gb: expected a number above 0, found 0"),
        ({"timeout": "10"}, "timeout: expected seconds above 0, found '10'"),
        ({"retries": -1}, "retries: expected a whole number, 0 or more, found -1"),
        ({"retries": True}, "retries: expected a whole number, 0 or more, found True"),
        ({"max_mb": None}, "max_mb: expected a number above 0, found None"),
        ({"max_pixels": 1e8}, "max_pixels: expected a whole number above 0, found 100000000.0"),
        ({"background": "white"}, "background: expected a list, found 'white'"),
        ({"background": [0, 0, 256]}, r"background: expected three whole numbers, 0 to 255, found \(0, 0, 256\)"),
        ({"exif": 1}, "exif: expected True or False, found 1"),
        ({"protocols": "s3"}, "protocols: expected a list, found 's3'"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"data_args\.images(\.|: ){message}"):
        read_settings(section)

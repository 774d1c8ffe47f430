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
        ({"cahce": True}, "cahce: unknown name; did you mean 'cache'"),
        ({"on_error": "warn"}, "on_error: expected one of 'raise', 'skip', found str 'warn'"),
        ({"pixels": "fast"}, "pixels: expected one of 'exact', 'close', 'reduced', found str 'fast'"),
        ({"cache": 3}, "cache: expected True or False or a folder, found int '3'"),
        ({"cache": ""}, "cache: expected True or False or a folder, found str ''"),
        ({"cache_gb": 0}, "cache_gb: expected a number above 0 and at most 1,000,000,000, found int '0'"),
        ({"features_gb": 1e308}, "features_gb: expected a number above 0 and at most 1,000,000,000"),
        ({"timeout": "10"}, "timeout: expected a number above 0, found str '10'"),
        ({"retries": -1}, "retries: expected a whole number of at least 0, found int '-1'"),
        ({"retries": True}, "retries: expected a whole number of at least 0, found bool 'True'"),
        ({"max_mb": None}, "max_mb: expected a number above 0 and at most 1,000,000,000, found nothing"),
        ({"max_pixels": 1e8}, "max_pixels: expected a whole number of at least 1, found float '100000000.0'"),
        ({"background": "white"}, "background: expected a list of 3 whole numbers from 0 to 255, found str 'white'"),
        ({"background": [0, 0, 256]}, "background.2: expected a whole number from 0 to 255, found int '256'"),
        ({"exif": 1}, "exif: expected True or False, found int '1'"),
        ({"protocols": "s3"}, "protocols: expected a list of texts, found str 's3'"),
    ],
)
def test_a_wrong_section_is_named(section: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"data_args\.images\.{message}"):
        read_settings(section)

"""Images in ceph, by the petrel client that mmengine speaks to. Its timeouts and keys are in `~/petreloss.conf`."""

from __future__ import annotations

from functools import lru_cache

from mmengine.fileio import PetrelBackend

from mllm.errors import ConfigError


def read(url: str) -> bytes:
    """The bytes at `petrel://bucket/key`, `s3://bucket/key` of a `cluster:` before them.

    Raises:
        ConfigError: petrel_client is not installed.
    """
    return _backend().get(url)


@lru_cache(maxsize=1)
def _backend() -> PetrelBackend:
    try:
        return PetrelBackend()
    except ImportError as error:
        raise ConfigError(
            "images in ceph need the package petrel_client, which comes with the ceph cluster, not from PyPI"
        ) from error

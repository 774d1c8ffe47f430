"""Where a run writes when nobody says it."""

from __future__ import annotations

import os
from pathlib import Path

from mllm.errors import ConfigError

VERTEX = "AIP_CHECKPOINT_DIR"
"""Google's Vertex AI says here where a training job keeps its checkpoints."""
CLOUD_STORAGE = Path("/gcs")
"""Where Vertex AI mounts the buckets of Cloud Storage."""


def default_output_dir(config: str | Path) -> str:
    """`AIP_CHECKPOINT_DIR` where it is set, gs://bucket/folder as /gcs/bucket/folder; else outputs/<config's name>.

    Raises:
        ConfigError: it names a place that is not mounted.
    """
    given = os.environ.get(VERTEX, "").strip()
    if not given:
        return f"outputs/{Path(config).stem}"
    scheme, separator, rest = given.partition("://")
    if not separator:
        return given
    if scheme == "gs" and rest.strip("/") and CLOUD_STORAGE.is_dir():
        return str(CLOUD_STORAGE / rest.strip("/"))
    expected = f"a folder, or gs://BUCKET/FOLDER with Cloud Storage mounted at {CLOUD_STORAGE}"
    raise ConfigError("or set --output_dir, and --mirror_dir to a URL", where=VERTEX, expected=expected, found=given)

"""Shards of webdataset, as img2dataset writes them for CC3M, CC12M and LAION: images with captions."""

CAPTION_CC3M_SHARDS = dict(
    type="Shards",
    filename="data/shards/cc3m/*.tar",
    questions="config/questions/caption.json",
)
CAPTION_LAION_SHARDS = dict(
    type="Shards",
    filename="data/shards/laion/*.tar",
    questions="config/questions/caption.json",
)

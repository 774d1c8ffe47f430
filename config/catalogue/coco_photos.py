"""The example set that comes with the sources: 28 photos of COCO 2017, see examples/coco_photos/ATTRIBUTION.md."""

REC_COCO_PHOTOS_TRAIN = dict(
    type="REC",
    filename="examples/coco_photos/train.jsonl",
    image_folder="examples/coco_photos/images",
    questions="config/questions/rec.json",
)
REC_COCO_PHOTOS_HELDOUT = dict(
    type="REC",
    filename="examples/coco_photos/heldout.jsonl",
    image_folder="examples/coco_photos/images",
    questions="config/questions/rec.json",
)
REG_COCO_PHOTOS_TRAIN = dict(
    type="REG",
    filename="examples/coco_photos/train.jsonl",
    image_folder="examples/coco_photos/images",
    questions="config/questions/reg.json",
)
REG_COCO_PHOTOS_HELDOUT = dict(
    type="REG",
    filename="examples/coco_photos/heldout.jsonl",
    image_folder="examples/coco_photos/images",
    questions="config/questions/reg.json",
)
CAPTION_COCO_PHOTOS = dict(
    type="Caption",
    filename="examples/coco_photos/captions.jsonl",
    image_folder="examples/coco_photos/images",
    questions="config/questions/caption.json",
)

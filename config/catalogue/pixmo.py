"""Pointing and counting: PixMo-Points, its test set and PixMo-Count, as tools/convert/pixmo.py writes them."""

PIXMO_POINTS_TRAIN = dict(
    type="PointList",
    filename="data/annotations/PT_pixmo_points_train.jsonl",
    image_folder="data/images/pixmo",
    questions="config/questions/point.json",
)
PIXMO_POINTS_EVAL = dict(
    type="PointList",
    filename="data/annotations/PT_pixmo_points_test.jsonl",
    image_folder="data/images/pixmo",
    questions="config/questions/point.json",
)
PIXMO_COUNT_VAL = dict(
    type="Instruct", filename="data/annotations/CNT_pixmo_count_validation.jsonl", image_folder="data/images/pixmo"
)
PIXMO_COUNT_TEST = dict(
    type="Instruct", filename="data/annotations/CNT_pixmo_count_test.jsonl", image_folder="data/images/pixmo"
)

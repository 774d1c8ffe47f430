"""Moments of videos: Charades-STA on the frames of Charades_v1_rgb, ActivityNet Captions on frames of your own."""

MOMENTS_CHARADES_STA_TRAIN = dict(
    type="Moments",
    filename="data/annotations/TG_charades_sta_train.jsonl",
    image_folder="data/images/Charades_v1_rgb",
    fps=24,
    questions="config/questions/moment.json",
)
MOMENTS_CHARADES_STA_TEST = dict(
    type="Moments",
    filename="data/annotations/TG_charades_sta_test.jsonl",
    image_folder="data/images/Charades_v1_rgb",
    fps=24,
    questions="config/questions/moment.json",
)
MOMENTS_ACTIVITYNET_VAL_2 = dict(
    type="Moments",
    filename="data/annotations/TG_activitynet_captions_val_2.jsonl",
    image_folder="data/images/activitynet_frames",
    fps=1,
    questions="config/questions/moment.json",
)

"""CLEVR, in its public files."""

CLEVR_TRAIN_Q_A = dict(
    type="CLEVR",
    version="q-a",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_train_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/train",
    questions="config/questions/vqa.json",
)
CLEVR_TRAIN_Q_S = dict(
    type="CLEVR",
    version="q-s",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_train_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/train",
    questions="config/questions/vqa_reason.json",
)
CLEVR_TRAIN_Q_BS = dict(
    type="CLEVR",
    version="q-bs",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_train_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/train",
    questions="config/questions/vqa_reason_points.json",
    scenes="data/annotations/CLEVR_v1.0/scenes/CLEVR_train_scenes.json",
)
CLEVR_VAL_Q_A = dict(
    type="CLEVR",
    version="q-a",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_val_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/val",
    questions="config/questions/vqa.json",
)
CLEVR_VAL_Q_S = dict(
    type="CLEVR",
    version="q-s",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_val_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/val",
    questions="config/questions/vqa_reason.json",
)
CLEVR_VAL_Q_BS = dict(
    type="CLEVR",
    version="q-bs",
    filename="data/annotations/CLEVR_v1.0/questions/CLEVR_val_questions.json",
    image_folder="data/images/CLEVR_v1.0/images/val",
    questions="config/questions/vqa_reason_points.json",
    scenes="data/annotations/CLEVR_v1.0/scenes/CLEVR_val_scenes.json",
)

"""GQA, in its public files."""

GQA_TRAIN_Q_A = dict(
    type="GQA",
    version="q-a",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa.json",
)
GQA_TRAIN_Q_C = dict(
    type="GQA",
    version="q-c",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa_reason.json",
)
GQA_TRAIN_Q_BC = dict(
    type="GQA",
    version="q-bc",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa_reason_boxes.json",
    scene_graphs="data/annotations/gqa/train_sceneGraphs.json",
)
GQA_TRAIN_Q_S = dict(
    type="GQA",
    version="q-s",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa_reason.json",
)
GQA_TRAIN_Q_BS = dict(
    type="GQA",
    version="q-bs",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa_reason_boxes.json",
    scene_graphs="data/annotations/gqa/train_sceneGraphs.json",
)
GQA_TRAIN_QBP_BC = dict(
    type="GQA",
    version="qbp-bc",
    filename="data/annotations/gqa/train_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa_reason_boxes.json",
    scene_graphs="data/annotations/gqa/train_sceneGraphs.json",
)
GQA_VAL = dict(
    type="GQA",
    filename="data/annotations/gqa/val_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa.json",
)
GQA_TESTDEV = dict(
    type="GQA",
    filename="data/annotations/gqa/testdev_balanced_questions.json",
    image_folder="data/images/gqa",
    questions="config/questions/vqa.json",
)

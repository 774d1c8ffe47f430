"""ScienceQA, in its public files."""

SCIENCEQA_TRAIN = dict(
    type="ScienceQA",
    filename="data/annotations/scienceqa/problems.json",
    splits="data/annotations/scienceqa/pid_splits.json",
    split="train",
    image_folder="data/images/scienceqa",
    questions="config/questions/problem.json",
)
SCIENCEQA_VAL = dict(
    type="ScienceQA",
    filename="data/annotations/scienceqa/problems.json",
    splits="data/annotations/scienceqa/pid_splits.json",
    split="val",
    image_folder="data/images/scienceqa",
    questions="config/questions/problem.json",
)
SCIENCEQA_TEST = dict(
    type="ScienceQA",
    filename="data/annotations/scienceqa/problems.json",
    splits="data/annotations/scienceqa/pid_splits.json",
    split="test",
    image_folder="data/images/scienceqa",
    questions="config/questions/problem.json",
)
SCIENCEQA_IMG_TEST = dict(
    type="ScienceQA",
    filename="data/annotations/scienceqa/problems.json",
    splits="data/annotations/scienceqa/pid_splits.json",
    split="test",
    pictures="with",
    image_folder="data/images/scienceqa",
    questions="config/questions/problem.json",
)
SCIENCEQA_EXPLAINED_TRAIN = dict(
    type="ScienceQA",
    filename="data/annotations/scienceqa/problems.json",
    splits="data/annotations/scienceqa/pid_splits.json",
    split="train",
    explained="before",
    image_folder="data/images/scienceqa",
    questions="config/questions/problem.json",
)

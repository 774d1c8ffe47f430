"""Instruct-Flamingo's data: a config of its own that names the files, their images and their shares."""

INSTRUCT_FLAMINGO_MIXTURE = dict(
    type="InstructFlamingoMixture",
    filename="data/instruct_flamingo/datasets.json",
    sampling="ratio",
)
INSTRUCT_FLAMINGO_LLAVA_COMPLEX_77K = dict(
    type="InstructFlamingo",
    filename="data/instruct_flamingo/llava/complex_reasoning_77k.json",
    image_folder="data/images/coco2017/train2017",
)

# as tools/convert/nlvr2.py writes them
NLVR2_TRAIN = dict(
    type="InstructFlamingo",
    filename="data/annotations/nlvr2_train.jsonl",
    image_folder="data/images/nlvr2",
)
NLVR2_DEV = dict(
    type="InstructFlamingo",
    filename="data/annotations/nlvr2_dev.jsonl",
    image_folder="data/images/nlvr2",
)
NLVR2_TEST1 = dict(
    type="InstructFlamingo",
    filename="data/annotations/nlvr2_test1.jsonl",
    image_folder="data/images/nlvr2",
)

"""PointQA and the pointing task of Visual7W, in the file names of Shikra."""

POINTQA_LOCAL_BP_TRAIN = dict(
    type="PointQALocal",
    version="bp",
    filename="data/annotations/pointQA_local_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_OQ_BP_TRAIN = dict(
    type="PointQATwice",
    version="oq-bp",
    filename="data/annotations/pointQA_twice_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_SQ_BP_TRAIN = dict(
    type="PointQATwice",
    version="sq-bp",
    filename="data/annotations/pointQA_twice_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_GQ_BP_TRAIN = dict(
    type="PointQATwice",
    version="gq-bp",
    filename="data/annotations/pointQA_twice_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
V7W_POINTING_P_TRAIN = dict(
    type="V7WPointing",
    version="p",
    filename="data/annotations/v7w_pointing_train.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)
V7W_POINTING_B_TRAIN = dict(
    type="V7WPointing",
    version="b",
    filename="data/annotations/v7w_pointing_train.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)
POINTQA_LOCAL_P_VAL = dict(
    type="PointQALocal",
    version="p",
    filename="data/annotations/pointQA_local_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_LOCAL_B_VAL = dict(
    type="PointQALocal",
    version="b",
    filename="data/annotations/pointQA_local_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_OQ_P_VAL = dict(
    type="PointQATwice",
    version="oq-p",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_OQ_B_VAL = dict(
    type="PointQATwice",
    version="oq-b",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_SQ_P_VAL = dict(
    type="PointQATwice",
    version="sq-p",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_SQ_B_VAL = dict(
    type="PointQATwice",
    version="sq-b",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_GQ_P_VAL = dict(
    type="PointQATwice",
    version="gq-p",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_GQ_B_VAL = dict(
    type="PointQATwice",
    version="gq-b",
    filename="data/annotations/pointQA_twice_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
V7W_POINTING_P_VAL = dict(
    type="V7WPointing",
    version="p",
    filename="data/annotations/v7w_pointing_val.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)
V7W_POINTING_B_VAL = dict(
    type="V7WPointing",
    version="b",
    filename="data/annotations/v7w_pointing_val.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)
POINTQA_LOCAL_P_TEST = dict(
    type="PointQALocal",
    version="p",
    filename="data/annotations/pointQA_local_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_LOCAL_B_TEST = dict(
    type="PointQALocal",
    version="b",
    filename="data/annotations/pointQA_local_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_OQ_P_TEST = dict(
    type="PointQATwice",
    version="oq-p",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_OQ_B_TEST = dict(
    type="PointQATwice",
    version="oq-b",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_SQ_P_TEST = dict(
    type="PointQATwice",
    version="sq-p",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_SQ_B_TEST = dict(
    type="PointQATwice",
    version="sq-b",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_GQ_P_TEST = dict(
    type="PointQATwice",
    version="gq-p",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
POINTQA_TWICE_GQ_B_TEST = dict(
    type="PointQATwice",
    version="gq-b",
    filename="data/annotations/pointQA_twice_test.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/vqa.json",
)
V7W_POINTING_P_TEST = dict(
    type="V7WPointing",
    version="p",
    filename="data/annotations/v7w_pointing_test.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)
V7W_POINTING_B_TEST = dict(
    type="V7WPointing",
    version="b",
    filename="data/annotations/v7w_pointing_test.jsonl",
    image_folder="data/images/visual7w",
    questions="config/questions/vqa.json",
)

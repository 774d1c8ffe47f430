"""Questions about images, most of them COCO's.

VQAv2, OK-VQA, VQA-E, TextVQA and VizWiz as tools/convert/ writes them, VQA-X as Shikra's lines; the others in their
public files.
"""

VQAV2_TRAIN = dict(
    type="VQAv2",
    filename="data/annotations/v2_OpenEnded_mscoco_train2014_questions.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/vqa.json",
)
VQAV2_VAL = dict(
    type="VQAv2",
    filename="data/annotations/v2_OpenEnded_mscoco_val2014_questions.jsonl",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/vqa.json",
)
VQAV2_TESTDEV = dict(
    type="VQAv2",
    filename="data/annotations/v2_OpenEnded_mscoco_test-dev2015_questions.jsonl",
    image_folder="data/images/coco2014/test2015",
    questions="config/questions/vqa.json",
)
OKVQA_TRAIN = dict(
    type="VQAv2",
    filename="data/annotations/OpenEnded_mscoco_train2014_questions.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/vqa.json",
)
OKVQA_VAL = dict(
    type="VQAv2",
    filename="data/annotations/OpenEnded_mscoco_val2014_questions.jsonl",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/vqa.json",
)
TEXTVQA_TRAIN = dict(
    type="VQAv2",
    filename="data/annotations/textvqa_train.jsonl",
    image_folder="data/images/textvqa/train_images",
    questions="config/questions/vqa.json",
)
TEXTVQA_VAL = dict(
    type="VQAv2",
    filename="data/annotations/textvqa_val.jsonl",
    image_folder="data/images/textvqa/train_images",
    questions="config/questions/vqa.json",
)
# with the words that were read in the image behind the question: textvqa.py --ocr
TEXTVQA_OCR_VAL = dict(
    type="VQAv2",
    filename="data/annotations/textvqa_val_ocr.jsonl",
    image_folder="data/images/textvqa/train_images",
    questions="config/questions/vqa.json",
)
VIZWIZ_TRAIN = dict(
    type="VQAv2",
    filename="data/annotations/vizwiz_train.jsonl",
    image_folder="data/images/vizwiz/train",
    questions="config/questions/vqa.json",
)
VIZWIZ_VAL = dict(
    type="VQAv2",
    filename="data/annotations/vizwiz_val.jsonl",
    image_folder="data/images/vizwiz/val",
    questions="config/questions/vqa.json",
)
VQA_E_TRAIN = dict(
    type="VQAReason",
    kind="vqa_e",
    filename="data/annotations/vqa_E_train.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/vqa_reason.json",
)
VQA_X_TRAIN = dict(
    type="VQAReason",
    kind="vqa_x",
    filename="data/annotations/vqa_X_train.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/vqa_reason.json",
)
VQA_E_VAL = dict(
    type="VQAReason",
    kind="vqa_e",
    filename="data/annotations/vqa_E_val.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/vqa_reason.json",
)
VQA_X_VAL = dict(
    type="VQAReason",
    kind="vqa_x",
    filename="data/annotations/vqa_X_val.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/vqa_reason.json",
)
POPE_RANDOM = dict(
    type="POPE",
    filename="data/annotations/coco_pope_random.json",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/yes_no.json",
)
POPE_POPULAR = dict(
    type="POPE",
    filename="data/annotations/coco_pope_popular.json",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/yes_no.json",
)
POPE_ADVERSARIAL = dict(
    type="POPE",
    filename="data/annotations/coco_pope_adversarial.json",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/yes_no.json",
)
# the three splits at once: the metric POPE then gives each one's scores, and their means
POPE_ALL = dict(type="ConcatDataset", datasets=[POPE_RANDOM, POPE_POPULAR, POPE_ADVERSARIAL])
AOKVQA_TRAIN = dict(
    type="AOKVQA",
    filename="data/annotations/aokvqa_v1p0_train.json",
    image_folder="data/images/coco2017/train2017",
    questions="config/questions/choice.json",
)
AOKVQA_DIRECT_TRAIN = dict(
    type="AOKVQA",
    task="direct",
    filename="data/annotations/aokvqa_v1p0_train.json",
    image_folder="data/images/coco2017/train2017",
    questions="config/questions/vqa.json",
)
AOKVQA_VAL = dict(
    type="AOKVQA",
    filename="data/annotations/aokvqa_v1p0_val.json",
    image_folder="data/images/coco2017/val2017",
    questions="config/questions/choice.json",
)
AOKVQA_DIRECT_VAL = dict(
    type="AOKVQA",
    task="direct",
    filename="data/annotations/aokvqa_v1p0_val.json",
    image_folder="data/images/coco2017/val2017",
    questions="config/questions/vqa.json",
)
AOKVQA_TEST = dict(
    type="AOKVQA",
    filename="data/annotations/aokvqa_v1p0_test.json",
    image_folder="data/images/coco2017/test2017",
    questions="config/questions/choice.json",
)
AOKVQA_DIRECT_TEST = dict(
    type="AOKVQA",
    task="direct",
    filename="data/annotations/aokvqa_v1p0_test.json",
    image_folder="data/images/coco2017/test2017",
    questions="config/questions/vqa.json",
)
HATEFUL_MEMES_TRAIN = dict(
    type="HatefulMemes",
    filename="data/annotations/hateful_memes/train.jsonl",
    image_folder="data/images/hateful_memes",
    questions="config/questions/eval/openflamingo_hateful_memes.json",
)
HATEFUL_MEMES_DEV = dict(
    type="HatefulMemes",
    filename="data/annotations/hateful_memes/dev_seen.jsonl",
    image_folder="data/images/hateful_memes",
    questions="config/questions/eval/openflamingo_hateful_memes.json",
)

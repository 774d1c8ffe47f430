"""Expressions that mean any number of boxes: gRefCOCO, the phrases of Flickr30k Entities, HumanRef."""

GREC_GREFCOCO_UNC_VAL = dict(
    type="BoxList",
    filename="data/annotations/GREC_grefcoco_unc_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/boxes.json",
)
GREC_GREFCOCO_UNC_TESTA = dict(
    type="BoxList",
    filename="data/annotations/GREC_grefcoco_unc_testA.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/boxes.json",
)
GREC_GREFCOCO_UNC_TESTB = dict(
    type="BoxList",
    filename="data/annotations/GREC_grefcoco_unc_testB.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/boxes.json",
)
PG_FLICKR30K_EVAL = dict(
    type="BoxList",
    filename="data/annotations/PG_flickr30k_eval.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/boxes.json",
)
PG_FLICKR30K_TEST = dict(
    type="BoxList",
    filename="data/annotations/PG_flickr30k_test.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/boxes.json",
)
HUMANREF = dict(
    type="HumanRef",
    filename="data/originals/humanref/annotations.jsonl",
    image_folder="data/images/humanref",
    questions="config/questions/boxes.json",
)

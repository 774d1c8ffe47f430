"""Referring expressions: RefCOCO, RefCOCO+, RefCOCOg (COCO 2014 images), and regions of Visual Genome.

Lines: img_path, expression, bbox [x1, y1, x2, y2] in pixels. REC reads them from words to box, REG from box to words.
"""

REC_REF3_TRAIN = dict(
    type="REC",
    filename="data/annotations/REC_ref3_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_UNC_VAL = dict(
    type="REC",
    filename="data/annotations/REC_refcoco_unc_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_UNC_TESTA = dict(
    type="REC",
    filename="data/annotations/REC_refcoco_unc_testA.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_UNC_TESTB = dict(
    type="REC",
    filename="data/annotations/REC_refcoco_unc_testB.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_PLUS_UNC_VAL = dict(
    type="REC",
    filename="data/annotations/REC_refcoco+_unc_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_PLUS_UNC_TESTA = dict(
    type="REC",
    filename="data/annotations/REC_refcoco+_unc_testA.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_PLUS_UNC_TESTB = dict(
    type="REC",
    filename="data/annotations/REC_refcoco+_unc_testB.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCOG_UMD_VAL = dict(
    type="REC",
    filename="data/annotations/REC_refcocog_umd_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCOG_UMD_TEST = dict(
    type="REC",
    filename="data/annotations/REC_refcocog_umd_test.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)

REG_REF3_TRAIN = dict(
    type="REG",
    filename="data/annotations/REC_ref3_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_UNC_VAL = dict(
    type="REG",
    filename="data/annotations/REC_refcoco_unc_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_UNC_TESTA = dict(
    type="REG",
    filename="data/annotations/REC_refcoco_unc_testA.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_UNC_TESTB = dict(
    type="REG",
    filename="data/annotations/REC_refcoco_unc_testB.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_PLUS_UNC_VAL = dict(
    type="REG",
    filename="data/annotations/REC_refcoco+_unc_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_PLUS_UNC_TESTA = dict(
    type="REG",
    filename="data/annotations/REC_refcoco+_unc_testA.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCO_PLUS_UNC_TESTB = dict(
    type="REG",
    filename="data/annotations/REC_refcoco+_unc_testB.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCOG_UMD_VAL = dict(
    type="REG",
    filename="data/annotations/REC_refcocog_umd_val.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)
REG_REFCOCOG_UMD_TEST = dict(
    type="REG",
    filename="data/annotations/REC_refcocog_umd_test.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/reg.json",
)

REC_GENOME196_TRAIN = dict(
    type="REC",
    filename="data/annotations/GC_genome196_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/rec.json",
)
GC_GENOME196_TRAIN = dict(
    type="REG",
    filename="data/annotations/GC_genome196_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/region_caption.json",
)

# as tools/convert/visual_genome.py writes them
REC_GENOME_TRAIN = dict(
    type="REC",
    filename="data/annotations/GC_genome_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/rec.json",
)
GC_GENOME_TRAIN = dict(
    type="REG",
    filename="data/annotations/GC_genome_train.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/region_caption.json",
)
REC_GENOME_VAL = dict(
    type="REC",
    filename="data/annotations/GC_genome_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/rec.json",
)
GC_GENOME_VAL = dict(
    type="REG",
    filename="data/annotations/GC_genome_val.jsonl",
    image_folder="data/images/visual_genome",
    questions="config/questions/region_caption.json",
)

# one set alone, as tools/convert/refcoco.py writes it from the originals; the split `google` of refcocog likewise
REC_REFCOCO_UNC_TRAIN = dict(
    type="REC",
    filename="data/annotations/REC_refcoco_unc_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCO_PLUS_UNC_TRAIN = dict(
    type="REC",
    filename="data/annotations/REC_refcoco+_unc_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)
REC_REFCOCOG_UMD_TRAIN = dict(
    type="REC",
    filename="data/annotations/REC_refcocog_umd_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/rec.json",
)

# "the only dog", as `tools/convert/coco.py instances` writes it
REC_COCO2017_TRAIN = dict(
    type="REC",
    filename="data/annotations/REC_coco2017_train.jsonl",
    image_folder="data/images/coco2017/train2017",
    questions="config/questions/rec.json",
)
REC_COCO2017_VAL = dict(
    type="REC",
    filename="data/annotations/REC_coco2017_val.jsonl",
    image_folder="data/images/coco2017/val2017",
    questions="config/questions/rec.json",
)
REC_REF_L4_VAL = dict(
    type="REC",
    filename="data/annotations/REC_ref_l4_val.jsonl",
    image_folder="data/images/ref_l4",
    questions="config/questions/rec.json",
)
REC_REF_L4_TEST = dict(
    type="REC",
    filename="data/annotations/REC_ref_l4_test.jsonl",
    image_folder="data/images/ref_l4",
    questions="config/questions/rec.json",
)

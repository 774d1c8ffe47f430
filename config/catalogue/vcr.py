"""Visual commonsense reasoning, as tools/convert/vcr.py writes it. What is asked and answered: see the class VCR."""

VCR_TRAIN_Q_A = dict(
    type="VCR",
    version="q-a",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_TRAIN_Q_RA = dict(
    type="VCR",
    version="q-ra",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa_reason_boxes.json",
)
VCR_TRAIN_QC_A = dict(
    type="VCR",
    version="qc-a",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_TRAIN_QC_RA = dict(
    type="VCR",
    version="qc-ra",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa_reason_boxes.json",
)
VCR_TRAIN_QC_RAC = dict(
    type="VCR",
    version="qc-rac",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa_reason_boxes.json",
)
VCR_TRAIN_QA_R = dict(
    type="VCR",
    version="qa-r",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_TRAIN_Q_A_Q_R = dict(
    type="VCR",
    version="q-a-q-r",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_TRAIN_QAC_R = dict(
    type="VCR",
    version="qac-r",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_TRAIN_QC_A_QC_R = dict(
    type="VCR",
    version="qc-a-qc-r",
    filename="data/annotations/vcr_train.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_VAL_QC_A = dict(
    type="VCR",
    version="qc-a",
    filename="data/annotations/vcr_val.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_VAL_QC_RAC = dict(
    type="VCR",
    version="qc-rac",
    filename="data/annotations/vcr_val.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa_reason_boxes.json",
)
VCR_VAL_QAC_R = dict(
    type="VCR",
    version="qac-r",
    filename="data/annotations/vcr_val.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)
VCR_VAL_JOINT = dict(type="ConcatDataset", datasets=[VCR_VAL_QC_A, VCR_VAL_QAC_R])
VCR_VAL_QC_A_QC_R = dict(
    type="VCR",
    version="qc-a-qc-r",
    filename="data/annotations/vcr_val.jsonl",
    image_folder="data/images/vcr1images",
    questions="config/questions/vqa.json",
)

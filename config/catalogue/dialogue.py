"""Shikra's referential dialogue, generated about images of Flickr30k: an answer, reasons, reasons with boxes."""

DIALOGUE_SHIKRA_A = dict(
    type="ReferentialDialogue",
    filename="data/annotations/GPT4GEN_BoxCoT_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/vqa.json",
    version="a",
)
DIALOGUE_SHIKRA_C = dict(
    type="ReferentialDialogue",
    filename="data/annotations/GPT4GEN_BoxCoT_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/vqa_reason.json",
    version="c",
)
DIALOGUE_SHIKRA_BC = dict(
    type="ReferentialDialogue",
    filename="data/annotations/GPT4GEN_BoxCoT_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/vqa_reason_boxes.json",
    version="bc",
)
DIALOGUE_SHIKRA_RD_BC = dict(
    type="ReferentialDialogue",
    filename="data/annotations/GPT4GEN_RD_BoxCoT_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/vqa_reason_boxes.json",
    version="bc",
)

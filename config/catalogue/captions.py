"""Captions of whole images: COCO, and Flickr30k Entities with a box after each phrase."""

CAPTION_COCO2014_TRAIN = dict(
    type="Caption",
    filename="data/annotations/CAP_coco2014_train.jsonl",
    image_folder="data/images/coco2014/train2014",
    questions="config/questions/caption.json",
)
CAPTION_COCO2014_VAL = dict(
    type="Caption",
    filename="data/annotations/CAP_coco2014_val.jsonl",
    image_folder="data/images/coco2014/val2014",
    questions="config/questions/caption.json",
)

GROUNDED_FLICKR30K_TRAIN = dict(
    type="GroundedCaption",
    filename="data/annotations/CWB_flickr30k_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/grounded_caption.json",
)
GROUNDED_FLICKR30K_EVAL = dict(
    type="GroundedCaption",
    filename="data/annotations/CWB_flickr30k_eval.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/grounded_caption.json",
)
GROUNDED_FLICKR30K_TEST = dict(
    type="GroundedCaption",
    filename="data/annotations/CWB_flickr30k_test.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/grounded_caption.json",
)

# the reverse: from the boxes of a phrase to its words
PHRASES_FLICKR30K_TRAIN = dict(
    type="GroundedPhrase",
    filename="data/annotations/CWB_flickr30k_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/phrase_of_boxes.json",
)
PHRASES_FLICKR30K_EVAL = dict(
    type="GroundedPhrase",
    filename="data/annotations/CWB_flickr30k_eval.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/phrase_of_boxes.json",
)
PHRASES_FLICKR30K_TEST = dict(
    type="GroundedPhrase",
    filename="data/annotations/CWB_flickr30k_test.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/phrase_of_boxes.json",
)

# as tools/convert/textcaps.py writes them
CAPTION_TEXTCAPS_TRAIN = dict(
    type="Caption",
    filename="data/annotations/CAP_textcaps_train.jsonl",
    image_folder="data/images/textcaps/train_images",
    questions="config/questions/caption.json",
)
CAPTION_TEXTCAPS_VAL = dict(
    type="Caption",
    filename="data/annotations/CAP_textcaps_val.jsonl",
    image_folder="data/images/textcaps/train_images",
    questions="config/questions/caption.json",
)

# Karpathy's splits, as tools/convert/karpathy.py writes them
CAPTION_COCO_KARPATHY_TRAIN = dict(
    type="Caption",
    filename="data/annotations/CAP_coco_karpathy_train.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/caption.json",
)
CAPTION_COCO_KARPATHY_VAL = dict(
    type="Caption",
    filename="data/annotations/CAP_coco_karpathy_val.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/caption.json",
)
CAPTION_COCO_KARPATHY_TEST = dict(
    type="Caption",
    filename="data/annotations/CAP_coco_karpathy_test.jsonl",
    image_folder="data/images/coco2014",
    questions="config/questions/caption.json",
)
CAPTION_FLICKR30K_KARPATHY_TRAIN = dict(
    type="Caption",
    filename="data/annotations/CAP_flickr30k_karpathy_train.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/caption.json",
)
CAPTION_FLICKR30K_KARPATHY_VAL = dict(
    type="Caption",
    filename="data/annotations/CAP_flickr30k_karpathy_val.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/caption.json",
)
CAPTION_FLICKR30K_KARPATHY_TEST = dict(
    type="Caption",
    filename="data/annotations/CAP_flickr30k_karpathy_test.jsonl",
    image_folder="data/images/flickr30k",
    questions="config/questions/caption.json",
)

# The example photos: a tiny LLaVA from random weights learns the boxes of its own 21 training photos by heart, which
# shows that the path from file to score is right. On the 7 held-out photos such a model is poor, as its report shows.
#
# command   mllm train config/rec_llava_tiny_coco.py
# hardware  two CPU cores
_base_ = ["_base_/model/llava_tiny.py", "_base_/train/tiny.py", "catalogue/coco_photos.py"]

model_args = dict(vision_tower=dict(image_size=96, patch_size=16))
training_args = dict(
    output_dir="outputs/rec_llava_tiny_coco",
    do_predict=True,
    max_steps=400,
    per_device_train_batch_size=21,
    per_device_eval_batch_size=32,
    lr_scheduler_type="cosine",
    warmup_steps=20,
    logging_steps=50,
)
data_args = dict(
    train=dict(type="SamePicture", dataset=_base_.REC_COCO_PHOTOS_TRAIN),
    collator_kwargs=dict(packing="shared"),  # the expressions of a photo share its tokens
    multitest=dict(
        training_photos=dict(cfg=_base_.REC_COCO_PHOTOS_TRAIN),
        heldout_photos=dict(cfg=_base_.REC_COCO_PHOTOS_HELDOUT),
    ),
    compute_metric=dict(type="REC", constant_box=True),
    gen_kwargs=dict(max_new_tokens=24),
)

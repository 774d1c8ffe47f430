# Shikra 7B, first stage: boxes in and out as plain numbers, from the public grounding and captioning sets.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/shikra_7b_stage1.py
# hardware  8 GPUs of 80 GB; 100 hours on A100s in the paper, not measured by us
# score     not measured by us; Shikra 7B publishes, after both stages, acc@0.5 of 87.0 / 90.6 / 80.2 on RefCOCO
#           val / testA / testB, 81.6 / 87.4 / 72.1 on RefCOCO+, 82.3 / 82.2 on RefCOCOg val / test
# source    100,000 steps of 64, learning rate 2e-5, cosine, CLIP frozen (Chen et al. 2023, arXiv 2306.15195). Their
#           mixture also holds VQAv2, PointQA, Visual7W and VCR, which have no dataset here yet.
_base_ = [
    "_base_/model/llava_v1_7b.py",
    "_base_/train/llava_fsdp.py",
    "catalogue/refcoco.py",
    "catalogue/captions.py",
    "catalogue/instruct.py",
]

model_args = dict(model_name_or_path="outputs/llava_v1_7b_pretrain")
training_args = dict(
    output_dir="outputs/shikra_7b_stage1",
    max_steps=100_000,
    per_device_train_batch_size=8,  # samples per GPU, 64 a step
)
data_args = dict(
    train=dict(
        type="ConcatDataset",
        datasets=[
            _base_.REC_REF3_TRAIN,
            _base_.REG_REF3_TRAIN,
            _base_.REC_GENOME196_TRAIN,
            _base_.GC_GENOME196_TRAIN,
            _base_.GROUNDED_FLICKR30K_TRAIN,
            _base_.CAPTION_COCO2014_TRAIN,
            _base_.INSTRUCT_LLAVA_CC3M_595K,
        ],
    ),
    max_length=1024,  # tokens of a training row
)

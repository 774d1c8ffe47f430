# Shikra 7B, second stage: half of what it sees is now instructions and referential dialogue.
#
# command   accelerate launch --config_file accelerate_config/default_config.yaml --num_processes 8 \
#               mllm/pipeline/finetune.py config/shikra_7b_stage2.py
# hardware  8 GPUs of 80 GB; 20 hours on A100s in the paper, not measured by us
# score     as config/shikra_7b_stage1.py has it
# source    as of the first stage; half LLaVA-Instruct-150K and generated dialogue (Chen et al. 2023, arXiv 2306.15195).
#           20,000 steps are ours: a fifth of the first stage's, as the hours are.
_base_ = [
    "_base_/model/llava_v1_7b.py",
    "_base_/train/llava_fsdp.py",
    "catalogue/refcoco.py",
    "catalogue/captions.py",
    "catalogue/instruct.py",
    "catalogue/dialogue.py",
]

model_args = dict(model_name_or_path="outputs/shikra_7b_stage1")
training_args = dict(
    output_dir="outputs/shikra_7b_stage2",
    per_device_train_batch_size=8,  # samples per GPU, 64 a step
)
FIRST_STAGE = [
    _base_.REC_REF3_TRAIN,
    _base_.REG_REF3_TRAIN,
    _base_.REC_GENOME196_TRAIN,
    _base_.GC_GENOME196_TRAIN,
    _base_.GROUNDED_FLICKR30K_TRAIN,
    _base_.CAPTION_COCO2014_TRAIN,
]
DIALOGUE = [
    _base_.DIALOGUE_SHIKRA_A,
    _base_.DIALOGUE_SHIKRA_C,
    _base_.DIALOGUE_SHIKRA_BC,
    _base_.DIALOGUE_SHIKRA_RD_BC,
]
data_args = dict(
    train=dict(
        type="Mixture",
        datasets=[
            dict(type="ConcatDataset", datasets=FIRST_STAGE),
            _base_.INSTRUCT_LLAVA_150K,
            dict(type="ConcatDataset", datasets=DIALOGUE),
        ],
        ratios=[2, 1, 1],
        train_num_samples=1_280_000,  # 20,000 steps of 64
    ),
    max_length=1024,  # tokens of a training row
)

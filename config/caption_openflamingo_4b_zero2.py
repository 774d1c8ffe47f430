# OpenFlamingo 4B captions COCO after low-rank fine-tuning with DeepSpeed ZeRO-2: gradients and optimizer sharded, the
# pretrained perceiver at a lower rate than the new adapters.
#
# command   accelerate launch --config_file accelerate_config/deepspeed_zero2.yaml --num_processes 4 \
#               mllm/pipeline/finetune.py config/caption_openflamingo_4b_zero2.py      (pip install 'mllm[deepspeed]')
# hardware  4 GPUs of 40 GB; not measured by us, and DeepSpeed has not been tried here
# score     not measured; these settings are ours. Without tuning OpenFlamingo 4B publishes CIDEr 76.7 with no example
#           (Awadalla et al. 2023, arXiv 2308.01390)
_base_ = ["_base_/train/flamingo_ddp.py", "catalogue/captions.py"]

model_args = dict(
    type="openflamingo",
    vision_tower="checkpoints/clip-vit-large-patch14",
    language_model="checkpoints/RedPajama-INCITE-Base-3B-v1",
    tokenizer="checkpoints/openflamingo-4b-tokenizer",  # as docs/recipes.md says
    checkpoint="checkpoints/OpenFlamingo-4B-vitl-rpj3b.pt",
    cross_attn_every_n_layers=2,
    template="openflamingo",
    placement="crop",
    adapters=dict(
        type="lora",
        targets=["language_model", "cross_attention"],
        r=16,
        alpha=32,
        dropout=0.05,
        unfrozen=["perceiver"],
    ),
    learning_rate_groups=dict(perceiver=1e-5),
)
training_args = dict(
    output_dir="outputs/caption_openflamingo_4b_zero2",
    num_train_epochs=3,
    per_device_train_batch_size=8,  # captions per GPU, 32 a step
    learning_rate=1e-4,
    warmup_steps=0.03,  # below 1: share of all steps
    do_predict=True,
)
data_args = dict(
    train=_base_.CAPTION_COCO2014_TRAIN,
    test=_base_.CAPTION_COCO2014_VAL,
    max_length=128,
    gen_kwargs=dict(max_new_tokens=20, num_beams=3),
)

# Mix and match on one GPU: a SigLIP encoder, a perceiver of 144 tokens per image, a small Qwen in 4 bits with low-rank
# adapters. Any other folders of an encoder and a causal language model may stand in their places.
#
# command   mllm train config/siglip_qwen_perceiver_qlora.py
# hardware  1 GPU of 24 GB; not measured by us
# score     not measured; the mix is ours
# source    nf4, double quantisation, r 64, alpha 16, dropout 0.1, constant 2e-4, gradients cut at norm 0.3, 16 a step:
#           QLoRA for models of 7B (Dettmers et al. 2023, arXiv 2305.14314)
_base_ = ["catalogue/instruct.py"]

model_args = dict(
    type="llava",
    vision_tower="checkpoints/siglip-so400m-patch14-384",
    language_model="checkpoints/Qwen2.5-1.5B-Instruct",
    connector=dict(type="perceiver", latents=144, depth=2),
    feature_layer=-2,
    freeze=["vision_tower"],
    quantization=dict(type="bitsandbytes", bits=4, quant_type="nf4", double_quant=True, compute_dtype="bfloat16"),
    adapters=dict(type="lora", targets=["language_model"], r=64, alpha=16, dropout=0.1, unfrozen=["connector"]),
    template="chat",
    placement="pad",
)
training_args = dict(
    output_dir="outputs/siglip_qwen_perceiver_qlora",
    do_train=True,
    num_train_epochs=1,
    per_device_train_batch_size=4,  # conversations
    gradient_accumulation_steps=4,  # 16 conversations a step
    learning_rate=2e-4,
    lr_scheduler_type="constant_with_warmup",
    warmup_steps=0.03,  # below 1: share of all steps
    max_grad_norm=0.3,
    bf16=True,
    activation_checkpointing=True,
    logging_steps=10,  # steps
    save_strategy="steps",
    save_steps=1000,  # steps
    save_total_limit=1,  # checkpoints kept
    dataloader_num_workers=4,
)
data_args = dict(
    train=dict(
        type="ConcatDataset",
        # one caption per image first teaches a new connector; both are shuffled together here
        datasets=[
            dict(type="Subset", dataset=_base_.INSTRUCT_LLAVA_LCS_558K, fraction=0.25),
            _base_.INSTRUCT_LLAVA_150K,
        ],
    ),
    max_length=1024,
)

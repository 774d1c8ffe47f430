# Moments of videos: temporal IoU on Charades-STA and ActivityNet Captions.
#
# command   mllm predict config/eval/moments.py --cfg-options model_args.type=hf model_args.model_name_or_path=DIR
# source    Gao et al. 2017 (TALL, arXiv 1705.02101); Krishna et al. 2017 (arXiv 1705.00754)
_base_ = ["../_base_/train/eval.py", "../catalogue/moments.py"]

training_args = dict(output_dir="outputs/moments")
data_args = dict(
    multitest=dict(
        charades_sta_test=dict(cfg=_base_.MOMENTS_CHARADES_STA_TEST, compute_metric="TemporalIoU"),
        activitynet_val_2=dict(cfg=_base_.MOMENTS_ACTIVITYNET_VAL_2, compute_metric="TemporalIoU"),
    ),
    images=dict(num_frames=32, fps=1.0),  # at most 32 frames, at most one a second
    gen_kwargs=dict(max_new_tokens=64),
)

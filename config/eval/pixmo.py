# PixMo: points on masks (F1 of matched points, mean over answers), and counts from 2 to 10 (validation and test).
#
# command   mllm predict config/eval/pixmo.py --cfg-options model_args.type=llava model_args.model_name_or_path=DIR
# source    Deitke et al. 2024 (Molmo, arXiv 2409.17146); allenai/molmo: olmo/eval/evaluators.py
_base_ = ["../_base_/train/eval.py", "../catalogue/pixmo.py"]

training_args = dict(output_dir="outputs/pixmo")
data_args = dict(
    multitest=dict(
        points_eval=dict(cfg=_base_.PIXMO_POINTS_EVAL, compute_metric=dict(type="PointIn", rule="match")),
        count_val=dict(cfg=_base_.PIXMO_COUNT_VAL, compute_metric="Counting"),
        count_test=dict(cfg=_base_.PIXMO_COUNT_TEST, compute_metric="Counting"),
    ),
    gen_kwargs=dict(max_new_tokens=256),  # up to 15 points
)

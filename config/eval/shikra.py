# What Shikra reports: RefCOCO/+/g, PointQA, Visual7W, VQAv2 (here val), OK-VQA, captions of Flickr30k, POPE.
#
# command   mllm predict config/eval/shikra.py --cfg-options model_args.model_name_or_path=DIR
# source    Chen et al. 2023 (arXiv 2306.15195), tables 2 to 6; reading of boxes: shikras/shikra, rec.py
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/refcoco.py",
    "../catalogue/point_qa.py",
    "../catalogue/vqa.py",
    "../catalogue/captions.py",
]

training_args = dict(output_dir="outputs/eval_shikra")
model_args = dict(type="llava", codec="shikra")
REC = dict(type="REC", reading="shikra")
data_args = dict(
    multitest=dict(
        refcoco_val=dict(cfg=_base_.REC_REFCOCO_UNC_VAL, compute_metric=REC),
        refcoco_testA=dict(cfg=_base_.REC_REFCOCO_UNC_TESTA, compute_metric=REC),
        refcoco_testB=dict(cfg=_base_.REC_REFCOCO_UNC_TESTB, compute_metric=REC),
        refcoco_plus_val=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_VAL, compute_metric=REC),
        refcoco_plus_testA=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_TESTA, compute_metric=REC),
        refcoco_plus_testB=dict(cfg=_base_.REC_REFCOCO_PLUS_UNC_TESTB, compute_metric=REC),
        refcocog_val=dict(cfg=_base_.REC_REFCOCOG_UMD_VAL, compute_metric=REC),
        refcocog_test=dict(cfg=_base_.REC_REFCOCOG_UMD_TEST, compute_metric=REC),
        looktwice_points=dict(cfg=_base_.POINTQA_TWICE_GQ_P_TEST),
        looktwice_boxes=dict(cfg=_base_.POINTQA_TWICE_GQ_B_TEST),
        local_points=dict(cfg=_base_.POINTQA_LOCAL_P_TEST),
        local_boxes=dict(cfg=_base_.POINTQA_LOCAL_B_TEST),
        v7w_pointing=dict(cfg=_base_.V7W_POINTING_B_TEST, compute_metric="PointingAccuracy"),
        vqav2_val=dict(cfg=_base_.VQAV2_VAL, compute_metric="VQAAccuracy"),
        okvqa_val=dict(cfg=_base_.OKVQA_VAL, compute_metric="VQAAccuracy"),
        flickr30k_captions=dict(cfg=_base_.CAPTION_FLICKR30K_KARPATHY_TEST, compute_metric="Captions"),
        pope=dict(cfg=_base_.POPE_ALL, compute_metric="POPE"),
    ),
    compute_metric="AnswerAccuracy",
    gen_kwargs=dict(max_new_tokens=256),
)

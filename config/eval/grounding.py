# Pointing beyond RefCOCO: Ref-L4, gRefCOCO, HumanRef, Flickr30k Entities, Visual7W, ScreenSpot-v2 and -Pro.
#
# command   mllm predict config/eval/grounding.py --cfg-options model_args.type=llava model_args.model_name_or_path=DIR
_base_ = [
    "../_base_/train/eval.py",
    "../catalogue/refcoco.py",
    "../catalogue/point_qa.py",
    "../catalogue/screens.py",
    "../catalogue/boxes.py",
]

training_args = dict(output_dir="outputs/grounding")
data_args = dict(
    multitest=dict(
        ref_l4_test=dict(cfg=_base_.REC_REF_L4_TEST, compute_metric="RefL4"),
        grefcoco_val=dict(cfg=_base_.GREC_GREFCOCO_UNC_VAL, compute_metric="GREC"),
        grefcoco_testA=dict(cfg=_base_.GREC_GREFCOCO_UNC_TESTA, compute_metric="GREC"),
        grefcoco_testB=dict(cfg=_base_.GREC_GREFCOCO_UNC_TESTB, compute_metric="GREC"),
        humanref=dict(cfg=_base_.HUMANREF, compute_metric="DensityF1"),
        flickr30k_test=dict(cfg=_base_.PG_FLICKR30K_TEST, compute_metric="PhraseGrounding"),
        v7w_pointing=dict(cfg=_base_.V7W_POINTING_B_TEST, compute_metric="PointingAccuracy"),
        screenspot_v2_mobile=dict(cfg=_base_.SCREENSPOT_V2_MOBILE, compute_metric="PointIn"),
        screenspot_v2_desktop=dict(cfg=_base_.SCREENSPOT_V2_DESKTOP, compute_metric="PointIn"),
        screenspot_v2_web=dict(cfg=_base_.SCREENSPOT_V2_WEB, compute_metric="PointIn"),
        screenspot_pro=dict(cfg=_base_.SCREENSPOT_PRO, compute_metric="PointIn"),
    ),
    gen_kwargs=dict(max_new_tokens=256),
)

"""MIMIC-IT (Li et al. 2023, arXiv 2306.05425), in the files of its release.

LA: images of LLaVA's instructions. CGD, SD: what differs between two images. DC, TVC, SN, E4D: videos and walks
through rooms; VST: stories in images. Of these five at most 8 frames stand behind one <image>: the model must take
videos. As rounds about one image or one video: LACONV, LADD, DC, TVC, SN, E4D, as in Otter's code
(process_general_imageqa, process_general_videoqa and process_scene_navigation of its mimicit_dataset.py); the others
with examples in context, each with its own. Images in parquet files are taken too: name them in `images`.
"""

MIMIC_IT_LACONV = dict(
    type="MimicIt",
    filename="data/mimic_it/LA/LACONV_instructions.json",
    images="data/mimic_it/LA/LA.json",
    relations="data/mimic_it/LA/LACONV_train.json",
    shared_pictures=True,
)

MIMIC_IT_LADD = dict(
    type="MimicIt",
    filename="data/mimic_it/LA/LADD_instructions.json",
    images="data/mimic_it/LA/LA.json",
    relations="data/mimic_it/LA/LADD_train.json",
    shared_pictures=True,
)

MIMIC_IT_LACR_I2I = dict(
    type="MimicIt",
    filename="data/mimic_it/LA/LACR_I2I_instructions.json",
    images="data/mimic_it/LA/LA.json",
    relations="data/mimic_it/LA/LACR_I2I_train.json",
)

MIMIC_IT_LACR_T2T = dict(
    type="MimicIt",
    filename="data/mimic_it/LA/LACR_T2T_instructions.json",
    images="data/mimic_it/LA/LA.json",
    relations="data/mimic_it/LA/LACR_T2T_train.json",
)

MIMIC_IT_CGD = dict(
    type="MimicIt",
    filename="data/mimic_it/CGD/CGD_instructions.json",
    images="data/mimic_it/CGD/CGD.json",
    relations="data/mimic_it/CGD/CGD_train.json",
)

MIMIC_IT_SD = dict(
    type="MimicIt",
    filename="data/mimic_it/SD/SD_instructions.json",
    images="data/mimic_it/SD/SD.json",
    relations="data/mimic_it/SD/SD_train.json",
)

MIMIC_IT_DC = dict(
    type="MimicIt",
    filename="data/mimic_it/DC/DC_instructions.json",
    images="data/mimic_it/DC/DC.json",
    relations="data/mimic_it/DC/DC_train.json",
    video=True,
    frames=8,
    shared_pictures=True,
)

MIMIC_IT_TVC = dict(
    type="MimicIt",
    filename="data/mimic_it/TVC/TVC_instructions.json",
    images="data/mimic_it/TVC/TVC.json",
    relations="data/mimic_it/TVC/TVC_train.json",
    video=True,
    frames=8,
    shared_pictures=True,
)

MIMIC_IT_VST = dict(
    type="MimicIt",
    filename="data/mimic_it/VST/VST_instructions.json",
    images="data/mimic_it/VST/VST.json",
    relations="data/mimic_it/VST/VST_train.json",
    video=True,
    frames=8,
)

MIMIC_IT_SN = dict(
    type="MimicIt",
    filename="data/mimic_it/SN/SN_instructions.json",
    images="data/mimic_it/SN/SN.json",
    relations="data/mimic_it/SN/SN_train.json",
    video=True,
    frames=8,
    shared_pictures=True,
)

MIMIC_IT_E4D = dict(
    type="MimicIt",
    filename="data/mimic_it/E4D/E4D_instructions.json",
    images="data/mimic_it/E4D/E4D.json",
    relations="data/mimic_it/E4D/E4D_train.json",
    video=True,
    frames=8,
    shared_pictures=True,
)

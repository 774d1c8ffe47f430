"""Generated pictures of coloured shapes: no files, exact answers. Training and validation differ in the seed.

SCENES_*: an expression alone as the question, a box alone as the answer, in a closed vocabulary; for tiny models.
SCENES_NATURAL_*: questions in whole sentences, about boxes, words and numbers.
"""

SCENES_TRAIN = dict(type="Scenes", count=20000, seed=0, size=64)
SCENES_VAL = dict(type="Scenes", count=500, seed=1, size=64)

# several questions behind one copy of each picture's tokens
SCENES_TURNS_TRAIN = dict(type="Scenes", count=20000, seed=0, size=64, questions_per_scene=4)

SCENES_NATURAL_TRAIN = dict(
    type="Scenes",
    count=20000,
    seed=0,
    size=224,
    objects=[2, 6],
    tasks=["rec", "reg", "count"],
    questions=dict(
        rec="config/questions/rec.json",
        reg="config/questions/reg.json",
        count="config/questions/count.json",
    ),
    answer="Answer: <boxes> .",
)
SCENES_NATURAL_REC_VAL = dict(
    type="Scenes",
    count=500,
    seed=1,
    size=224,
    objects=[2, 6],
    tasks=["rec"],
    questions="config/questions/rec.json",
    answer="Answer: <boxes> .",
)
SCENES_NATURAL_COUNT_VAL = dict(
    type="Scenes",
    count=500,
    seed=1,
    size=224,
    objects=[2, 6],
    tasks=["count"],
    questions="config/questions/count.json",
)

"""Generated images of coloured shapes: no files, exact answers. Training and validation differ in the seed.

SCENES_*: an expression alone as the question, a box alone as the answer, in a closed vocabulary; for tiny models.
SCENES_NATURAL_*: questions in whole sentences, about boxes, words and numbers.
"""

SCENES_VAL = dict(type="Scenes", count=512, seed=1, size=48, objects=[2, 4])

# Some images hold one shape, which teaches to point at all; the others several, with a question about each.
SCENES_TRAIN = dict(
    type="ConcatDataset",
    datasets=[
        dict(type="Scenes", count=30000, seed=2, size=48, objects=[1, 1]),
        dict(type="Scenes", count=70000, seed=3, size=48, objects=[2, 4], questions_per_scene=4),
    ],
)

# Other images than those above, with several shapes each: for what goes on from a model that those trained.
SCENES_FRESH_TRAIN = dict(type="Scenes", count=20000, seed=11, size=48, objects=[2, 4], questions_per_scene=4)
SCENES_FRESH_VAL = dict(type="Scenes", count=5000, seed=12, size=48, objects=[2, 4])

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

"""Classification: a folder of images for each class. The folder of your own goes where this one stands.

ImageNet as tools/convert/imagenet.py writes it: the name of the class as the caption of each image.
"""

WEATHER = dict(
    type="ImageFolder",
    folder="data/images/weather/train",
    question="What is the weather in this image?",
    questions="config/questions/classify.json",
)
WEATHER_TEST = dict(
    type="ImageFolder",
    folder="data/images/weather/test",
    question="What is the weather in this image?",
    questions="config/questions/classify.json",
)
IMAGENET_TRAIN = dict(
    type="Caption",
    filename="data/annotations/imagenet_train.jsonl",
    image_folder="data/images/imagenet/train",
    questions="config/questions/eval/openflamingo_caption.json",
)
IMAGENET_VAL = dict(
    type="Caption",
    filename="data/annotations/imagenet_val.jsonl",
    image_folder="data/images/imagenet/val",
    questions="config/questions/eval/openflamingo_caption.json",
)

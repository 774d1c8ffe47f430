"""Classification: a folder of images for each class. The folder of your own goes where this one stands."""

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

"""OCRBench, in its public file. Its metric has the same name."""

OCRBENCH = dict(
    type="OCRBench",
    filename="data/annotations/OCRBench.json",
    image_folder="data/images/OCRBench_Images",
    questions="config/questions/vqa.json",
)

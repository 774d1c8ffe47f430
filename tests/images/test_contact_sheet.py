from __future__ import annotations

from PIL import Image

from mllm.images import MemoryImage
from mllm.images.contact_sheet import ContactSheet

RED, BLUE, GREEN = (200, 0, 0), (0, 0, 200), (0, 120, 0)


def test_each_image_lies_where_its_place_says_below_its_name() -> None:
    sizes = ((40, 20), (30, 50), (10, 10))
    images = [
        MemoryImage(Image.new("RGB", size, colour)) for size, colour in zip(sizes, (RED, BLUE, GREEN), strict=True)
    ]
    sheet = ContactSheet(tuple(images), (0, 4, 7))
    drawn = sheet.open()
    assert drawn.size == sheet.size == (40 + 8 + 40, 2 * (50 + 12) + 8)
    for number, image, colour in zip((0, 4, 7), images, (RED, BLUE, GREEN), strict=True):
        x, y = sheet.places[number]
        width, height = image.size
        corners = ((x, y), (x + width - 1, y + height - 1))
        assert {drawn.getpixel(corner) for corner in corners} == {colour}
        strip = drawn.crop((x, y - 12, x + 40, y))
        assert len(strip.getcolors() or ()) > 1, f"image {number} has no name"
    assert sheet == ContactSheet(tuple(images), (0, 4, 7))

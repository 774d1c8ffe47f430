"""What people call an image."""

from __future__ import annotations

from mllm.images import IN_MEMORY, FileImage, ImageRef, UrlImage, Video, VideoFrame, fetch
from mllm.images.contact_sheet import ContactSheet
from mllm.images.embedded import Base64Image, MemberImage
from mllm.images.image_transforms import FlippedImage, PlacedImage
from mllm.images.resolution import BoundedImage


def name_of(ref: ImageRef) -> str:
    """The name of an image in messages and tables; of a URL without its query, where signatures are."""
    if isinstance(ref, FileImage):
        return ref.path
    if isinstance(ref, UrlImage):
        return fetch.redacted(ref.url)
    if isinstance(ref, (Base64Image, MemberImage)):
        return ref.where
    if isinstance(ref, BoundedImage):
        return name_of(ref.ref)
    if isinstance(ref, FlippedImage):
        return f"{name_of(ref.ref)}, flipped"
    if isinstance(ref, PlacedImage):
        (width, height), (left, top) = ref.extent, ref.offset
        return f"{name_of(ref.ref)}, {width} x {height} at ({left}, {top})"
    if isinstance(ref, ContactSheet):
        return ", ".join(map(name_of, ref.refs))
    if isinstance(ref, VideoFrame):
        return f"{name_of(ref.ref)} at {ref.time:g} s"
    if isinstance(ref, Video):
        return f"a video from {name_of(ref.frames[0])}"
    return IN_MEMORY

"""Boxes and points that stand in words, which a model would learn letter by letter: whose convention are they?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mllm.commands.data.faults import Fault
from mllm.commands.regions.words import WrittenRegions, public_codecs, region_words
from mllm.conversation.convention import Convention, ConversionError
from mllm.conversation.processor import Processor
from mllm.conversation.region_conversion import find
from mllm.types import Item

KIND = "region-words"
MAX_SHOWN = 60
"""Characters of a text that a warning shows."""


def words_faults(item: Item, processor: Processor, where: str) -> Iterator[Fault]:
    """A warning for each turn whose words are not what this processor's model should learn; sizes must be known.

    Words that its codec itself would write, without tokens of its own, are right as they stand where they lie on the
    image. In an item without images there are no regions, and numbers in mere brackets may be anything.
    """
    for number, turn in enumerate(item.turns):
        found = [one for one in region_words(turn.text) if item.images or not one.is_bare]
        if found and (reason := _wrong(found, item, number, processor)):
            yield Fault(where=where, reason=f"conversations[{number}].value: {reason}", kind=KIND)


def _wrong(found: Sequence[WrittenRegions], item: Item, number: int, processor: Processor) -> str | None:
    """Why a turn should not be learned as it stands."""
    own = {name for name, codec in public_codecs().items() if type(codec) is type(processor.codec)}
    foreign = [one for one in found if processor.codec.tokens or not own.intersection(one.codecs)]
    if not item.images:
        shown = (foreign or found)[0].words[:MAX_SHOWN]
        return f"expected plain words in a record without an image, found {shown!r}, which is learned as words"
    if not foreign:
        convention = Convention(
            name=min(own.intersection(found[0].codecs)),
            codec=processor.codec,
            placement=processor.view.placement,
        )
        return _off_image(item, number, convention)
    shown, names = foreign[0].words[:MAX_SHOWN], foreign[0].codecs
    found_there = f"expected <boxes> or plain words, found {shown!r}"
    if not names:
        learned = "regions in a form that no codec reads: they are learned as words"
        return f"{found_there}, {learned}; write <boxes> or <points>, and pixels in 'target'"
    return (
        f"{found_there}, as {' or '.join(names)} writes regions: they are learned as words, unless the dataset reads "
        f"them by regions={names[0]!r}, or mllm regions convert --from {names[0]} --to typed"
    )


def _off_image(item: Item, number: int, convention: Convention) -> str | None:
    """Why words of the model's own convention are none on the image of their turn; None also where that is not said."""
    turn = item.turns[number]
    image = item.image_of(number if turn.role == "human" else number - 1)
    if image is None:
        return None
    size = item.images[image].size
    try:
        list(find(turn.text, lambda: size, convention, image=image))
    except ConversionError as error:
        return f"words that are learned as text, but {error}"
    return None

"""Sentences about data that predict trouble: the fault, how often and where first, and what to do."""

from __future__ import annotations

from collections.abc import Iterator

from .captions import CaptionStatistics, Tokens
from .describe import LabelStatistics, Overlap, Statistics
from .images import LONG, SMALL, ImageStatistics
from .spread import Found

SAME_LABEL, LEAST_DOCUMENTS = 0.1, 100
"""Share of all couples of pairs with the same label, from which on labels leave out too many negatives; of fewer pairs
it says nothing."""
MANY = 0.2  # share of captions that stand at several images


def troubles(found: Statistics, shared: Overlap | None = None, batch_size: int = 128) -> list[str]:
    """Return a sentence for each trouble; none for clean data.

    Args:
        found: the statistics of training data.
        shared: its overlap with evaluation data.
        batch_size: of the training.
    """
    lines: list[str] = []
    if found.captions is not None:
        lines += _of_captions(found.captions)
    if found.images is not None:
        lines += _of_images(found.images, batch_size, labelled="labelled" in found.kinds)
    if found.labels is not None:
        lines += _of_labels(found.labels, found.kinds, found.documents)
    if shared is not None:
        first, other = shared.first or (0, 0)
        lines += of_overlap(shared, f"document {first} (there {other})")
    return lines


def of_tokens(tokens: Tokens, captions: int, longest: str) -> Iterator[str]:
    """Yield a sentence if captions are cut.

    Args:
        tokens: lengths of the captions.
        captions: their number.
        longest: names the longest one.
    """
    if tokens.cut:
        yield (
            f"captions that are cut: {tokens.cut} of {captions}. {tokens.model} reads {tokens.limit} tokens, the "
            f"longest has {tokens.lengths.most:g} ({longest}). Put the words that matter first, or shorten them."
        )


def of_near_images(images: int, pairs: int, looked_at: int, example: str, batch_size: int) -> Iterator[str]:
    """Yield a sentence if images look alike.

    Args:
        images: in groups of near duplicates.
        pairs: of images of one group.
        looked_at: images.
        example: names a group.
        batch_size: of the training.
    """
    if images:
        batch = min(batch_size, looked_at)
        false = pairs * batch * (batch - 1) / max(looked_at * (looked_at - 1), 1)
        yield (
            f"near duplicates: {images} of {looked_at} images, such as {example}. The loss takes them for negatives of "
            f"one another, {false:.2g} pairs in a batch of {batch}. Remove doubles."
        )


def of_overlap(shared: Overlap, example: str) -> Iterator[str]:
    """Yield a sentence if evaluation data was trained on; `example` names one."""
    if shared.images or shared.near_images:
        yield (
            f"images of the evaluation data in the training data: {shared.images}, and {shared.near_images} near "
            f"duplicates, such as {example}. Scores will be too high. Split the data by image."
        )


def of_same_labels(share: float, labels: int, documents: int) -> Iterator[str]:
    """Yield a sentence if the labels of pairs are classes.

    Args:
        share: of all couples of pairs, those with the same label; see `describe.same_labels`.
        labels: different ones.
        documents: pairs.
    """
    if share >= SAME_LABEL and documents >= LEAST_DOCUMENTS:
        yield (
            f"labels of many pairs: {share:.0%} of all couples of pairs have the same finetuner_label, so they are no "
            f"negatives of one another; there are {labels} labels. Leave the labels out if they are classes, and "
            f"not the same thing"
        )


def _of_captions(captions: CaptionStatistics) -> Iterator[str]:
    if captions.tokens is not None:
        yield from of_tokens(captions.tokens, captions.count, f"document {captions.tokens.longest}")
    if captions.at_several_images > MANY * captions.count:
        yield (
            f"captions at several images: {captions.at_several_images} of {captions.count}, such as "
            f"{captions.most_repeated!r} at {captions.most_images}. Nothing tells these images apart. Add details."
        )
    if captions.repeated_pairs:
        yield f"pairs of caption and image that are repeated: {captions.repeated_pairs}. Remove the doubles."
    yield from _found("captions without a letter", captions.without_letters, "Describe the images.")


def _of_images(images: ImageStatistics, batch_size: int, *, labelled: bool) -> Iterator[str]:
    if images.undecodable:
        yield (
            f"image files that cannot be decoded: {images.undecodable} of {images.looked_at} "
            f"({images.first_undecodable:.200}). Training leaves them out. Replace them."
        )
    if not labelled:
        examined = images.looked_at - images.undecodable
        example = f"documents {_positions(images.near_groups[0])}" if images.near_groups else ""
        yield from of_near_images(images.near_images, images.near_pairs, examined, example, batch_size)
    yield from _found("images of one colour", images.flat, "Remove them.")
    yield from _found(f"images with a side below {SMALL} pixels", images.small, "Take larger ones.")
    yield from _found(
        f"images more than {LONG:g} times as long as wide", images.long, "The model sees their middle. Cut them."
    )


def _of_labels(labels: LabelStatistics, kinds: dict[str, int], documents: int) -> Iterator[str]:
    if "labelled" not in kinds:
        yield from of_same_labels(labels.same, labels.count, documents)
    elif labels.single:
        yield f"labels of one image: {labels.single} of {labels.count}. Add images, or join labels."


def _found(what: str, found: Found, advice: str) -> Iterator[str]:
    if found.count:
        yield f"{what}: {found.count}, the first is document {found.first}. {advice}"


def _positions(group: list[int]) -> str:
    return ", ".join(map(str, group[:4])) + (", ..." if len(group) > 4 else "")

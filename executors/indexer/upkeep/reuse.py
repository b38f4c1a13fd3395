"""Takes vectors over from the searched artifact: those of towers that the promoted artifact shares with it.

No two models' vectors meet, and a model is a tower here: equal fingerprints are one tower, whatever the artifact. The
new collection is a copy of the old one without all other vectors, made beside it and then renamed. So it never holds a
vector of a tower that its artifact lacks, the copied ones stay the same bit by bit, and a graph goes along.
"""

from __future__ import annotations

from collections.abc import Sequence

from finetuner.executors.indexer.index import Index
from finetuner.executors.indexer.storage.folders import bytes_on_disk


def reuse_vectors(index: Index, source: str, target: str, towers: Sequence[str]) -> int:
    """Give an artifact without a collection the vectors of shared towers. Writes wait; searches go on.

    Args:
        index: with the source's vectors.
        source: the artifact that has them.
        target: the artifact that gets them.
        towers: with the same fingerprint in both.

    Returns:
        The number of vectors; 0 if the target has a collection, and everything is encoded as ever.

    Raises:
        InsufficientStorage: the disk has no room for the copy.
    """
    with index.writing:
        if not towers or target in index.collections or source not in index.collections:
            return 0
        known = index.documents.towers.encoded_by(source, towers)
        if not known:
            return 0
        with index.written(index.min_free + bytes_on_disk(index.collections.folder_of(source))):
            kept = index.collections.copy(source, target, known.keys(), index.fields.indexed())
            versions = {key: known[key][0] for key in kept}
            index.documents.mark(target, versions)
            index.documents.towers.mark(target, versions, {key: known[key][1] for key in kept})
        return len(kept)

"""The indexer's settings."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from finetuner.contract.checks import number, text, whole
from finetuner.contract.environment import TOKEN
from finetuner.exceptions import InvalidInput
from finetuner.executors.indexer.engines.edge import EdgeEngine
from finetuner.executors.indexer.engines.engine import BINARY, INT8, Engine, Spread
from finetuner.executors.indexer.retrieval.encoders import Encoders, NoEncoders
from finetuner.executors.indexer.retrieval.vectors import MAX_DIM
from finetuner.executors.room.settings import RoomSettings
from finetuner.models.backbones import find_backbone
from finetuner.workspace.tokens import rooms_secret

EDGE = "edge"


@dataclass(frozen=True)
class IndexSettings(RoomSettings):
    """Storage of the vectors, and the pace of a re-index.

    Raises:
        InvalidInput, NoSuchModel: a value is not allowed.
    """

    index: str = EDGE
    """'edge' for Qdrant's engine in this process, or a server's URL such as 'https://host:6333'."""
    quantise: bool | str = False
    """'int8' (or true) or 'binary' keeps such codes beside the vectors and searches the graph with them."""
    dimensions: int = 0
    """First numbers of a vector that a new collection keeps, where its model was trained for that size. 0: all."""
    shard_number: int = 0
    """Shards of a new collection on a Qdrant cluster, 0 to 1,000. 0 leaves it to the cluster: one for each node."""
    replication_factor: int = 1
    """Copies of each shard on a Qdrant cluster, each on another node, 1 to 100."""
    write_consistency_factor: int = 1
    """Copies that must have a write before it counts, 1 to `replication_factor`."""
    encoder: str = ""
    """The gateway's address, such as 'grpc://127.0.0.1:51000'. A re-index encodes documents through it."""
    backbone: str = "clip-mini"
    """The model behind `live` until an artifact is promoted; the encoders have the same setting."""
    reindex_share: float = 0.5
    """Share of the time that a re-index may use the encoders, 0.01 to 1."""
    reindex_tolerance: float = 0.01
    """Share of documents that a re-index may leave out because the model cannot encode them, 0 to 1."""
    min_free_mb: int = 256
    """Free MiB that a write needs, 0 to 1,000,000."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.quantise, bool) and self.quantise not in (INT8, BINARY):
            raise InvalidInput(f"quantise must be False, {INT8!r} or {BINARY!r}. Got {self.quantise!r:.80}.")
        whole("dimensions", self.dimensions, 0, MAX_DIM)
        whole("shard_number", self.shard_number, 0, 1000)
        whole("replication_factor", self.replication_factor, 1, 100)
        whole("write_consistency_factor", self.write_consistency_factor, 1, self.replication_factor)
        text("encoder", self.encoder)
        find_backbone(self.backbone)
        number("reindex_share", self.reindex_share, 0.01, 1)
        number("reindex_tolerance", self.reindex_tolerance, 0, 1)
        whole("min_free_mb", self.min_free_mb, 0, 1_000_000)
        if self.index != EDGE:
            checked_url("index", self.index)

    @property
    def codes(self) -> str:
        """The kind of codes beside the vectors; '' for none."""
        return INT8 if self.quantise is True else str(self.quantise or "")

    def engine(self) -> Engine:
        """Return the engine that stores the vectors."""
        if self.index == EDGE:
            return EdgeEngine(self.codes)
        spread = Spread(self.shard_number, self.replication_factor, self.write_consistency_factor)
        return server(self.index, self.codes, spread)

    def encoders(self, root: Path) -> Encoders | NoEncoders:
        """Return the client of the encoders. The workspace folder `root` holds the rooms' token."""
        if not self.encoder:
            return NoEncoders()
        return Encoders(self.encoder, os.environ.get(TOKEN) or rooms_secret(root))


def checked_url(name: str, value: object) -> str:
    """Return a Qdrant server's URL.

    Raises:
        InvalidInput: not a URL, or a URL with a path or a password.
    """
    parts = urlsplit(value) if isinstance(value, str) else None
    plain = parts and parts.hostname and parts.path in ("", "/") and not parts.query and "@" not in parts.netloc
    if parts and plain and parts.scheme in ("http", "https"):
        return str(value).rstrip("/")
    raise InvalidInput(
        f"{name} must be {EDGE!r} or a Qdrant server's URL like https://host:6333. Got {value!r}. "
        "Put its key into $QDRANT_API_KEY."
    )


def server(url: str, quantise: str, spread: Spread) -> Engine:
    """Return the engine of a server. The import is here because most indexes need no client."""
    from finetuner.executors.indexer.engines.server import ServerEngine

    return ServerEngine(checked_url("index", url), quantise, spread)

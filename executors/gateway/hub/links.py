"""Signed addresses: whoever holds one may download one dataset or artifact, without a token, for a few minutes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

SECONDS = 600
DOWNLOADS = "/v2/download/"


@dataclass(frozen=True)
class Download:
    """What an address stands for."""

    version: str
    """A dataset's content hash, or an artifact's id."""
    documents: int
    """How many the dataset has; 0 for an artifact."""
    size: int
    """Bytes of the stream, or of the artifact's zip."""


class Links:
    """Writes and reads addresses; the secret lives as long as this process."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def address(self, base: str, download: Download) -> str:
        """Return the address of a download below `base`, such as 'http://127.0.0.1:51001'."""
        expires = int(time.time()) + SECONDS
        query = {"documents": download.documents, "size": download.size, "expires": expires}
        signed = {**query, "signature": self._signature(download, expires)}
        return f"{base.rstrip('/')}{DOWNLOADS}{download.version}?{urlencode(signed)}"

    def read(self, version: str, query: Mapping[str, str]) -> Download | None:
        """Return what an address stands for, None where its signature is wrong or its time is over."""
        try:
            download = Download(version, int(query["documents"]), int(query["size"]))
            expires, given = int(query["expires"]), query["signature"]
        except (KeyError, ValueError):
            return None
        right = hmac.compare_digest(given.encode(), self._signature(download, expires).encode())
        return download if right and time.time() < expires else None

    def _signature(self, download: Download, expires: int) -> str:
        text = f"{download.version}\n{download.documents}\n{download.size}\n{expires}"
        return hmac.new(self._secret, text.encode(), hashlib.sha256).hexdigest()

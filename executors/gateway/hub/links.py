"""Signed URLs, each for the download of one dataset or artifact without a token, within a few minutes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

from ..access.roles import DOWNLOADS

SECONDS = 600


@dataclass(frozen=True)
class Download:
    """The target of a signed URL."""

    version: str
    """A dataset's content hash, or an artifact's id."""
    documents: int
    """Number of documents of the dataset; 0 for an artifact."""
    size: int
    """Bytes of the dataset's stream, or of the artifact's zip."""


class Links:
    """Signs and verifies URLs, with a secret of this process. A restart invalidates all of them."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(32)

    def sign(self, base: str, download: Download) -> str:
        """Return the signed URL of a download below `base`, such as 'http://127.0.0.1:51001'."""
        expires = int(time.time()) + SECONDS
        query = {"documents": download.documents, "size": download.size, "expires": expires}
        signed = {**query, "signature": self._signature(download, expires)}
        return f"{base.rstrip('/')}{DOWNLOADS}{download.version}?{urlencode(signed)}"

    def verify(self, version: str, query: Mapping[str, str]) -> Download | None:
        """Return the target of a signed URL, None if its signature is wrong or it has expired."""
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

"""Addresses of data in other places, and what each kind of place needs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ...exceptions import InvalidInput

ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://(.+)", re.DOTALL)


@dataclass(frozen=True)
class Kind:
    """A kind of place."""

    package: str
    """Package of its file system, beside fsspec."""
    module: str
    """Module of that package."""
    keys: str
    """Environment variables of its credentials and address, for messages."""
    listed: bool = True
    """Whether it has folders, which can be listed."""
    streams: bool = False
    """Whether a file comes as one answer; a web server need not know ranges."""


KINDS = {
    "s3": Kind("s3fs", "s3fs", "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and, for another store, AWS_ENDPOINT_URL"),
    "gs": Kind("gcsfs", "gcsfs", "GOOGLE_APPLICATION_CREDENTIALS"),
    "hf": Kind("huggingface_hub", "huggingface_hub", "HF_TOKEN and, for another hub, HF_ENDPOINT", streams=True),
    "https": Kind("aiohttp", "aiohttp", "none for web addresses", listed=False, streams=True),
    "http": Kind("aiohttp", "aiohttp", "none for web addresses", listed=False, streams=True),
}
EXAMPLES = "hf://datasets/USER/NAME/..., s3://BUCKET/..., gs://BUCKET/... and https://..."


@dataclass(frozen=True)
class Address:
    """An address of data."""

    text: str
    """As the user gave it."""
    scheme: str
    """Key of KINDS."""

    @property
    def kind(self) -> Kind:
        """Kind of its place."""
        return KINDS[self.scheme]

    @property
    def name(self) -> str:
        """Plain name of its file, '' for the root of a place."""
        path = unquote(urlsplit(self.text).path) if not self.kind.listed else self.text.partition("://")[2]
        name = path.rstrip("/").rpartition("/")[2]
        return "" if name in (".", "..") or set(name) & {"\\", "\0"} else name

    @property
    def shown(self) -> str:
        """Its text for messages, without a name and password in it, and without a query, which may be a signature."""
        text = re.sub(r"(://)[^/@]*@", r"\1", self.text)
        return (text if self.kind.listed else text.partition("?")[0])[:200]


def address_of(text: str) -> Address | None:
    """Return the address that a text is, None for a path.

    Raises:
        InvalidInput: an address of another kind, or one without a data set's name.
    """
    match = ADDRESS.match(text)
    if match is None:
        return None
    scheme = match[1].lower()
    if scheme not in KINDS:
        raise InvalidInput(
            f"data must be local, or at {EXAMPLES}. Got {text!r:.120}. Copy it to this machine, and pass the path."
        )
    if scheme == "hf" and not re.match(r"datasets/[^/@]+/[^/@]+", match[2]):
        raise InvalidInput(
            f"data of the hub must be at hf://datasets/USER/NAME/... Got {text!r:.120}. Add what is missing."
        )
    return Address(f"{scheme}://{match[2]}", scheme)

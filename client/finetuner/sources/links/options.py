"""Options of downloads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...exceptions import InvalidInput

NUMBERS: dict[str, tuple[type, float, float]] = {
    "concurrency": (int, 1, 256),
    "per_host": (int, 1, 256),
    "retries": (int, 0, 10),
    "timeout": (float, 0.1, 600),
}
"""Field -> its type, and the smallest and the largest value."""
HEADER = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
RESERVED = ("host", "content-length", "transfer-encoding", "connection")


@dataclass(frozen=True)
class LinkOptions:
    """Options for downloading the images of http(s) addresses in tables.

    Raises:
        InvalidInput: an option with an invalid value.
    """

    concurrency: int = 32
    """Downloads at a time, 1 to 256."""
    per_host: int = 8
    """Downloads at a time from one host, 1 to 256."""
    retries: int = 2
    """Further attempts after no answer, or after a status such as 429 or 503; 0 to 10."""
    timeout: float = 10.0
    """Seconds for an attempt, with its redirects; 0.1 to 600."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers of each request, such as {'User-Agent': 'shop-crawler'}; another host after a redirect gets none."""
    private: bool = True
    """Whether addresses of this machine and its network are fetched; False for links from strangers."""
    allowed: bool = True
    """Whether addresses are fetched at all. False refuses each row that has one: only what lies here is read."""
    opt_out: bool = True
    """Whether an image is left to its owner whose X-Robots-Tag has noai, noimageai, noindex or noimageindex."""
    cache: str | None = "auto"
    """Folder of the downloaded images, by address. 'auto' is the user's cache folder; None keeps them for one call."""

    def __post_init__(self) -> None:
        for name, (kind, least, most) in NUMBERS.items():
            value = getattr(self, name)
            good = isinstance(value, int if kind is int else int | float) and not isinstance(value, bool)
            if not good or not least <= value <= most:
                word = "a whole number" if kind is int else "a number"
                raise InvalidInput(f"LinkOptions.{name} must be {word} from {least} to {most}. Got {value!r:.40}.")
        for name in ("private", "allowed", "opt_out"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidInput(f"LinkOptions.{name} must be True or False. Got {getattr(self, name)!r:.40}.")
        if self.cache is not None and (not isinstance(self.cache, str) or not self.cache.strip()):
            raise InvalidInput(f"LinkOptions.cache must be a folder, 'auto' or None. Got {self.cache!r:.60}.")
        if not isinstance(self.headers, Mapping):
            raise InvalidInput(f"LinkOptions.headers must be a dict of texts. Got {self.headers!r:.60}.")
        for header, value in self.headers.items():
            known = isinstance(header, str) and HEADER.fullmatch(header) and header.lower() not in RESERVED
            printable = isinstance(value, str) and value.isascii() and value.isprintable()
            if not known or not printable:
                raise InvalidInput(
                    f"LinkOptions.headers must be headers of one line in ASCII, without {', '.join(RESERVED)}. "
                    f"Got {header!r:.40}. Correct it."
                )

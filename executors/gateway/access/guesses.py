"""Wrong tokens: a limit for each address, and a line for each address and minute in the audit log.

A right token passes at any time, also from an address whose wrong tokens are refused: a stranger must not lock out the
people behind the same proxy.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from .rate import TokenBuckets
from .tally import MINUTE, Tally

MAX_ADDRESSES = 1024  # with a bucket


class Guesses:
    """Wrong tokens of each address.

    Args:
        limit: wrong tokens per minute of one address; 0 for no limit.
        record: gets an address and its number of wrong tokens, see `Tally`.
        clock: a monotonic clock in seconds.
    """

    def __init__(
        self, limit: float, record: Callable[[str, int], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._buckets = TokenBuckets(limit / MINUTE, clock, MINUTE, MAX_ADDRESSES)
        self.tally = Tally(record)

    def wait(self, address: str) -> float:
        """Count a wrong token.

        Returns:
            0 within the limit, else the seconds until the next wrong token is answered with its reason.
        """
        self.tally.count(address)
        return self._buckets.wait(address)

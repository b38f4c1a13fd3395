"""Wrong tokens: a limit for each address, and a line for each address and minute in the audit log.

A right token passes at any time, also from an address whose wrong tokens are refused: a stranger must not lock out the
people behind the same proxy.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from urllib.parse import unquote

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


def address_of(peer: str) -> str:
    """Return the address that is counted: IPv4 as it is, of IPv6 the /64, which one holder may have alone.

    Args:
        peer: an address, or gRPC's `ipv4:127.0.0.1:5000` and `ipv6:%5B::1%5D:5000`.
    """
    kind, _, rest = peer.partition(":")
    host = unquote(rest).rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host[:80]
    if isinstance(address, ipaddress.IPv6Address):
        return str(address.ipv4_mapped or ipaddress.ip_network((address, 64), strict=False))
    return str(address)

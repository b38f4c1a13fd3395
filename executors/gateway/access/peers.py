"""The other end of a connection, by the names that gRPC and HTTP give it."""

from __future__ import annotations

import ipaddress
from contextlib import suppress
from functools import lru_cache
from typing import NamedTuple
from urllib.parse import unquote

KINDS = ("ipv4", "ipv6")


class Peer(NamedTuple):
    """Address and port."""

    address: str
    port: int


@lru_cache(4096)  # each call of a connection asks
def peer_of(name: str) -> Peer:
    """Return a peer.

    Args:
        name: gRPC's `ipv4:127.0.0.1:5000` or `ipv6:%5B::1%5D:5000`; or an address alone, whose port is 0.
    """
    kind, _, rest = name.partition(":")
    host, _, port = unquote(rest).rpartition(":") if kind in KINDS else (name, "", "")
    return Peer(plain(host.strip("[]")), int(port) if port.isdecimal() else 0)


@lru_cache(4096)
def plain(address: str) -> str:
    """Return an address in one form, an IPv4 address that arrives over IPv6 as IPv4. Another text stays as it is."""
    with suppress(ValueError):
        found = ipaddress.ip_address(address.partition("%")[0])
        return str(getattr(found, "ipv4_mapped", None) or found)
    return address


def address_of(peer: str) -> str:
    """Return the address that wrong tokens are counted for: of IPv6 the /64, which one holder may have alone.

    Args:
        peer: see `peer_of`.
    """
    address = peer_of(peer).address
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address[:80]
    return str(ipaddress.ip_network((found, 64), strict=False)) if found.version == 6 else address

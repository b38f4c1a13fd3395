"""httpx's functions for addresses without TLS: its own read the certificates of all authorities at each call."""

from __future__ import annotations

import httpx

_CLIENT = httpx.Client(verify=False, limits=httpx.Limits(max_keepalive_connections=0))

get, head, post, request = _CLIENT.get, _CLIENT.head, _CLIENT.post, _CLIENT.request

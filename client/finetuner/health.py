"""Health check of a Flow or one of its rooms, for containers: `python -m finetuner.health [URL]`.

An http(s) URL is that of a gateway, whose `/healthz` sends a canary through the models. A grpc URL is that of any room,
which answers gRPC's standard health service. The check runs every few seconds, so it imports nothing slow.
"""

from __future__ import annotations

import json
import ssl
import sys
import urllib.error
import urllib.request
from urllib.parse import urlsplit

DEFAULT = "http://127.0.0.1:51001"
SECONDS = 12.0  # the canary's own limit is 10


def problem(url: str, seconds: float = SECONDS) -> str:
    """Return the problem at `url`, '' if it is healthy.

    Args:
        url: of a gateway or room, such as 'http://127.0.0.1:51001' or 'grpc://127.0.0.1:8080'.
        seconds: limit for the answer.
    """
    parts = urlsplit(url)
    if parts.scheme == "grpc" and parts.netloc:
        return _of_grpc(parts.netloc, seconds)
    if parts.scheme in ("http", "https") and parts.netloc:
        return _of_http(url.rstrip("/") + "/healthz", seconds)
    return f"URL must be like {DEFAULT} or grpc://127.0.0.1:8080. Got {url!r}."


def _of_http(url: str, seconds: float) -> str:
    # A certificate names the public host, not this loopback address, so it is not verified.
    unverified = ssl._create_unverified_context()
    try:
        with urllib.request.urlopen(url, timeout=seconds, context=unverified):
            return ""
    except urllib.error.HTTPError as error:
        try:
            return str(json.load(error).get("detail", error))
        except ValueError:
            return str(error)
    except OSError as error:
        return f"{url} does not answer: {error}"


def _of_grpc(address: str, seconds: float) -> str:
    import grpc
    from grpc_health.v1 import health_pb2, health_pb2_grpc

    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=seconds)
        except grpc.RpcError as error:
            return f"{address} does not answer: {error.code().name}"
    state: str = health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)
    return "" if state == "SERVING" else f"{address} is {state}"


if __name__ == "__main__":
    found = problem(sys.argv[1] if len(sys.argv) > 1 else DEFAULT)
    print(found or "ok")
    sys.exit(1 if found else 0)

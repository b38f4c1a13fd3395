"""Support for clip-as-service's client, which names a model in the path and reads times from the routes."""

from __future__ import annotations

from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ANY, ENCODE, RANK

MODEL_NAME = "model_name"


def read_path(request: DataRequest) -> None:
    """Turn `/encode/MODEL` into `/encode` with the parameter `model_name`, and `/rank/MODEL` likewise."""
    path = request.header.exec_endpoint
    for endpoint in (ENCODE, RANK):
        if path.startswith(f"{endpoint}/"):
            request.header.exec_endpoint = endpoint
            request.parameters = {**request.parameters, MODEL_NAME: path.removeprefix(f"{endpoint}/")}


def sort_routes(response: DataRequest) -> None:
    """Sort the rooms in the routes of an answer of `/`: the slowest comes first, after the gateway.

    `Client.profile` reports the second route as the model's time. Either of our two encoders may have run.
    """
    if response.header.exec_endpoint == ANY:
        rooms = sorted(response.routes[1:], key=_nanoseconds, reverse=True)
        del response.routes[1:]
        response.routes.extend(rooms)


def _nanoseconds(route: jina_pb2.RouteProto) -> int:
    return int(route.end_time.ToNanoseconds() - route.start_time.ToNanoseconds())

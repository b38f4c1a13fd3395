"""Support for clip-as-service's client.

It names a model in the path, reads times from the routes, and does not read the errors of documents.
"""

from __future__ import annotations

from jina.proto import jina_pb2
from jina.types.request.data import DataRequest

from finetuner.contract.wire import ANY, ENCODE, ERROR_TAG, RANK
from finetuner.exceptions import FinetunerError, by_name

MODEL_NAME = "model_name"
DROP = "drop_image_content"  # this client sends it with every call of `encode`


def read_path(request: DataRequest) -> None:
    """Turn `/encode/MODEL` into `/encode` with the parameter `model_name`, and `/rank/MODEL` likewise."""
    header = request.proto_with_data.header
    path = header.exec_endpoint
    for endpoint in (ENCODE, RANK):
        if path.startswith(f"{endpoint}/"):
            header.exec_endpoint = endpoint
            request.parameters = {**request.parameters, MODEL_NAME: path.removeprefix(f"{endpoint}/")}


class EncodeCall:
    """Finds the error of a call of this client's `encode` in which every document has failed.

    Without vectors, the client blames the configuration of the server.
    """

    def __init__(self) -> None:
        self._errors = 0
        self._first: FinetunerError | None = None
        self._open = True

    def asked(self, request: DataRequest) -> None:
        """Note a request."""
        message = request.proto_wo_data
        self._open = self._open and message.header.exec_endpoint == ENCODE and DROP in message.parameters.fields

    def answered(self, response: DataRequest) -> None:
        """Note an answer. Once a document has a vector, nothing more is read."""
        if not self._open:
            return
        for document in response.proto_with_data.data.docs.docs:
            if ERROR_TAG not in document.tags.fields:
                self._open = False
                return
            self._errors += 1
            tag = document.tags.fields[ERROR_TAG].struct_value.fields
            self._first = self._first or by_name(tag["type"].string_value)(tag["message"].string_value)

    @property
    def error(self) -> FinetunerError | None:
        """The error to end the call with, None if a document has a vector or another client has called."""
        if not self._open or self._first is None:
            return None
        return type(self._first)(f"None of {self._errors} documents has a vector. The first error: {self._first}")


def sort_routes(response: DataRequest) -> None:
    """Sort the rooms in the routes of an answer of `/`: the slowest comes first, after the gateway.

    `Client.profile` reports the second route as the model's time. Either of our two encoders may have run.
    """
    if response.proto_with_data.header.exec_endpoint == ANY:
        rooms = sorted(response.routes[1:], key=_nanoseconds, reverse=True)
        del response.routes[1:]
        response.routes.extend(rooms)


def _nanoseconds(route: jina_pb2.RouteProto) -> int:
    return int(route.end_time.ToNanoseconds() - route.start_time.ToNanoseconds())

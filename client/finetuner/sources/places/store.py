"""Opens places by fsspec, and tells in our words what went wrong there."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ...exceptions import DatasetNotFound, InvalidInput
from .address import Address

Store = Any
"""A file system of fsspec, which is not typed."""
CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
MISSING = ("NoSuchKey", "NoSuchBucket", "NotFound")
REFUSED = (
    *("AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch", "Forbidden", "Unauthorized"),
    *("NoCredentials", "PartialCredentials", "TokenRefreshError", "DefaultCredentialsError", "GatedRepo"),
)
UNREACHED = ("ClientConnect", "EndpointConnection", "ConnectError", "ConnectTimeout", "ServerDisconnected")


def open_store(address: Address) -> Store:
    """Return the file system of an address. Credentials come from the environment; nothing is remembered.

    Raises:
        InvalidInput: a package is missing.
    """
    kind = address.kind
    try:
        import fsspec

        importlib.import_module(kind.module)
    except ImportError as error:
        missing = error.name if error.name in ("fsspec", kind.module) else kind.package
        raise InvalidInput(
            f"{address.scheme}:// needs the packages fsspec and {kind.package}. Got no {missing}. Install them: "
            f"pip install 'open-finetuner[places]'."
        ) from error
    if address.scheme == "hf":
        from huggingface_hub import HfFileSystem, constants

        # huggingface_hub reads HF_ENDPOINT once, when it is imported
        endpoint = None if _endpoint() == constants.ENDPOINT else _endpoint()
        return HfFileSystem(endpoint=endpoint, skip_instance_cache=True, use_listings_cache=False)
    options: dict[str, Any] = {} if kind.listed else {"client_kwargs": {"timeout": _timeout()}}
    if address.scheme == "s3":
        limits = {"connect_timeout": CONNECT_SECONDS, "read_timeout": READ_SECONDS, "retries": {"max_attempts": 1}}
        options = {"config_kwargs": limits}  # s3fs tries again by itself
    return fsspec.filesystem(address.scheme, skip_instance_cache=True, use_listings_cache=False, **options)


def _timeout() -> Any:
    """Return the limits of a web request. fsspec's own ends every download after 5 minutes."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=READ_SECONDS)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


@contextmanager
def explained(address: Address) -> Iterator[None]:
    """Turn the errors of a place into ours.

    Raises:
        DatasetNotFound: no such bucket, repository or file.
        InvalidInput: wrong or missing credentials, or no good answer.
    """
    try:
        yield
    except (InvalidInput, DatasetNotFound):
        raise
    except Exception as error:  # of fsspec, botocore, aiohttp, httpx and huggingface_hub
        causes = list(_causes(error))
        words = " ".join(f"{type(each).__name__} {each}" for each in causes)
        statuses = {_status(each) for each in causes}
        refused = any(isinstance(each, PermissionError) for each in causes) or any(word in words for word in REFUSED)
        if refused or statuses & {401, 403}:
            raise InvalidInput(
                f"data must be readable with your credentials. {address.shown!r} refuses them ({_reason(error)}). Set "
                f"the environment variables: {address.kind.keys}."
            ) from error
        absent = isinstance(error, FileNotFoundError) or any(word in words for word in MISSING) or 404 in statuses
        if absent and not any(word in words for word in UNREACHED):
            raise missing(address) from error
        raise InvalidInput(
            f"data must be reachable. Got no good answer for {address.shown!r} ({_reason(error)}). Check the address "
            f"and the connection, and try again."
        ) from error


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and what it was raised from: fsspec calls much a file that is not there."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> Any:
    """Return the status of an HTTP error, None for others."""
    return getattr(error, "status", None) or getattr(getattr(error, "response", None), "status_code", None)


def missing(address: Address) -> DatasetNotFound:
    """Return the error for an address at which nothing is."""
    return DatasetNotFound(
        f"data must be a file or folder of its place. Got {address.shown!r}, where nothing is: no such bucket, data "
        f"set or file. Correct the address."
    )


def _reason(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:160]

"""docarray without the client of its hub until that is used: half of the time that its import takes."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any

_HUBBLE, _CLIENT, _ENDPOINTS = "hubble", "hubble.client", "hubble.client.endpoints"


def import_docarray() -> None:
    """Import docarray. Its `DocumentArray.push` and `pull` import jina-hubble-sdk when they are called."""
    if "docarray" in sys.modules or _HUBBLE in sys.modules:
        return
    hubble, client, endpoints = ModuleType(_HUBBLE), ModuleType(_CLIENT), ModuleType(_ENDPOINTS)
    hubble.login_required = _login_required  # type: ignore[attr-defined]
    hubble.Client = _Late(_HUBBLE, "Client")  # type: ignore[attr-defined]
    endpoints.EndpointsV2 = _Late(_ENDPOINTS, "EndpointsV2")  # type: ignore[attr-defined]
    sys.modules |= {_HUBBLE: hubble, _CLIENT: client, _ENDPOINTS: endpoints}
    try:
        import docarray  # noqa: F401
    finally:
        for name in (_HUBBLE, _CLIENT, _ENDPOINTS):
            del sys.modules[name]
    hubble.__getattr__ = lambda name: getattr(importlib.import_module(_HUBBLE), name)  # type: ignore[method-assign]


def _login_required(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def checked(*arguments: Any, **options: Any) -> Any:
        return importlib.import_module(_HUBBLE).login_required(method)(*arguments, **options)

    return checked


class _Late:
    """A class that is imported when it is called, or an attribute of it is read."""

    def __init__(self, module: str, name: str) -> None:
        self._module, self._name = module, name

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return getattr(importlib.import_module(self._module), self._name)(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(getattr(importlib.import_module(self._module), self._name), name)

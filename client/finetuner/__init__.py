"""Open Finetuner: fine-tune CLIP for search on your own machines, and serve what you tuned.

Importing this module imports neither torch nor jina nor docarray, touches no file and no network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .backbones import list_models
from .library import (
    delete_data,
    evaluate,
    get_model,
    list_artifacts,
    list_data,
    promote,
    pull_data,
    push_data,
)
from .retrieval import index, search
from .runs import delete_run, fit, get_run, list_runs
from .session import get_token, login
from .version import __version__

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from .inference import build_model, encode
    from .pairs import make_pair

__all__ = [
    "Document",
    "DocumentArray",
    "__version__",
    "build_model",
    "delete_data",
    "delete_run",
    "encode",
    "evaluate",
    "fit",
    "get_model",
    "get_run",
    "get_token",
    "index",
    "list_artifacts",
    "list_data",
    "list_models",
    "list_runs",
    "login",
    "make_pair",
    "promote",
    "pull_data",
    "push_data",
    "search",
]

# name -> module that has it, imported when the name is first used
_LAZY = {
    "Document": "docarray",
    "DocumentArray": "docarray",
    "build_model": "finetuner.inference",
    "encode": "finetuner.inference",
    "make_pair": "finetuner.pairs",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'finetuner' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)

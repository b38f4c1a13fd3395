"""Open Finetuner: fine-tune CLIP for search on your own machines, and serve the tuned model.

Importing this module does not import torch, jina or docarray, and touches neither files nor the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .version import __version__

if TYPE_CHECKING:
    from docarray import Document, DocumentArray

    from .api.data.statistics import data_stats
    from .api.experiments import (
        create_experiment,
        delete_experiment,
        delete_experiments,
        get_experiment,
        list_experiments,
    )
    from .api.feedback.improve import improve
    from .api.feedback.marks import delete_feedback, export_feedback, feedback, list_feedback
    from .api.feedback.pairs import feedback_data
    from .api.legacy import (
        connect,
        create_run,
        create_synthesis_run,
        create_training_run,
        notebook_login,
        synthesize,
    )
    from .api.library import (
        delete_data,
        evaluate,
        export_artifact,
        get_model,
        list_artifacts,
        list_data,
        promote,
        pull_artifact,
        pull_data,
        push_artifact,
        push_data,
    )
    from .api.queries.evaluate import evaluate_queries
    from .api.retrieval import (
        backup_index,
        cancel_reindex,
        delete_documents,
        drop_collection,
        filter_documents,
        index,
        index_status,
        move_index,
        restore_index,
        search,
        verify_index,
    )
    from .api.runs import delete_run, delete_runs, fit, get_run, list_runs
    from .api.session import get_token, login
    from .api.start_model import import_artifact
    from .api.sweep import sweep
    from .config.callbacks import list_callbacks
    from .config.recipes import list_recipes
    from .documents.pairs import make_pair
    from .inference.local import build_model, encode
    from .inference.similarity import cos_sim
    from .models.backbones import describe_models, list_model_options, list_models
    from .sources.links.options import LinkOptions
    from .sources.tables.csv_file import CSVOptions

__all__ = [
    "CSVOptions",
    "Document",
    "DocumentArray",
    "LinkOptions",
    "__version__",
    "backup_index",
    "build_model",
    "cancel_reindex",
    "connect",
    "cos_sim",
    "create_experiment",
    "create_run",
    "create_synthesis_run",
    "create_training_run",
    "data_stats",
    "delete_data",
    "delete_documents",
    "delete_experiment",
    "delete_experiments",
    "delete_feedback",
    "delete_run",
    "delete_runs",
    "describe_models",
    "drop_collection",
    "encode",
    "evaluate",
    "evaluate_queries",
    "export_artifact",
    "export_feedback",
    "feedback",
    "feedback_data",
    "filter_documents",
    "fit",
    "get_experiment",
    "get_model",
    "get_run",
    "get_token",
    "import_artifact",
    "improve",
    "index",
    "index_status",
    "list_artifacts",
    "list_callbacks",
    "list_data",
    "list_experiments",
    "list_feedback",
    "list_model_options",
    "list_models",
    "list_recipes",
    "list_runs",
    "login",
    "make_pair",
    "move_index",
    "notebook_login",
    "promote",
    "pull_artifact",
    "pull_data",
    "push_artifact",
    "push_data",
    "restore_index",
    "search",
    "sweep",
    "synthesize",
    "verify_index",
]

# module -> names that are imported from it when they are first used
_MODULES = {
    "api.experiments": ("create_experiment delete_experiment delete_experiments get_experiment list_experiments"),
    "api.feedback.improve": "improve",
    "api.feedback.marks": "delete_feedback export_feedback feedback list_feedback",
    "api.feedback.pairs": "feedback_data",
    "api.legacy": "connect create_run create_synthesis_run create_training_run notebook_login synthesize",
    "api.library": (
        "delete_data evaluate export_artifact get_model list_artifacts list_data promote pull_artifact pull_data "
        "push_artifact push_data"
    ),
    "api.queries.evaluate": "evaluate_queries",
    "api.retrieval": (
        "backup_index cancel_reindex delete_documents drop_collection filter_documents index index_status move_index "
        "restore_index search verify_index"
    ),
    "api.runs": "delete_run delete_runs fit get_run list_runs",
    "api.session": "get_token login",
    "api.start_model": "import_artifact",
    "api.data.statistics": "data_stats",
    "api.sweep": "sweep",
    "config.callbacks": "list_callbacks",
    "config.recipes": "list_recipes",
    "documents.pairs": "make_pair",
    "inference.local": "build_model encode",
    "inference.similarity": "cos_sim",
    "models.backbones": "describe_models list_model_options list_models",
    "sources.links.options": "LinkOptions",
    "sources.tables.csv_file": "CSVOptions",
}
_LAZY = {name: f"finetuner.{module}" for module, names in _MODULES.items() for name in names.split()}
_LAZY |= {"Document": "docarray", "DocumentArray": "docarray"}


def __getattr__(name: str) -> Any:
    """Import a public name, or a module such as `finetuner.callback`, when it is first used."""
    from importlib import import_module
    from importlib.util import find_spec

    if name in _LAZY:
        value = getattr(import_module(_LAZY[name]), name)
    elif not name.startswith("_") and find_spec(f"finetuner.{name}"):
        value = import_module(f"finetuner.{name}")
    else:
        raise AttributeError(f"module 'finetuner' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

"""The public face, frozen: a change of a name or signature is a change of this file."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import finetuner
import finetuner.exceptions

REQUIRED = inspect.Parameter.empty
FIT = {
    "model": REQUIRED, "train_data": REQUIRED, "eval_data": None, "val_split": 0.0, "model_artifact": None,
    "run_name": None, "description": None, "experiment_name": None, "model_options": None,
    "loss": "TripletMarginLoss", "miner": None, "miner_options": None, "optimizer": "Adam", "optimizer_options": None,
    "learning_rate": None, "epochs": 5, "batch_size": None, "callbacks": None, "scheduler": None,
    "scheduler_options": None, "freeze": False, "output_dim": None, "device": "cuda", "num_workers": 4,
    "to_onnx": False, "csv_options": None, "public": False, "num_items_per_class": 4, "sampler": "auto",
    "loss_optimizer": None, "loss_optimizer_options": None,
}  # fmt: skip
SIGNATURES = {
    "backup_index": ("(name: 'str') -> 'dict[str, Any]'"),
    "build_model": (
        "(name: 'str', model_options: 'Mapping[str, Any] | None' = None, batch_size: 'int' = 32, "
        "select_model: 'str | None' = None, device: 'str | None' = None, is_onnx: 'bool' = False) -> "
        "'InferenceModel'"
    ),
    "cancel_reindex": ("() -> 'dict[str, Any]'"),
    "connect": ("(force: 'bool' = False, interactive: 'bool | None' = None) -> 'None'"),
    "cos_sim": ("(a: 'Any', b: 'Any') -> 'np.ndarray'"),
    "create_experiment": ("(name: 'str' = 'default') -> 'Experiment'"),
    "create_run": (
        "(model: 'str | os.PathLike[str]', train_data: 'Any', eval_data: 'Any' = None, val_split: 'float' = 0.0, "
        "model_artifact: 'str | None' = None, run_name: 'str | None' = None, description: 'str | None' = None, "
        "experiment_name: 'str | None' = None, model_options: 'Mapping[str, Any] | None' = None, loss: 'str' "
        "= 'TripletMarginLoss', miner: 'str | None' = None, miner_options: 'Mapping[str, Any] | None' = None,"
        " optimizer: 'str' = 'Adam', optimizer_options: 'Mapping[str, Any] | None' = None, learning_rate: "
        "'float | None' = None, epochs: 'int' = 5, batch_size: 'int | None' = None, callbacks: "
        "'Callback | Iterable[Callback] | None' = None, scheduler: 'str | None' = None, scheduler_options: "
        "'Mapping[str, Any] | None' = None, freeze: 'bool' = False, output_dim: 'int | None' = None, device: 'str' = "
        "'cuda', num_workers: 'int' = 4, to_onnx: 'bool | str' = False, csv_options: 'CSVOptions | None' = None, "
        "public: 'bool' = False, num_items_per_class: 'int' = 4, sampler: 'str' = 'auto', loss_optimizer: "
        "'str | None' = None, loss_optimizer_options: 'Mapping[str, Any] | None' = None, *, loss_options: "
        "'Mapping[str, Any] | None' = None, guard_data: 'Any' = None, replay_data: 'Any' = None, "
        "seed: 'int' = 0, precision: 'str' = 'auto', "
        "resume_from: 'str | None' = None, training_options: 'Mapping[str, Any] | None' = None, "
        "recipe: 'str | None' = None, wait: 'bool' = False, on_error: 'str' = 'raise', "
        "columns: 'Mapping[str, str | Sequence[str]] | None' = None, "
        "cpu: 'bool | None' = None, scheduler_step: 'str | None' = None) -> 'Run'"
    ),
    "create_synthesis_run": ("(*_: 'Any', **__: 'Any') -> 'NoReturn'"),
    "create_training_run": (
        "(model: 'str | os.PathLike[str]', train_data: 'Any', eval_data: 'Any' = None, val_split: 'float' = 0.0, "
        "model_artifact: 'str | None' = None, run_name: 'str | None' = None, description: 'str | None' = None, "
        "experiment_name: 'str | None' = None, model_options: 'Mapping[str, Any] | None' = None, loss: 'str' "
        "= 'TripletMarginLoss', miner: 'str | None' = None, miner_options: 'Mapping[str, Any] | None' = None,"
        " optimizer: 'str' = 'Adam', optimizer_options: 'Mapping[str, Any] | None' = None, learning_rate: "
        "'float | None' = None, epochs: 'int' = 5, batch_size: 'int | None' = None, callbacks: "
        "'Callback | Iterable[Callback] | None' = None, scheduler: 'str | None' = None, scheduler_options: "
        "'Mapping[str, Any] | None' = None, freeze: 'bool' = False, output_dim: 'int | None' = None, device: 'str' = "
        "'cuda', num_workers: 'int' = 4, to_onnx: 'bool | str' = False, csv_options: 'CSVOptions | None' = None, "
        "public: 'bool' = False, num_items_per_class: 'int' = 4, sampler: 'str' = 'auto', loss_optimizer: "
        "'str | None' = None, loss_optimizer_options: 'Mapping[str, Any] | None' = None, *, loss_options: "
        "'Mapping[str, Any] | None' = None, guard_data: 'Any' = None, replay_data: 'Any' = None, "
        "seed: 'int' = 0, precision: 'str' = 'auto', "
        "resume_from: 'str | None' = None, training_options: 'Mapping[str, Any] | None' = None, "
        "recipe: 'str | None' = None, wait: 'bool' = False, on_error: 'str' = 'raise', "
        "columns: 'Mapping[str, str | Sequence[str]] | None' = None, "
        "cpu: 'bool | None' = None, scheduler_step: 'str | None' = None) -> 'Run'"
    ),
    "data_stats": (
        "(data: 'Any', eval_data: 'Any' = None, *, model: 'str' = 'clip-base-en', batch_size: 'int | None' = None, "
        "csv_options: 'CSVOptions | None' = None, columns: 'Mapping[str, str] | None' = None, "
        "on_error: 'str' = 'raise') -> 'Report'"
    ),
    "delete_data": ("(name: 'str') -> 'None'"),
    "delete_documents": (
        "(ids: 'str | Iterable[str] | None' = None, filter: 'Mapping[str, Any] | str | None' = None) -> 'int'"
    ),
    "delete_experiment": ("(name: 'str') -> 'Experiment'"),
    "delete_experiments": ("() -> 'list[Experiment]'"),
    "delete_run": ("(run_name: 'str', experiment_name: 'str | None' = None) -> 'None'"),
    "delete_runs": ("(experiment_name: 'str | None' = None) -> 'None'"),
    "describe_models": ("(task: 'str | None' = None) -> 'None'"),
    "drop_collection": ("(artifact: 'str') -> 'None'"),
    "encode": (
        "(model: 'InferenceModel', data: 'Data', batch_size: 'int' = 32, *, on_error: 'str | None' = None, "
        "dimensions: 'int | None' = None) -> 'Data | np.ndarray'"
    ),
    "delete_feedback": (
        "(*, user: 'str | None' = None, document: 'str | None' = None, ids: 'str | Iterable[str] | None' = None) -> "
        "'int'"
    ),
    "evaluate": ("(model: 'str', data: 'str', limit: 'int' = 20) -> 'dict[str, float]'"),
    "export_artifact": (
        "(artifact: 'str | os.PathLike[str]', to: 'str', directory: 'str | os.PathLike[str]', "
        "token: 'str | None' = None, push_to_hub: 'str | None' = None) -> 'str'"
    ),
    "export_feedback": ("(path: 'str | os.PathLike[str]', since: 'float | None' = None) -> 'int'"),
    "feedback": (
        "(query: 'str | Document', shown: 'str | Iterable[str] | None' = None, *, chosen: 'str | Iterable[str]' = (), "
        "refused: 'str | Iterable[str]' = (), offset: 'int' = 0, artifact: 'str' = '', mark_id: 'str | None' = None) "
        "-> 'str'"
    ),
    "feedback_data": (
        "(*, since: 'float | None' = None, users: 'str | Iterable[str] | None' = None, held_out: 'float' = 0.2, "
        "position_bias: 'float' = 0.0, skipped: 'bool' = False) -> 'FeedbackData'"
    ),
    "filter_documents": (
        "(filter: 'Mapping[str, Any] | str | None' = None, limit: 'int' = 20, artifact: 'str' = 'live', *, offset:"
        " 'int' = 0, return_content: 'bool' = True, thumbnails: 'bool' = False) -> 'DocumentArray'"
    ),
    "fit": (
        "(model: 'str | os.PathLike[str]', train_data: 'Any', eval_data: 'Any' = None, val_split: 'float' = 0.0, "
        "model_artifact: 'str | None' = None, run_name: 'str | None' = None, description: 'str | None' = None, "
        "experiment_name: 'str | None' = None, model_options: 'Mapping[str, Any] | None' = None, loss: 'str' "
        "= 'TripletMarginLoss', miner: 'str | None' = None, miner_options: 'Mapping[str, Any] | None' = None,"
        " optimizer: 'str' = 'Adam', optimizer_options: 'Mapping[str, Any] | None' = None, learning_rate: "
        "'float | None' = None, epochs: 'int' = 5, batch_size: 'int | None' = None, callbacks: "
        "'Callback | Iterable[Callback] | None' = None, scheduler: 'str | None' = None, scheduler_options: "
        "'Mapping[str, Any] | None' = None, freeze: 'bool' = False, output_dim: 'int | None' = None, device: 'str' = "
        "'cuda', num_workers: 'int' = 4, to_onnx: 'bool | str' = False, csv_options: 'CSVOptions | None' = None, "
        "public: 'bool' = False, num_items_per_class: 'int' = 4, sampler: 'str' = 'auto', loss_optimizer: "
        "'str | None' = None, loss_optimizer_options: 'Mapping[str, Any] | None' = None, *, loss_options: "
        "'Mapping[str, Any] | None' = None, guard_data: 'Any' = None, replay_data: 'Any' = None, "
        "seed: 'int' = 0, precision: 'str' = 'auto', "
        "resume_from: 'str | None' = None, training_options: 'Mapping[str, Any] | None' = None, "
        "recipe: 'str | None' = None, wait: 'bool' = False, on_error: 'str' = 'raise', "
        "columns: 'Mapping[str, str | Sequence[str]] | None' = None, "
        "cpu: 'bool | None' = None, scheduler_step: 'str | None' = None) -> 'Run'"
    ),
    "get_experiment": ("(name: 'str') -> 'Experiment'"),
    "get_model": (
        "(artifact: 'str | os.PathLike[str]', token: 'str | None' = None, batch_size: 'int' = 32, "
        "select_model: 'str | None' = None, device: 'str | None' = None, logging_level: 'str' = 'WARNING', "
        "is_onnx: 'bool' = False) -> 'InferenceModel'"
    ),
    "get_run": ("(run_name: 'str', experiment_name: 'str | None' = None) -> 'Run'"),
    "get_token": ("() -> 'str'"),
    "import_artifact": ("(model: 'str | os.PathLike[str]', name: 'str | None' = None) -> 'dict[str, Any]'"),
    "improve": (
        "(guard_data: 'Any', data: 'FeedbackData | None' = None, *, model: 'str | None' = None, margin: 'float' = "
        "0.01, guard_tolerance: 'float' = 0.01, epochs: 'int' = 5, recipe: 'str | None' = None, device: 'str' = 'cuda')"
        " -> 'Improvement'"
    ),
    "index": ("(documents: 'Document | Iterable[Document]', artifact: 'str' = 'live') -> 'None'"),
    "index_status": ("() -> 'dict[str, Any]'"),
    "list_artifacts": ("() -> 'list[dict[str, Any]]'"),
    "list_callbacks": ("() -> 'dict[str, type[Callback]]'"),
    "list_data": ("() -> 'list[dict[str, Any]]'"),
    "list_feedback": (
        "(*, since: 'float | None' = None, user: 'str | None' = None, document: 'str | None' = None, "
        "after: 'int' = 0, limit: 'int' = 100, images: 'bool' = False) -> 'dict[str, Any]'"
    ),
    "list_experiments": ("(page: 'int' = 1, size: 'int' = 50) -> 'list[Experiment]'"),
    "list_model_options": ("() -> 'dict[str, list[dict[str, str]]]'"),
    "list_models": ("() -> 'list[str]'"),
    "list_recipes": ("() -> 'dict[str, Recipe]'"),
    "list_runs": ("(experiment_name: 'str | None' = None, page: 'int' = 1, size: 'int' = 50) -> 'list[Run]'"),
    "login": (
        "(force: 'bool' = False, interactive: 'bool | None' = None, *, host: 'str | None' = None, token: 'str"
        " | None' = None, http_host: 'str | None' = None) -> 'None'"
    ),
    "make_pair": ("(text: 'str', image: 'bytes', tags: 'Mapping[str, Any] | None' = None) -> 'Document'"),
    "move_index": ("(url: 'str') -> 'dict[str, Any]'"),
    "notebook_login": ("(force: 'bool' = False, interactive: 'bool | None' = None) -> 'None'"),
    "promote": ("(artifact: 'str', alias: 'str' = 'live', force: 'bool' = False, tolerance: 'float' = 0.01) -> 'None'"),
    "pull_artifact": ("(artifact: 'str', directory: 'str | os.PathLike[str]' = 'artifacts/') -> 'str'"),
    "pull_data": ("(name: 'str') -> 'DocumentArray'"),
    "push_artifact": ("(path: 'str | os.PathLike[str]') -> 'dict[str, Any]'"),
    "push_data": (
        "(name: 'str', documents: 'Document | Iterable[Document] | Source', *, task: 'str' = 'text-to-image', "
        "csv_options: 'CSVOptions | None' = None, columns: 'Mapping[str, str | Sequence[str]] | None' = None, "
        "on_error: 'str' = 'raise') -> 'dict[str, Any]'"
    ),
    "restore_index": ("(name: 'str') -> 'dict[str, Any]'"),
    "search": (
        "(query: 'str | Document | Iterable[str | Document] | None' = None, limit: 'int' = 20, "
        "artifact: 'str' = 'live', *, "
        "offset: 'int' = 0, filter: 'Mapping[str, Any] | str | None' = None, score_threshold: 'float | None' = None, "
        "exact: 'bool' = False, return_content: 'bool' = True, thumbnails: 'bool' = False, "
        "positives: 'str | Document | Iterable[str | Document]' = (), "
        "negatives: 'str | Document | Iterable[str | Document]' = (), diversity: 'float | None' = None, "
        "hide_duplicates: 'float | None' = None, group_by: 'str | None' = None, group_size: 'int | None' = None, "
        "facets: 'Mapping[str, int | Sequence[float]] | None' = None, order_by: 'str | None' = None, "
        "cursor: 'str | None' = None, hybrid: 'Mapping[str, Any] | None' = None, explain: 'bool | None' = None, "
        "candidates: 'int | None' = None) -> 'DocumentArray'"
    ),
    "sweep": (
        "(model: 'str', train_data: 'str', eval_data: 'str', *, recipes: 'str | Sequence[str]' = ('default', 'keep', "
        "'small-data'), learning_rates: 'Sequence[float] | None' = None, epochs: 'int' = 8, seeds: 'int' = 3, budget: "
        "'int | None' = None, experiment_name: 'str' = 'sweep', **fit_options: 'Any') -> 'Sweep'"
    ),
    "synthesize": ("(*_: 'Any', **__: 'Any') -> 'NoReturn'"),
    "verify_index": ("(name: 'str' = '') -> 'dict[str, Any]'"),
}
HEAVY = ("torch", "jina", "docarray", "numpy", "PIL", "open_clip", "pyarrow", "rich", "urllib3", "grpc")


def test_the_names_and_signatures_are_these() -> None:
    found = {
        name: str(inspect.signature(value))
        for name in finetuner.__all__
        if inspect.isfunction(value := getattr(finetuner, name))
    }
    assert found == SIGNATURES
    assert sorted(set(finetuner.__all__) - set(found)) == [
        "CSVOptions",
        "Document",
        "DocumentArray",
        "LinkOptions",
        "__version__",
    ]


def test_all_is_sorted_and_without_doubles() -> None:
    assert finetuner.__all__ == sorted(set(finetuner.__all__))


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_function_says_what_it_does(name: str) -> None:
    docstring = inspect.getdoc(getattr(finetuner, name)) or ""
    assert docstring.splitlines()[0].endswith((".", ";", "`"))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'finetuner' has no attribute 'fitt'"):
        finetuner.fitt  # noqa: B018


def test_every_name_is_imported_when_it_is_used() -> None:
    assert sorted(finetuner._LAZY) == sorted(set(finetuner.__all__) - {"__version__"})
    assert set(finetuner.__all__) <= set(dir(finetuner))


@pytest.mark.process
def test_a_module_is_an_attribute() -> None:
    program = "import finetuner; print(finetuner.callback.EvaluationCallback.__name__, finetuner.exceptions.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert done.stdout == "EvaluationCallback finetuner.exceptions\n"


@pytest.mark.process
def test_the_import_loads_nothing_heavy() -> None:
    program = f"import sys, finetuner; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.process
def test_inference_loads_no_jina() -> None:
    build = "finetuner.build_model('clip-mini', select_model='clip-text')"
    program = f"import sys, finetuner; {build}; print('jina' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=200, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


# COMPAT.md section 1: the functions of finetuner 0.8.1 with their parameters and defaults. What we add is keyword-only.
OLD = {
    "login": {"force": False, "interactive": None},
    "notebook_login": {},
    "connect": {},
    "get_token": {},
    "list_models": {},
    "list_model_options": {},
    "describe_models": {"task": None},
    "fit": FIT,
    "create_training_run": FIT,
    "create_run": FIT,
    "get_run": {"run_name": REQUIRED, "experiment_name": None},
    "list_runs": {"experiment_name": None, "page": 1, "size": 50},
    "delete_run": {"run_name": REQUIRED, "experiment_name": None},
    "delete_runs": {"experiment_name": None},
    "create_experiment": {"name": "default"},
    "get_experiment": {"name": REQUIRED},
    "list_experiments": {"page": 1, "size": 50},
    "delete_experiment": {"name": REQUIRED},
    "delete_experiments": {},
    "build_model": {
        "name": REQUIRED, "model_options": None, "batch_size": 32, "select_model": None,
        "device": None, "is_onnx": False,
    },
    "get_model": {
        "artifact": REQUIRED, "token": None, "batch_size": 32, "select_model": None, "device": None,
        "logging_level": "WARNING", "is_onnx": False,
    },
    "encode": {"model": REQUIRED, "data": REQUIRED, "batch_size": 32},
    "cos_sim": {"a": REQUIRED, "b": REQUIRED},
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(OLD))
def test_old_scripts_find_their_names_and_defaults(name: str) -> None:
    parameters = inspect.signature(getattr(finetuner, name)).parameters
    positional = {
        key: parameter.default
        for key, parameter in parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    }
    found = list(positional.items())[: len(OLD[name])]
    assert found == list(OLD[name].items())


def test_what_is_outside_of_the_mission_is_refused_with_what_there_is() -> None:
    with pytest.raises(finetuner.exceptions.InvalidInput, match="text backbones.*clip-mini"):
        finetuner.synthesize("queries", "corpus", models=None)
    for name in ("bert-base-en", "pointnet-base", "mlp", "jina-embedding-s-en-v1"):
        with pytest.raises(finetuner.exceptions.NoSuchModel, match=f"Got {name!r}, a text, mesh or vector.*clip-mini"):
            finetuner.fit(name, "data", loss="CLIPLoss")

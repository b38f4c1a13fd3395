"""The public face, frozen: a change of a name or signature is a change of this file."""

from __future__ import annotations

import inspect
import subprocess
import sys

import pytest

import finetuner

SIGNATURES = {
    "build_model": (
        "(name: 'str', batch_size: 'int' = 32, select_model: 'str | None' = None, device: 'str | None' = "
        "None) -> 'InferenceModel'"
    ),
    "delete_data": ("(name: 'str') -> 'None'"),
    "delete_run": ("(run_name: 'str', experiment_name: 'str | None' = None) -> 'None'"),
    "encode": ("(model: 'InferenceModel', data: 'Data', batch_size: 'int | None' = None) -> 'Data | np.ndarray'"),
    "evaluate": ("(model: 'str', data: 'str', limit: 'int' = 20) -> 'dict[str, float]'"),
    "fit": (
        "(model: 'str', train_data: 'str | DocumentArray', eval_data: 'str | DocumentArray | None' = None, "
        "val_split: 'float' = 0.0, model_artifact: 'str | None' = None, run_name: 'str | None' = None, "
        "description: 'str | None' = None, experiment_name: 'str | None' = None, model_options: "
        "'Mapping[str, Any] | None' = None, loss: 'str' = 'TripletMarginLoss', miner: 'str | None' = None, "
        "miner_options: 'Mapping[str, Any] | None' = None, optimizer: 'str' = 'Adam', optimizer_options: "
        "'Mapping[str, float] | None' = None, learning_rate: 'float | None' = None, epochs: 'int' = 5, "
        "batch_size: 'int | None' = None, callbacks: 'list[Any] | None' = None, scheduler: 'str | None' = "
        "None, scheduler_options: 'Mapping[str, int] | None' = None, freeze: 'bool' = False, output_dim: "
        "'int | None' = None, device: 'str' = 'cuda', num_workers: 'int' = 4, to_onnx: 'bool' = False, "
        "csv_options: 'Any | None' = None, public: 'bool' = False, num_items_per_class: 'int' = 4, sampler: "
        "'str' = 'auto', loss_optimizer: 'str | None' = None, loss_optimizer_options: 'Mapping[str, Any] | "
        "None' = None, *, seed: 'int' = 0) -> 'Run'"
    ),
    "get_model": (
        "(artifact: 'str', token: 'str | None' = None, batch_size: 'int' = 32, select_model: 'str | None' = "
        "None, device: 'str | None' = None, logging_level: 'str' = 'WARNING', is_onnx: 'bool' = False) -> "
        "'InferenceModel'"
    ),
    "get_run": ("(run_name: 'str', experiment_name: 'str | None' = None) -> 'Run'"),
    "get_token": ("() -> 'str'"),
    "index": ("(documents: 'DocumentArray', artifact: 'str' = 'live') -> 'None'"),
    "list_artifacts": ("() -> 'list[dict[str, Any]]'"),
    "list_data": ("() -> 'list[dict[str, Any]]'"),
    "list_models": ("() -> 'list[str]'"),
    "list_runs": ("(experiment_name: 'str | None' = None) -> 'list[Run]'"),
    "login": (
        "(force: 'bool' = False, interactive: 'bool | None' = None, *, host: 'str | None' = None, token: "
        "'str | None' = None) -> 'None'"
    ),
    "make_pair": ("(text: 'str', image: 'bytes', tags: 'Mapping[str, Any] | None' = None) -> 'Document'"),
    "promote": ("(artifact: 'str', alias: 'str' = 'live') -> 'None'"),
    "pull_data": ("(name: 'str') -> 'DocumentArray'"),
    "push_data": ("(name: 'str', documents: 'DocumentArray') -> 'dict[str, Any]'"),
    "search": (
        "(query: 'str | Document | DocumentArray', limit: 'int' = 20, artifact: 'str' = 'live') -> 'DocumentArray'"
    ),
}
HEAVY = ("torch", "jina", "docarray", "numpy", "PIL", "open_clip", "pyarrow", "rich", "urllib3", "grpc")


def test_the_names_and_signatures_are_these() -> None:
    found = {
        name: str(inspect.signature(value))
        for name in finetuner.__all__
        if inspect.isfunction(value := getattr(finetuner, name))
    }
    assert found == SIGNATURES
    assert sorted(set(finetuner.__all__) - set(found)) == ["Document", "DocumentArray", "__version__"]


def test_all_is_sorted_and_without_doubles() -> None:
    assert finetuner.__all__ == sorted(set(finetuner.__all__))


@pytest.mark.parametrize("name", sorted(SIGNATURES))
def test_every_function_says_what_it_does(name: str) -> None:
    docstring = inspect.getdoc(getattr(finetuner, name)) or ""
    assert docstring.splitlines()[0].endswith((".", ";", "`"))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'finetuner' has no attribute 'fitt'"):
        finetuner.fitt  # noqa: B018


def test_the_import_loads_nothing_heavy() -> None:
    program = f"import sys, finetuner; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_inference_loads_no_jina() -> None:
    build = "finetuner.build_model('clip-mini', select_model='clip-text')"
    program = f"import sys, finetuner; {build}; print('jina' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("False\n", "")

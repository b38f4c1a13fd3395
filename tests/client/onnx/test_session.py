"""ONNX Runtime sessions: devices, options and refused files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetuner.artifacts.load import load_onnx_artifact
from finetuner.exceptions import (
    CorruptedONNXModel,
    InvalidInput,
)
from finetuner.models.clip import TEXT, Clip
from finetuner.onnx.model import ONNX_FILE
from finetuner.onnx.session import TOKENS, SessionOptions, open_session, providers
from tests.client.onnx.conftest import TEXTS


def test_a_model_of_another_size_is_refused(with_onnx: Path) -> None:
    with pytest.raises(CorruptedONNXModel, match=r"\[64\].* Got .*\[128\]"):
        open_session(with_onnx / "models" / TEXT / ONNX_FILE, TOKENS, 64)


@pytest.mark.parametrize("device", ["tpu", "cpux", "cuda:x", "cpu:", "tensorrt"])
def test_an_unavailable_device_is_refused(with_onnx: Path, device: str) -> None:
    with pytest.raises(InvalidInput, match=f"device must be one that ONNX Runtime has.*Got {device!r}"):
        load_onnx_artifact(with_onnx, TEXT, device)


def test_a_provider_that_is_installed_comes_before_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
    cpu, cuda = ("CPUExecutionProvider", {}), ("CUDAExecutionProvider", {"device_id": 0})
    assert providers("cpu") == [cpu]
    assert providers("cuda") == providers() == [cuda, cpu]
    assert providers("cuda:2")[0] == ("CUDAExecutionProvider", {"device_id": 2})
    assert providers("tensorrt") == [("TensorrtExecutionProvider", {"device_id": 0}), cuda, cpu]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start_is_refused(with_onnx: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: names)
    with pytest.raises(InvalidInput, match="Got 'cuda', and CUDAExecutionProvider does not start. Install"):
        load_onnx_artifact(with_onnx, TEXT, "cuda")


def test_options_reach_the_session(with_onnx: Path, mini: Clip) -> None:
    given = {"graph_optimization_level": "basic", "allow_spinning": False, "enable_cpu_mem_arena": False}
    onnx = load_onnx_artifact(with_onnx, TEXT, "cpu", session_options=SessionOptions.read(given, threads=3))
    found = onnx.session.get_session_options()
    assert found.intra_op_num_threads == 3
    assert found.graph_optimization_level.name == "ORT_ENABLE_BASIC"
    assert found.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert found.enable_cpu_mem_arena is False
    assert np.abs(onnx.encode_texts(TEXTS) - mini.encode_texts(TEXTS)).max() < 1e-4


@pytest.mark.parametrize(
    "given",
    [
        {"graph_optimization_level": "most"},
        {"allow_spinning": 1},
        {"enable_cpu_mem_arena": "no"},
        {"intra_op_num_threads": 2},
        ["allow_spinning"],
    ],
    ids=str,
)
def test_wrong_options_are_refused(given: Any) -> None:
    with pytest.raises(InvalidInput, match="Got "):
        SessionOptions.read(given)

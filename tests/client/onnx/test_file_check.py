"""ONNX files that ask for memory which they do not hold, or run more than a network: refused before they run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper, numpy_helper

from finetuner.exceptions import CorruptedONNXModel
from finetuner.models.clip import TOWERS
from finetuner.onnx.file_check import check_onnx
from finetuner.onnx.model import INT8_FILE, ONNX_FILE

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


def numbers(name: str, *values: int) -> TensorProto:
    return numpy_helper.from_array(np.array(values, dtype=np.int64), name)


def node(kind: str, inputs: list[str], output: str = "y", **attributes: object) -> NodeProto:
    return helper.make_node(kind, inputs, [output], **attributes)


def written(path: Path, nodes: list[NodeProto], constants: list[TensorProto], kind: int = FLOAT) -> Path:
    """Write a model of an input `x`, (batch, 4), and an output `y`."""
    graph = helper.make_graph(
        nodes,
        "crafted",
        [helper.make_tensor_value_info("x", kind, ["batch", 4])],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        constants,
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString())
    return path


def inner() -> onnx.GraphProto:
    return helper.make_graph([node("Identity", ["x"], "z")], "inner", [], [helper.make_empty_tensor_value_info("z")])


def outside() -> TensorProto:
    tensor = TensorProto(name="c", data_type=FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="../../../../etc/passwd")
    return tensor


CRAFTED: dict[str, tuple[list[NodeProto], list[TensorProto], str]] = {
    "huge constant fill": (
        [node("ConstantOfShape", ["s"], "f"), node("Add", ["x", "f"])],
        [numbers("s", 2**40, 4)],
        "of 4398046511104 numbers",
    ),
    "outer sum": (
        [node("Reshape", ["c", "s"], "d"), node("Add", ["c", "d"], "e"), node("Cast", ["e"], to=FLOAT)],
        [numbers("c", *[1] * 20_000), numbers("s", 20_000, 1)],
        "of 400000000 numbers",
    ),
    "huge tile": ([node("Tile", ["x", "s"])], [numbers("s", 1, 2**30)], "'y' of 4294967296 numbers"),
    "sized by a caller's values": (
        [node("Cast", ["x"], "i", to=INT64), node("ConstantOfShape", ["i"])],
        [],
        "ConstantOfShape sized by 'i', a value that the input decides",
    ),
    "expanded by a caller's values": ([node("Expand", ["x", "x"])], [], "Expand sized by 'x'"),
    "outside": ([node("Add", ["x", "c"])], [outside()], "constant 'c' outside the file"),
    "outside in a node": ([node("Constant", [], "c", value=outside()), node("Add", ["x", "c"])], [], "outside"),
    "promised constant": (
        [node("Add", ["x", "c"])],
        [TensorProto(name="c", data_type=FLOAT, dims=[2**20, 2**12], raw_data=b"\0" * 64)],
        "constant 'c' of 4294967296 numbers in 64 bytes",
    ),
    "promised without data": (
        [node("Add", ["x", "c"])],
        [TensorProto(name="c", data_type=FLOAT, dims=[2**40])],
        "constant 'c' of 1099511627776 numbers",
    ),
    "negative": ([node("Add", ["x", "c"])], [TensorProto(name="c", data_type=FLOAT, dims=[-4])], r"shape \[-4\]"),
    "branch": (
        [node("If", ["b"], then_branch=inner(), else_branch=inner())],
        [numpy_helper.from_array(np.array(True), "b")],
        "operator If",
    ),
    "loop": ([node("Loop", ["n", "", "x"], body=inner())], [numbers("n", 2**62)], "operator Loop"),
    "foreign operator": ([node("Gelu", ["x"], domain="com.example")], [], "operator com.example.Gelu"),
}


@pytest.mark.parametrize("kind", CRAFTED)
def test_a_crafted_file_is_refused(kind: str, tmp_path: Path) -> None:
    nodes, constants, message = CRAFTED[kind]
    with pytest.raises(CorruptedONNXModel, match=f"sizes are known from the file. Got: .*{message}"):
        check_onnx(written(tmp_path / "model.onnx", nodes, constants))


def test_functions_and_large_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path / "model.onnx", [node("Relu", ["x"])], [])
    check_onnx(path)
    model = onnx.load(path)
    model.functions.add(name="f", domain="x")
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CorruptedONNXModel, match="functions or sparse constants"):
        check_onnx(path)
    monkeypatch.setattr("finetuner.onnx.file_check.MAX_BYTES", 10)
    with pytest.raises(CorruptedONNXModel, match="bytes, of 10 allowed"):
        check_onnx(path)


def test_the_exporter_s_files_pass(with_onnx: Path) -> None:
    for tower in TOWERS:
        for name in (ONNX_FILE, INT8_FILE):
            check_onnx(with_onnx / "models" / tower / name)


def test_a_size_computed_from_the_input_s_shape_passes(tmp_path: Path) -> None:
    nodes = [node("Shape", ["x"], "s"), node("Add", ["s", "one"], "t"), node("ConstantOfShape", ["t"])]
    check_onnx(written(tmp_path / "model.onnx", nodes, [numbers("one", 0, 1)]))

"""Checks an ONNX file before ONNX Runtime allocates anything: a graph is a program, and may ask for any memory.

The sizes of all values must follow from the file's own constants and the shape of the input: the values of a caller's
pixels or tokens choose no shape, and the constants alone none above `MAX_ELEMENTS`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..exceptions import CorruptedONNXModel

if TYPE_CHECKING:
    from onnx import ModelProto, NodeProto, TensorProto

MAX_BYTES = 2**31  # of a protobuf
MAX_ELEMENTS = 2**28  # of one value in a pass of one document: attention of 16 heads over 4096 patches
STANDARD = ("", "ai.onnx")
BANNED = ("If", "Loop", "Scan", "SequenceMap")
SIZING = {
    "ConstantOfShape": (0,), "Expand": (1,), "OneHot": (1,), "Pad": (1, 2), "Range": (0, 1, 2), "Reshape": (1,),
    "Resize": (1, 2, 3), "Tile": (1,), "Upsample": (1,),
}  # fmt: skip
"""Operator -> the inputs whose values decide the size of its output."""


def check_onnx(file: Path) -> None:
    """Check that a file's sizes are honest and bounded. Nothing runs.

    Raises:
        CorruptedONNXModel: no ONNX model, data outside the file, a constant of other bytes than its shape, control
            flow, operators that the standard lacks, or values above `MAX_ELEMENTS` or sized by the input's values.
    """
    import onnx

    try:
        if (size := file.stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size} bytes, of {MAX_BYTES} allowed")
        model = onnx.load_model(file, load_external_data=False)
        _check_nodes(model)
        for tensor in _tensors(model):
            _check_constant(tensor)
        _check_values(model)
    except Exception as error:  # protobuf's, and those of onnx about any graph
        reason = " ".join(str(error).split())[:200]
        raise CorruptedONNXModel(
            f"{file} must be a model whose sizes are known from the file. Got: {reason}. "
            f"Export it again with fit(to_onnx=True)."
        ) from error


def _tensors(model: ModelProto) -> Iterator[TensorProto]:
    yield from model.graph.initializer
    for node in model.graph.node:
        for attribute in node.attribute:
            yield from [attribute.t, *attribute.tensors]


def _check_nodes(model: ModelProto) -> None:
    graph = model.graph
    if model.functions or graph.sparse_initializer:
        raise ValueError("functions or sparse constants")
    fixed = {tensor.name for tensor in graph.initializer}
    for node in graph.node:
        if node.domain not in STANDARD or node.op_type in BANNED or _has_graph(node):
            raise ValueError(f"operator {node.domain}{'.' if node.domain else ''}{node.op_type}")
        positions = SIZING.get(node.op_type, ())
        if wrong := [name for place, name in enumerate(node.input) if place in positions and name not in {*fixed, ""}]:
            raise ValueError(f"{node.op_type} sized by {wrong[0]!r}, a value that the input decides")
        if node.op_type in ("Shape", "Size") or all(name in fixed or not name for name in node.input):
            fixed.update(node.output)


def _has_graph(node: NodeProto) -> bool:
    return any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute)


def _check_constant(tensor: TensorProto) -> None:
    from onnx import helper, numpy_helper

    if tensor.data_location or tensor.external_data:
        raise ValueError(f"constant {tensor.name!r} outside the file")
    if min(tensor.dims, default=0) < 0 or tensor.HasField("segment"):
        raise ValueError(f"constant {tensor.name!r} of shape {[*tensor.dims]}")
    wanted = math.prod(tensor.dims)
    if tensor.HasField("raw_data"):
        size = helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
        if wanted * size > 2 * len(tensor.raw_data):  # int4 has two numbers in a byte
            raise ValueError(f"constant {tensor.name!r} of {wanted} numbers in {len(tensor.raw_data)} bytes")
    elif wanted > MAX_ELEMENTS or (tensor.data_type and numpy_helper.to_array(tensor).size != wanted):
        raise ValueError(f"constant {tensor.name!r} of {wanted} numbers")


def _check_values(model: ModelProto) -> None:
    """Infer the shapes of one document's pass; the exporter's own notes in the file are not believed."""
    from onnx import shape_inference

    graph = model.graph
    del graph.value_info[:]
    for entry in graph.input:
        for dim in entry.type.tensor_type.shape.dim:
            if dim.HasField("dim_param") or not dim.HasField("dim_value"):
                dim.dim_value = 1
    known: Any = shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    for value in [*known.graph.value_info, *known.graph.output]:
        if (size := math.prod(max(dim.dim_value, 1) for dim in value.type.tensor_type.shape.dim)) > MAX_ELEMENTS:
            raise ValueError(f"{value.name!r} of {size} numbers")

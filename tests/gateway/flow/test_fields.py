"""Tags and arrays in protobuf that no room could read."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from docarray import Document
from docarray.proto.docarray_pb2 import DocumentProto

from finetuner.exceptions import InvalidDocument
from finetuner.executors.gateway.flow.fields import check_fields


def array(shape: tuple[int, ...], buffer: bytes, dtype: str = "<f4", framework: str = "numpy") -> Any:
    message = DocumentProto(id="a")
    message.embedding.cls_name = framework
    message.embedding.dense.buffer, message.embedding.dense.dtype = buffer, dtype
    message.embedding.dense.shape.extend(shape)
    return message


@pytest.mark.parametrize(
    "value", [[1.0, 2.0], [], [True], np.ones((2, 3)), np.zeros((0, 4)), np.zeros(()), np.uint8([1]), np.float16([1])]
)
def test_real_arrays_pass(value: Any) -> None:
    check_fields([Document(tensor=value, chunks=[Document(embedding=value)]).to_protobuf()])


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (array((100_000, 100_000), b""), "must have 40000000000 bytes. Got 0. Send the array with its own shape."),
        (array((3,), b"\0" * 8), r"embedding of shape \(3,\) and type float32 must have 12 bytes. Got 8."),
        (array((2**32 - 1,) * 16, b"\0"), "bytes. Got 1."),
        (array((1,) * 17, b"\0" * 4), "must have at most 16 dimensions. Got 17."),
        (array((1,), b"\0" * 8, "O"), "must have numbers of a type such as '<f4'. Got 'O'."),
        (array((1,), b"\0" * 8, "f4,f4"), "Got 'f4,f4'."),
        (array((1,), b"\0" * 8, "((((("), "numbers of a type"),
        (array((1,), b"\0" * 8, "i4," * 99), "numbers of a type"),
        (array((1,), b"", ""), "numbers of a type"),
        (array((1,), b"\0" * 4, framework="tensorflow"), "must be of numpy, list, torch. Got 'tensorflow'."),
    ],
)
def test_an_array_that_lies_is_refused(message: Any, expected: str) -> None:
    with pytest.raises(InvalidDocument, match=expected) as refused:
        check_fields([message], 5)
    assert str(refused.value).startswith("document 5 (a): embedding")


def test_a_sparse_array_is_refused() -> None:
    message = DocumentProto()
    message.tensor.sparse.shape.extend([2**31, 2**31])
    with pytest.raises(InvalidDocument, match="tensor must be a dense array. Got a sparse or empty one."):
        check_fields([message])


def test_parts_on_every_level_are_checked() -> None:
    message = DocumentProto()
    message.matches.add().chunks.add().tags["price"] = float("nan")
    with pytest.raises(InvalidDocument, match=r"tags\['price'\] must be finite"):
        check_fields([message])

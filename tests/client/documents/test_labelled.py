"""Labelled images in documents."""

from __future__ import annotations

import numpy as np
import pytest
from docarray import Document

from finetuner.documents.images import decode
from finetuner.documents.labelled import LabelledImage, read_labelled
from finetuner.exceptions import InvalidDocument

TENSOR = np.full((4, 5, 3), 7, dtype=np.uint8)


def test_images_come_as_blob_tensor_or_data_uri() -> None:
    blob = Document(blob=b"bytes", tags={"finetuner_label": "a"})
    tensor = Document(tensor=TENSOR, tags={"finetuner_label": 3})
    uri = Document(uri="data:image/png;base64,Ynl0ZXM=", tags={"finetuner_label": 0})
    first, second, third = read_labelled([blob, tensor, uri])
    assert first == LabelledImage(b"bytes", "a")
    assert second.label == "3"
    np.testing.assert_array_equal(np.asarray(decode(second.image)), TENSOR)
    assert third == LabelledImage(b"bytes", "0")


def test_labels_survive_protobuf() -> None:
    document = Document(blob=b"x", tags={"finetuner_label": 12})
    again = Document.from_protobuf(document.to_protobuf())
    assert read_labelled([document])[0].label == read_labelled([again])[0].label == "12"


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (Document(blob=b"x"), "must have the tag 'finetuner_label'"),
        (Document(blob=b"x", tags={"finetuner_label": ""}), "must have the tag"),
        (Document(text="a shirt", tags={"finetuner_label": "a"}), "Got a text"),
        (Document(chunks=[Document(), Document()], tags={"finetuner_label": "a"}), "Got 2 chunks"),
        (Document(uri="image.jpg", tags={"finetuner_label": "a"}), "blob or tensor"),
        (Document(tags={"finetuner_label": "a"}), "blob or tensor"),
        (Document(tensor=np.zeros(3), tags={"finetuner_label": "a"}), "tensor must be"),
    ],
)
def test_a_document_that_is_not_a_labelled_image_is_named(document: Document, message: str) -> None:
    good = Document(blob=b"x", tags={"finetuner_label": "a"})
    with pytest.raises(InvalidDocument, match=rf"document 1 \({document.id}\): .*{message}"):
        read_labelled([good, document])

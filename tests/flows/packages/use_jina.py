"""jina with docarray 0.40: ADDRESS of gRPC -> the errors that its user reads."""

from __future__ import annotations

import json
import sys

import numpy as np
from docarray import DocList
from docarray.documents import ImageDoc, TextDoc
from jina import Client

texts = DocList[TextDoc]([TextDoc(text="a red dress"), TextDoc(text="shoes")])
vectors = DocList[TextDoc]([TextDoc(text="a red dress", embedding=np.ones(128))])
images = DocList[ImageDoc]([ImageDoc(tensor=np.zeros((8, 8, 3), np.uint8))])
errors = []
for documents in (texts, vectors, images):
    for endpoint in ("/encode", "/index", "/nothing"):
        for stream in (True, False):
            try:
                Client(host=sys.argv[1]).post(endpoint, documents, return_type=type(documents), stream=stream)
                errors.append("")
            except Exception as refused:
                errors.append(str(refused))
print(json.dumps(errors))

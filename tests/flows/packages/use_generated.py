"""A client that openapi-python-client generates: ADDRESS FOLDER -> its warnings, and answers that it reads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

address, folder = sys.argv[1], Path(sys.argv[2])
command = [Path(sys.executable).with_name("openapi-python-client"), "generate", "--url", f"{address}/openapi.json"]
made = subprocess.run([*command, "--output-path", folder], capture_output=True, text=True, check=True)
sys.path.insert(0, str(folder))

from open_finetuner_client import Client  # noqa: E402
from open_finetuner_client.api.default import healthz_healthz_get  # noqa: E402
from open_finetuner_client.api.embeddings import (  # noqa: E402
    embeddings_v1_embeddings_post,
    list_models_v1_models_get,
)
from open_finetuner_client.models import EmbeddingsForm, Failure  # noqa: E402

client = Client(base_url=address)
models = list_models_v1_models_get.sync(client=client)
vectors = embeddings_v1_embeddings_post.sync(client=client, body=EmbeddingsForm("a red dress", model="clip-mini"))
refused = embeddings_v1_embeddings_post.sync(client=client, body=EmbeddingsForm("a red dress", dimensions=3))
assert isinstance(refused, Failure)
print(
    json.dumps(
        {
            "printed": made.stdout + made.stderr,
            "models": [model.id for model in models.data],
            "vector": vectors.data[0].embedding,
            "health": healthz_healthz_get.sync(client=client).status,
            "refusal": refused.error.message,
        }
    )
)

"""openai: ADDRESS -> vectors, usage, models, and the errors that its user reads."""

from __future__ import annotations

import json
import sys
from typing import Any

import openai

client = openai.OpenAI(base_url=f"{sys.argv[1]}/v1", api_key="any", max_retries=0)


def error(**asked: Any) -> str:
    try:
        client.embeddings.create(**{"model": "clip-mini", "input": "a red dress", **asked})
    except openai.APIStatusError as refused:
        return str(refused)
    return ""


made = client.embeddings.create(model="clip-mini", input=["a red dress", "shoes"], user="someone", dimensions=128)
token_ids = client.embeddings.create(model="clip-mini", input=[[64, 2579, 8679], [64]], encoding_format="float")
image = client.embeddings.create(model="clip-mini", input={"image": sys.argv[2]})  # type: ignore[arg-type]
try:
    client.models.retrieve("nobody")
    missing = ""
except openai.NotFoundError as refused:
    missing = str(refused)
print(
    json.dumps(
        {
            "vectors": [each.embedding for each in made.data],
            "of_token_ids": token_ids.data[0].embedding,
            "of_image": image.data[0].embedding,
            "usage": made.usage.to_dict(),
            "image_usage": image.usage.to_dict(),
            "models": [model.id for model in client.models.list()],
            "model": client.models.retrieve("live").to_dict(),
            "backbone": client.models.retrieve("clip-base-en").id,
            "missing": missing,
            "errors": [error(dimensions=64), error(model="nobody"), error(input=[[100300]]), error(input=[])],
        }
    )
)

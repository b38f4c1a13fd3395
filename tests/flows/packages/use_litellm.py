"""litellm: ADDRESS -> vectors, usage, and the error that its user reads."""

from __future__ import annotations

import json
import sys

import litellm

options = {"api_base": f"{sys.argv[1]}/v1", "api_key": "any"}
made = litellm.embedding(model="openai/clip-mini", input=["a red dress", "shoes"], user="someone", **options)
try:
    litellm.embedding(model="openai/nobody", input=["a red dress"], **options)
    error = ""
except litellm.NotFoundError as refused:
    error = str(refused)
vectors = [each["embedding"] for each in made.data]
print(json.dumps({"vectors": vectors, "tokens": made.usage.prompt_tokens, "error": error}))

"""llama-index: ADDRESS -> vectors by both of its classes."""

from __future__ import annotations

import json
import sys

from llama_index.embeddings.openai import OpenAIEmbedding
from llama_index.embeddings.openai_like import OpenAILikeEmbedding

options = {"model_name": "clip-mini", "api_base": f"{sys.argv[1]}/v1", "api_key": "any", "max_retries": 0}
like = OpenAILikeEmbedding(**options).get_text_embedding_batch(["a red dress", "shoes"])
own = OpenAIEmbedding(**options, dimensions=128).get_query_embedding("a red dress")
print(json.dumps({"like": like, "own": own}))

"""langchain-openai: ADDRESS -> vectors by its defaults, which send token ids, and with texts."""

from __future__ import annotations

import json
import sys

from langchain_openai import OpenAIEmbeddings

options = {"model": "clip-mini", "base_url": f"{sys.argv[1]}/v1", "api_key": "any"}
texts = ["a red dress", "ein blaues Kleid 👗"]
by_default = OpenAIEmbeddings(**options).embed_documents(texts)
as_texts = OpenAIEmbeddings(**options, check_embedding_ctx_length=False).embed_documents(texts)
print(json.dumps({"by_default": by_default, "as_texts": as_texts}))

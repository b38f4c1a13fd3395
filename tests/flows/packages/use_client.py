"""A client without jina, beside today's libraries: argument is the host of a Flow."""

from __future__ import annotations

import importlib.metadata
import json
import sys

import finetuner

lazy = [name for name in ("docarray", "jina", "numpy", "torch") if name in sys.modules]

import fastapi  # noqa: E402
import openai  # noqa: E402

from finetuner.catalogue import fashion  # noqa: E402

pydantic = importlib.metadata.version("pydantic")
finetuner.login(host=sys.argv[1])
pairs = finetuner.DocumentArray(
    finetuner.make_pair(image.captions["en"], image.jpeg) for image in fashion("train", items=8)
)
finetuner.push_data("of-a-client", pairs)
pulled = finetuner.pull_data("of-a-client")
run = finetuner.fit("clip-mini", "of-a-client", epochs=1, batch_size=8)
lines = list(run.stream_logs(interval=1))
images = [finetuner.Document(id=f"wheel-{image.name}", blob=image.jpeg) for image in fashion("test", items=4)]
finetuner.index(images)
try:
    finetuner.search("a dress", limit=0)
    refusal = ""
except finetuner.exceptions.InvalidInput as error:
    refusal = str(error)
print(
    json.dumps(
        {
            "python": sys.executable,
            "lazy": lazy,
            "jina": "jina" in sys.modules,
            "pydantic": pydantic,
            "others": [fastapi.__version__, openai.__version__],
            "pulled": [pair.id for pair in pulled] == [pair.id for pair in pairs],
            "run": run.status()["status"],
            "lines": len(lines),
            "matches": [match.id for match in finetuner.search(images[0], limit=1)[0].matches],
            "refusal": refusal,
        }
    )
)
finetuner.delete_documents(image.id for image in images)
finetuner.delete_data("of-a-client")

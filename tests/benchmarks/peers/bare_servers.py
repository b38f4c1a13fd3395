"""Servers that do nothing but clip-mini's forward pass, for front_speed.py: PROTOCOL PORT.

`rest`: uvicorn, POST with {"input": TEXT} to OpenAI's form. `grpc`: grpc.aio, one method per kind, from the bytes of a
text or a JPEG to those of a float32 vector. One document a pass, in the event loop.
"""

from __future__ import annotations

import asyncio
import io
import json
import sys
from typing import Any

import grpc
import numpy as np
import torch
import uvicorn
from PIL import Image

from finetuner.models.backbones import find_backbone
from finetuner.models.clip_files import load_backbone

torch.set_num_threads(1)
MODEL = load_backbone(find_backbone("clip-mini"))


def encode(kind: str, content: bytes) -> np.ndarray:
    """Return the vector of a text or a JPEG, (dim,) float32."""
    if kind == "text":
        return MODEL.encode_texts([content.decode()])[0]
    return MODEL.encode_images([Image.open(io.BytesIO(content)).convert("RGB")])[0]


async def rest(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    vector = encode("text", json.loads(body)["input"].encode())
    data = [{"object": "embedding", "index": 0, "embedding": vector.tolist()}]
    answer = json.dumps({"object": "list", "data": data, "model": "clip-mini"}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


async def serve_grpc(port: int) -> None:
    def method(kind: str) -> grpc.RpcMethodHandler:
        async def answer(content: bytes, _: Any) -> bytes:
            return encode(kind, content).tobytes()

        return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("bare", {"text": method("text"), "image": method("image")})]
    )
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    protocol, port = sys.argv[1], int(sys.argv[2])
    if protocol == "rest":
        uvicorn.run(rest, host="127.0.0.1", port=port, log_level="warning", access_log=False)
    else:
        asyncio.run(serve_grpc(port))

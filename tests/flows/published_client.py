"""What `finetuner==0.8.1`, `jina-hubble-sdk` and `docarray==0.21.1` send, request by request and byte by byte.

Written after their sources, `finetuner/client/client.py`, `hubble/client/client.py` and DocArray's `pushpull.py`;
nothing of ours is used here.
"""

from __future__ import annotations

import gzip
import json
import os
import struct
import uuid
from collections.abc import Iterator
from typing import Any

import requests

VERSION = "0.13.10"  # of the configuration's classes


class ServerError(Exception):
    """An answer that the client raises."""


class PublishedClient:
    """The client with its environment variables set.

    Args:
        registry: $JINA_FINETUNER_REGISTRY.
        hub: $JINA_HUBBLE_REGISTRY.
        token: $JINA_AUTH_TOKEN.
    """

    def __init__(self, registry: str, hub: str, token: str) -> None:
        self._registry, self._hub, self._token = registry, hub, token
        self._session = requests.Session()
        self._session.headers.update({"Accept-Charset": "utf-8", "Authorization": f"token {token}"})

    # the hub

    def rpc(self, method: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send a form, as hubble's client does."""
        headers = {"Authorization": f"token {self._token}", "jinameta-session-id": str(uuid.uuid1())}
        response = requests.post(f"{self._hub}/v2/rpc/{method}", data=data, headers=headers, timeout=60)
        answer: dict[str, Any] = response.json()
        if response.status_code >= 400:
            raise ServerError(answer["status"], answer["message"])
        return answer

    def user_id(self) -> str:
        """Log in."""
        answer = self.rpc("user.identity.whoami")
        assert answer["code"] < 400
        return str(answer["data"]["_id"])

    def push(self, documents: list[bytes], name: str) -> dict[str, Any]:
        """Upload protobuf documents in DocArray's stream, chunked; the file comes before the form's other fields."""
        delimiter = os.urandom(32)
        fields = {
            "file": ("DocumentArray", delimiter), "name": name, "type": "documentArray", "public": False,
            "metaData": json.dumps({"summary": [{"name": "Length", "value": len(documents)}], "version": {}}),
        }  # fmt: skip
        form, kind = requests.packages.urllib3.filepost.encode_multipart_formdata(fields)  # type: ignore[attr-defined]
        head, tail = form.split(delimiter)

        def body() -> Iterator[bytes]:
            yield head + b"\x01" + struct.pack(">Q", len(documents))
            for document in documents:
                packed = gzip.compress(document)
                yield struct.pack(">I", len(packed)) + packed
            yield tail

        headers = {"Content-Type": kind, "Authorization": f"token {self._token}"}
        response = requests.post(f"{self._hub}/v2/rpc/artifact.upload", data=body(), headers=headers, timeout=60)
        response.raise_for_status()
        data: dict[str, Any] = response.json()["data"]
        return data

    def download(self, artifact_id: str) -> bytes:
        """Fetch an artifact: its address by the token, its content without."""
        address = self.rpc("artifact.getDownloadUrl", {"id": artifact_id})["data"]["download"]
        with requests.get(address, stream=True, timeout=60) as response:
            total = int(response.headers["content-length"])
            content = b"".join(response.iter_content(chunk_size=1024 * 1024))
        assert len(content) == total
        return content

    # the REST API

    def request(self, method: str, *path: str, **more: Any) -> Any:
        """Send a request; its answer is text or JSON, as its content type says."""
        response = self._session.request(
            url="/".join((self._registry, "api/v1", *path)), method=method, allow_redirects=True, timeout=60, **more
        )
        if not response.ok:
            raise ServerError(response.status_code, response.reason, response.json()["detail"])
        if more.get("stream"):
            return response
        return response.text if "text" in response.headers["content-type"] else response.json()

    def experiment(self, name: str) -> Any:
        """Get or create an experiment."""
        try:
            return self.request("GET", "experiments", name)
        except ServerError:
            return self.request("POST", "experiments/", json={"name": name, "description": ""})

    def create_run(self, experiment: str, name: str, config: dict[str, Any]) -> Any:
        """Start a run."""
        body = {
            "name": name, "config": config, "task": "training", "finetuner_version": VERSION, "device": "gpu",
            "cpus": 4, "gpus": 1,
        }  # fmt: skip
        return self.request("POST", "experiments", experiment, "runs", json=body)

    def log_entries(self, experiment: str, run: str) -> Iterator[str]:
        """Yield the log's lines as they come."""
        response = self.request("GET", "experiments", experiment, "runs", run, "logstream", stream=True)
        for entry in response.iter_lines():
            if entry:
                kind, separator, message = entry.decode("utf-8", errors="ignore").partition(": ")
                if separator and kind in ("data", "event"):
                    yield message


def config_of(experiment: str, run: str, train_data: str, eval_data: str | None, query_data: str) -> dict[str, Any]:
    """Return the configuration of fit('clip-mini', train_data, eval_data, loss='CLIPLoss', epochs=1, callbacks=...)."""
    evaluation = {
        "query_data": query_data, "index_data": None, "model": "clip-text", "index_model": "clip-vision",
        "multi_modal": True, "batch_size": 8, "exclude_self": True, "limit": 20, "distance": "cosine",
        "steps_per_interval": None, "gather_examples": True, "num_example_queries": 2, "num_workers": 2,
        "caption": None, "output_model_names": False, "query_sample_size": None,
    }  # fmt: skip
    return {
        "public": False,
        "run_name": run,
        "experiment_name": experiment,
        "model": {
            "name": "clip-mini", "artifact": None, "freeze": False, "output_dim": None, "options": {},
            "to_onnx": False,
        },
        "data": {
            "train_data": train_data, "eval_data": eval_data, "val_split": 0.0, "evaluate": False, "num_workers": 4,
            "sampler": "auto", "num_items_per_class": 4,
        },
        "callbacks": [{"name": "EvaluationCallback", "options": evaluation}],
        "hyper_parameters": {
            "optimizer": "Adam", "optimizer_options": {}, "loss": "CLIPLoss", "loss_options": {},
            "loss_optimizer": None, "loss_optimizer_options": {}, "miner": None, "miner_options": {},
            "scheduler": None, "scheduler_options": {}, "batch_size": 4, "learning_rate": 1e-5, "epochs": 1,
        },
    }  # fmt: skip

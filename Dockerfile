# syntax=docker/dockerfile:1
# One image for every room, with or without a GPU: torch's CUDA build runs on a CPU too.
#   docker build -t open-finetuner .
#   docker run --rm -p 51000:51000 -p 51001:51001 -v finetuner:/workspace -e FINETUNER_TOKEN=... [--gpus all] open-finetuner
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
RUN python -m venv /venv && /venv/bin/pip install --no-cache-dir "uv>=0.8,<1"
COPY requirements.lock /tmp/requirements.lock
RUN --mount=type=cache,target=/root/.cache/uv \
    /venv/bin/uv pip install --python /venv/bin/python --link-mode copy --require-hashes -r /tmp/requirements.lock

FROM ${BASE}
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app/client:/app \
    PYTHONUNBUFFERED=1 \
    FINETUNER_FLOWS=/app/flows \
    JINA_OPTOUT_TELEMETRY=1 \
    HOME=/tmp
# Rooms start processes of their own; tini reaps them and passes SIGTERM on.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --no-create-home finetuner && install --directory --owner finetuner /workspace
COPY --from=build /venv /venv
COPY client /app/client
COPY executors /app/executors
COPY flows /app/flows
WORKDIR /app
USER 10001
VOLUME /workspace
EXPOSE 51000 51001
HEALTHCHECK --interval=30s --timeout=15s --start-period=120s --retries=3 \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:51001/healthz', timeout=12)"]
ENTRYPOINT ["tini", "--"]
CMD ["python", "-m", "finetuner.cli", "up", "--bind", "0.0.0.0", "--workspace", "/workspace"]

# One image for every room and Flow. The command is a subcommand of `finetuner`, such as `up` or `room NAME`.
#   docker build -t open-finetuner .                                       for CPUs
#   docker build -t open-finetuner:cuda --build-arg VARIANT=cuda .         for NVIDIA GPUs
#   docker run --rm -p 51000:51000 -p 51001:51001 -v finetuner:/workspace -e FINETUNER_TOKEN=... open-finetuner
ARG BASE=python:3.11-slim

FROM ${BASE} AS build
ARG VARIANT=cpu
SHELL ["/bin/bash", "-o", "pipefail", "-c"]
ENV PATH=/venv/bin:$PATH UV_LINK_MODE=copy UV_COMPILE_BYTECODE=1
RUN python -m venv /venv && pip install --no-cache-dir "uv>=0.8,<1"
COPY requirements.lock requirements-gpu.lock /tmp/
# The locks differ in ONNX Runtime: onnxruntime-gpu has CUDA and TensorRT.
RUN --mount=type=cache,target=/root/.cache/uv \
    if [ "$VARIANT" = cuda ]; then lock=requirements-gpu.lock; else lock=requirements.lock; fi \
    && uv pip install --python /venv/bin/python --require-hashes -r "/tmp/$lock"
# The lock has torch's CUDA build, which loads some CUDA libraries at its start, also on a CPU. The CPU image drops the
# libraries that torch loads later, for a GPU, and the GPU compiler: a quarter of the image.
WORKDIR /venv/lib/python3.11/site-packages
RUN test "$VARIANT" = cuda || { test "$VARIANT" = cpu \
      && uv pip uninstall --python /venv/bin/python triton \
      && ldd torch/lib/*.so | sed -n 's/.* => \(.*nvidia[^ ]*\) .*/\1/p' | xargs realpath | sort -u > /tmp/loaded \
      && find "$PWD/nvidia" -type f ! -name '*.py' | grep -vxFf /tmp/loaded | xargs rm; }
# Remove the build's tools. Compile all modules: with a read-only root Python would compile them at each start.
RUN uv pip uninstall --python /venv/bin/python pip uv
COPY client /app/client
COPY executors /app/executors
COPY flows /app/flows
RUN python -m compileall -q /app

FROM ${BASE}
ARG VARIANT=cpu
ARG VERSION=unreleased
LABEL org.opencontainers.image.title="Open Finetuner" \
      org.opencontainers.image.description="Fine-tune CLIP for search and serve it, from one Jina Flow" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      open-finetuner.variant="${VARIANT}"
# Libraries write to HOME, which is in /tmp: a tmpfs if the root is read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONPATH=/app/client \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    JINA_OPTOUT_TELEMETRY=1 \
    GRPC_DNS_RESOLVER=native \
    HOME=/tmp
# Rooms start child processes; tini reaps them and forwards SIGTERM.
# hadolint ignore=DL3008
RUN apt-get update && apt-get install --yes --no-install-recommends tini && rm -rf /var/lib/apt/lists/* \
    && groupadd --gid 10001 finetuner && useradd --uid 10001 --gid 10001 --no-create-home finetuner \
    && install --directory --owner 10001 --group 10001 /workspace
COPY --from=build /venv /venv
COPY --from=build /app /app
COPY LICENSE pyproject.toml /app/
WORKDIR /app
USER 10001:10001
VOLUME /workspace
EXPOSE 51000 51001
# Sends a canary through the models. The first start of a large model may take minutes.
HEALTHCHECK --interval=30s --timeout=15s --start-period=300s --retries=3 CMD ["python", "-m", "finetuner.health"]
ENTRYPOINT ["tini", "--", "python", "-m", "finetuner.cli"]
CMD ["up", "--bind", "0.0.0.0", "--workspace", "/workspace"]

#!/usr/bin/env bash
# In namespaces of its own, with a network: the Docker engine, the image, Compose, and what must hold.
set -euo pipefail
say() { echo "[$(($(date +%s) - STARTED)) s] $*"; }
fail() {
  say "FAILED: $*"
  docker compose logs --tail 40 2>/dev/null || true
  exit 1
}

ip link set lo up
for _ in $(seq 50); do
  ip -br address show tap0 2>/dev/null | grep -q 10.0.2 && break
  sleep 0.2
done
export PATH=/usr/bin:/usr/sbin:$PATH DOCKER_HOST=unix:///x/run/docker.sock DOCKER_CONFIG=/x/docker DOCKER_BUILDKIT=1
mkdir -p /x/run
dockerd --host $DOCKER_HOST --data-root /x/engine --exec-root /x/run/exec --pidfile /x/run/docker.pid \
  --storage-driver overlay2 --cgroup-parent /container-check --exec-opt native.cgroupdriver=cgroupfs \
  > /x/dockerd.log 2>&1 &
for _ in $(seq 60); do
  docker info > /dev/null 2>&1 && break
  sleep 0.5
done
docker info > /dev/null 2>&1 || { tail -20 /x/dockerd.log; exit 1; }
tar -C /x/base -c . | docker import --change 'ENV SSL_CERT_FILE=/etc/ssl/certs/ca-certificates.crt' \
  - localhost/python:3.11-slim > /dev/null

cd /project
export FINETUNER_IMAGE=localhost/open-finetuner:check FINETUNER_TOKEN=container-check FINETUNER_WORKSPACE=workspace
began=$(date +%s)
docker build --quiet --build-arg BASE=localhost/python:3.11-slim --tag $FINETUNER_IMAGE . > /x/build.log 2>&1 \
  || { tail -40 /x/build.log; exit 1; }
image() { docker image inspect $FINETUNER_IMAGE --format "$1"; }
say "image built in $(($(date +%s) - began)) s: $(($(image '{{.Size}}') / 1000000)) MB, of which base" \
  "$(($(docker image inspect localhost/python:3.11-slim --format '{{.Size}}') / 1000000)) MB"
[ "$(image '{{.Config.User}}')" = 10001:10001 ] || fail "the image's user is $(image '{{.Config.User}}')"
[ -n "$(image '{{json .Config.Healthcheck.Test}}')" ] || fail 'the image has no health check'
docker history --no-trunc "$FINETUNER_IMAGE" | grep -qi container-check && fail 'the token is in the image'

export COMPOSE_FILE=/project/flows/compose.yaml
docker compose --profile monitoring --file $COMPOSE_FILE --file /project/flows/compose.gpu.yaml config --quiet \
  || fail 'compose.yaml with compose.gpu.yaml and monitoring'
FINETUNER_POSTGRES_PASSWORD=check docker compose --file $COMPOSE_FILE --file /project/flows/compose.postgres.yaml \
  config --quiet || fail 'compose.yaml with compose.postgres.yaml'
compose_up() {
  began=$(date +%s)
  docker compose up --detach --wait --no-build "$@" > /x/compose.log 2>&1 || { cat /x/compose.log; fail 'compose up'; }
  say "compose up --wait took $(($(date +%s) - began)) s"
}
# SIGTERM to all in order: exit code 0 of each, in so many seconds at most.
compose_stop() {
  began=$(date +%s)
  docker compose stop > /dev/null 2>&1
  took=$(($(date +%s) - began))
  codes=$(docker compose ps --all --format '{{.Service}}={{.ExitCode}}' | sort | tr '\n' ' ')
  say "compose stop took $took s: $codes"
  echo "$codes" | grep -qE '=[1-9]' && fail 'a room did not end with exit code 0'
  [ "$took" -lt "$1" ] || fail "compose stop took $took s, expected under $1"
}
use() { /project/.venv/bin/python /project/tests/container_check/use.py "$@" || fail "use.py $*"; }

compose_up
docker compose ps --format '{{.Name}} {{.Status}} {{.Ports}}'
for service in gateway trainer evaluator text-encoder vision-encoder indexer; do
  [ "$(docker compose exec -T $service id -u)" = 10001 ] || fail "$service runs as another user"
  docker compose exec -T $service sh -c 'touch /app/written 2>/dev/null' && fail "$service can write to its root"
  docker compose exec -T $service sh -c 'touch /tmp/written /workspace/written' || fail "$service cannot write"
done
say 'every room runs as 10001 on a read-only root'
docker compose exec -T gateway python -m finetuner.cli doctor --workspace /workspace --host grpc://127.0.0.1:51000 \
  || fail 'doctor found something'

use fill
say 'tuned, promoted, searched through the published ports'
compose_stop 10
docker compose down > /dev/null 2>&1
compose_up --scale text-encoder=2
use again
use balanced
say 'after down and up: the artifact and the index are there; two text encoders take turns'
use begin
compose_stop 90
compose_up
use finish
say 'a run that a stop has interrupted went on from its checkpoint'
docker compose down --volumes > /dev/null 2>&1

docker run --detach --name alone --read-only --tmpfs /tmp --env FINETUNER_TOKEN $FINETUNER_IMAGE > /dev/null
for _ in $(seq 120); do
  [ "$(docker inspect alone --format '{{.State.Health.Status}}')" = healthy ] && break
  sleep 1
done
[ "$(docker inspect alone --format '{{.State.Health.Status}}')" = healthy ] || { docker logs alone; fail 'not healthy'; }
began=$(date +%s)
docker stop --time 60 alone > /dev/null
say "the whole Flow in one container: healthy; docker stop took $(($(date +%s) - began)) s," \
  "exit code $(docker inspect alone --format '{{.State.ExitCode}}')"
[ "$(docker inspect alone --format '{{.State.ExitCode}}')" = 0 ] || fail 'its exit code'
docker rm alone > /dev/null
kill "$(cat /x/run/docker.pid)"
wait || true
say 'container-check: passed'

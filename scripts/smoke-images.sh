#!/usr/bin/env bash
# Whether the service's and the agent's image work: each starts, is healthy, and a demo run goes through both.
# `scripts/smoke-images.sh --platform linux/arm64` for another architecture, by qemu, on the engine for that (engine.sh).
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
Usage: scripts/smoke-images.sh [--platform NAME] [--sidecar IMAGE] [--agent IMAGE]

The engine is the one that DOCKER_HOST names, or that scripts/engine.sh has started; its socket must be a file here.
Defaults: the engine's own platform, pillion-sidecar:latest, pillion-agent:base.
TEXT
}
prefix=${PILLION_IMAGE_PREFIX:-pillion}
platform='' sidecar=$prefix-sidecar:latest agent=$prefix-agent:base
while [ $# -gt 0 ]; do
  case $1 in
    --platform) platform=${2:?} && shift 2 ;;
    --sidecar) sidecar=${2:?} && shift 2 ;;
    --agent) agent=${2:?} && shift 2 ;;
    --help | -h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
  esac
done
environment=$(scripts/engine.sh env)
eval "$environment"
socket=${DOCKER_HOST:-unix:///var/run/docker.sock}
socket=${socket#unix://}
options=()
[ -z "$platform" ] || options=(--platform "$platform")
say() { printf 'smoke: %s\n' "$*"; }

say "$agent: $(docker run --rm --network none "${options[@]}" --entrypoint node "$agent" -p 'process.arch + ", Node " + process.version')"
docker run --rm --network none "${options[@]}" --entrypoint agent-health "$agent"
say "$agent is healthy"

service=$(docker run -d --network none "${options[@]}" --read-only --tmpfs /tmp --cap-drop ALL --security-opt no-new-privileges "$sidecar")
trap 'docker rm -f "$service" >/dev/null' EXIT
for _ in $(seq 120); do
  if docker exec "$service" node /app/health.mjs 2>/dev/null; then healthy=yes && break; fi
  sleep 1
done
[ -n "${healthy:-}" ] || { docker logs "$service" >&2 && say "$sidecar did not become healthy" && exit 1; }
say "$sidecar is healthy"

# As root, because the socket is root's; a test of the images and no way to run the service.
docker run --rm --network none "${options[@]}" --user 0:0 --tmpfs /tmp -v "$socket:/var/run/docker.sock" \
  -e PILLION_SANDBOX=docker -e PILLION_IMAGE="$agent" -e PILLION_MEMORY=1g -e PILLION_PREPARE_MS=5m "$sidecar" run --demo
say "a demo run went through $sidecar and $agent"

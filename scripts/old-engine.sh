#!/usr/bin/env bash
# Docker sandboxes on the oldest engine that we support, 20.10: brings one up beside whatever is there, builds the agent
# image in it, and runs the sandboxes' behaviours and whole runs on it. Stops it again.
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  "") ;;
  *) printf 'Usage: scripts/old-engine.sh\n' && [ "$1" = --help ] && exit 0 || exit 2 ;;
esac
environment=$(scripts/engine.sh up --engine 20.10)
trap 'scripts/engine.sh down --engine 20.10' EXIT
eval "$environment"
scripts/images.sh base
node scripts/bootstrap.mjs --quiet exec vitest run \
  services/sidecar/test/behaviours/docker-sandbox.test.ts services/sidecar/test/e2e/docker-runs.test.ts

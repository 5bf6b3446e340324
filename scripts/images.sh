#!/usr/bin/env bash
# Builds our images on the engine that is up (scripts/engine.sh): scripts/images.sh [target…]; `all`, or nothing, is every target but dev.
# The targets sidecar and dev are the service's, all others the agent image's.
# Where this machine's network needs a certificate authority of its own (NODE_EXTRA_CA_CERTS), the build gets it as a
# secret: it is in no layer, and elsewhere it is not there. Two checkouts that share an engine keep apart by PILLION_IMAGE_PREFIX.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --help ] || [ "${1:-}" = -h ]; then
  printf 'Usage: scripts/images.sh [all | base | slim | browser | sidecar | dev]...\n' && exit 0
fi
environment=$(scripts/engine.sh env)
eval "$environment"
[ $# -gt 0 ] && [ "$1" != all ] || set -- base slim browser sidecar
agent=${PILLION_IMAGE_PREFIX:-pillion}-agent
authority=${NODE_EXTRA_CA_CERTS:-/dev/null}
version=$(node -p 'require("./package.json").version')
for target in "$@"; do
  recipe=agent name=$agent:$target
  case $target in
    sidecar) recipe=sidecar target=runtime name=${PILLION_IMAGE_PREFIX:-pillion}-sidecar:latest ;;
    dev) recipe=sidecar name=${PILLION_IMAGE_PREFIX:-pillion}-sidecar:dev ;;
  esac
  DOCKER_BUILDKIT=1 docker build --quiet --network "${PILLION_BUILD_NETWORK:-default}" --file "docker/$recipe.Dockerfile" --target "$target" \
    --secret "id=extra_ca,src=$authority" --build-arg "VERSION=$version" --tag "$name" . >/dev/null
  printf 'built %s\n' "$name"
done

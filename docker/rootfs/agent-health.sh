#!/bin/sh
# Whether a run could work in this container now: Node, the workspace, and the harness that PILLION_HARNESS names (pi). Says in one line why not.
# Stands in / meanwhile, for Node and Pi read what lies in their directory.
set -u
workspace=${PILLION_WORKSPACE:-/workspace}
harness=${PILLION_HARNESS:-pi}
fail() {
  echo "$1"
  exit 1
}
cd /
[ "$(node -p '6 * 7' 2>/dev/null)" = 42 ] || fail "node does not run"
[ -d "$workspace" ] || fail "there is no $workspace"
[ -w "$workspace" ] || [ "${PILLION_READ_ONLY:-}" = 1 ] || fail "$workspace cannot be written to"
case $harness in
  pi) node /opt/pillion/pi/node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js --version >/dev/null 2>&1 || fail "pi does not run" ;;
  *) command -v "$harness" >/dev/null || fail "$harness is not there" ;;
esac
for part in guard/main.mjs extension/pillion.js; do
  [ -r "/opt/pillion/$part" ] || fail "/opt/pillion/$part is not there"
done

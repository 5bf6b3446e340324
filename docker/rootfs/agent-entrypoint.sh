#!/bin/sh
# First program of the agent image, under tini. Looks whether a run could work here and never executes what the workspace holds.
# Exit codes: 70 there is no workspace, 71 it cannot be written to, 126 and 127 as usual for the given command.
set -eu
workspace=${PILLION_WORKSPACE:-/workspace}
if [ ! -d "$workspace" ]; then
  echo "agent: there is no directory $workspace; mount one" >&2
  exit 70
fi
# -w asks by the kernel's rules: owner, mode, access lists and a read-only mount.
if [ ! -w "$workspace" ] && [ "${PILLION_READ_ONLY:-}" != 1 ]; then
  echo "agent: $workspace cannot be written to by uid $(id -u); change its owner, use --user, or set PILLION_READ_ONLY=1" >&2
  exit 71
fi
if [ $# -eq 0 ]; then
  cd /
  exec sleep infinity
fi
cd "$workspace"
unset OLDPWD
exec "$@"

#!/bin/sh
# Whether a run could work in this container now: Node, the workspace, and the harness that PILLION_HARNESS names (pi).
set -eu
workspace=${PILLION_WORKSPACE:-/workspace}
node -e 0 || { echo "node does not run" && exit 1; }
[ -d "$workspace" ] || { echo "there is no $workspace" && exit 1; }
[ -w "$workspace" ] || [ "${PILLION_READ_ONLY:-}" = 1 ] || { echo "$workspace cannot be written to" && exit 1; }
case ${PILLION_HARNESS:-pi} in
  pi) node /opt/pillion/pi/node_modules/@earendil-works/pi-coding-agent/dist/bundle/cli.js --version >/dev/null 2>&1 ||
    { echo "pi does not run" && exit 1; } ;;
  *) command -v "$PILLION_HARNESS" >/dev/null || { echo "$PILLION_HARNESS is not there" && exit 1; } ;;
esac

#!/usr/bin/env bash
# Make shards on a running Ray cluster; on any of its nodes, or with RAY_ADDRESS=HOST:PORT:
#   launch/ray/prep.sh CONFIG workers=64 [section.key=value ...]
# timbre[ray] is installed on every node, and CONFIG's folders or URLs mean the same on all of them.
# A cluster:  ray start --head  on one node,  ray start --address=HEAD:6379  on the others.
set -euo pipefail
exec timbre prep "$@" --executor ray

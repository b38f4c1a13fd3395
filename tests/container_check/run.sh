#!/usr/bin/env bash
# `make container-check`: builds the image with a real Docker engine, brings flows/compose.yaml up, uses it through the
# published ports, stops it, and looks at what is left. Everything happens in a copy-on-write view of this machine that
# goes away; as root, on Debian, about 10 minutes, 25 GB of disk. Exit 77, with the reason: it cannot run here.
set -euo pipefail
skip() { echo "container-check: skipped, not passed: $1" >&2; exit 77; }

[ "$(uname -s)" = Linux ] && [ -f /etc/debian_version ] || skip 'needs Debian, whose packages it takes'
[ "$(id -u)" = 0 ] || skip 'needs root'
for tool in unshare mkfs.ext4 losetup pivot_root apt-get; do
  command -v "$tool" >/dev/null || skip "needs $tool"
done
PROJECT=$(cd "$(dirname "$0")/../.." && pwd)
WORK=$(mktemp -d "${CONTAINER_CHECK_FOLDER:-/var/tmp}/container-check.XXXXXX")
trap 'rm -rf "$WORK"' EXIT
free=$(df --output=avail -BG "$WORK" | tail -1 | tr -dc 0-9)
[ "$free" -ge 30 ] || skip "needs 30 GB free in $WORK, found $free"
unshare -m --propagation private true 2>/dev/null || skip 'may not make mount namespaces'

# Debian's own mirror of this machine: the base image is made from its packages, since no registry is asked.
MIRROR=$({ cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list /etc/apt/sources.list.d/*.sources 2>/dev/null || true; } \
  | sed -nE 's/^URIs: *([^ ]+).*/\1/p; s/^deb (\[[^]]*\] )?([^ ]+).*/\2/p' | grep -v security | head -1)
[ -n "$MIRROR" ] || skip 'found no Debian mirror in /etc/apt'
export PROJECT WORK MIRROR
mkdir "$WORK/disk"
truncate -s 40G "$WORK/disk.img"
mkfs.ext4 -q -m 0 -E lazy_itable_init=1,lazy_journal_init=1 "$WORK/disk.img"
unshare -m --propagation private bash "$PROJECT/tests/container_check/machine.sh"

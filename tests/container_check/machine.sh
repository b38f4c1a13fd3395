#!/usr/bin/env bash
# In a mount namespace of its own: a copy-on-write view of this machine with a Docker engine in it, and a base image.
set -euo pipefail
STARTED=$(date +%s)
export STARTED
say() { echo "[$(($(date +%s) - STARTED)) s] $*"; }

mount -o loop "$WORK/disk.img" "$WORK/disk"
mkdir "$WORK"/disk/{upper,work,root,data}
mount -t overlay overlay -o "lowerdir=/,upperdir=$WORK/disk/upper,workdir=$WORK/disk/work" "$WORK/disk/root"
ROOT=$WORK/disk/root
for each in dev proc sys; do mount --rbind "/$each" "$ROOT/$each"; done
mkdir -p "$ROOT/x" "$ROOT/project" "$ROOT/before"
mount --bind "$WORK/disk/data" "$ROOT/x"
mount --bind "$PROJECT" "$ROOT/project"
cd "$ROOT"
pivot_root . before
umount -l /before
cd /x
umount /sys/fs/cgroup/unified 2>/dev/null || true # a hybrid cgroup tree confuses runc

printf '#!/bin/sh\nexit 101\n' > /usr/sbin/policy-rc.d # packages start no service
chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq > apt.log 2>&1
apt-get install -y -qq --no-install-recommends debootstrap docker.io iptables slirp4netns iproute2 >> apt.log 2>&1
# Compose v2 is a package of the next Debian; its one file runs on this one.
mkdir -p next/lists/partial next/cache/archives/partial
echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $MIRROR trixie main" > next/list
NEXT="-o Dir::Etc::sourcelist=/x/next/list -o Dir::Etc::sourceparts=- -o Dir::State::lists=/x/next/lists"
NEXT="$NEXT -o Dir::Cache=/x/next/cache -o APT::Sandbox::User=root"
# shellcheck disable=SC2086
apt-get $NEXT update -qq
# shellcheck disable=SC2086
(cd next && apt-get $NEXT download -qq docker-compose && dpkg -x docker-compose*.deb files)
mkdir -p docker/cli-plugins
cp next/files/usr/libexec/docker/cli-plugins/docker-compose docker/cli-plugins/
say "$(dockerd --version), compose $(docker/cli-plugins/docker-compose version --short)"

BASE=/x/base
debootstrap --variant=minbase --include=python3.11,python3-venv,ca-certificates \
  bookworm $BASE "$MIRROR" > debootstrap.log 2>&1
rm -rf $BASE/var/cache/apt/archives/*.deb $BASE/var/lib/apt/lists/*
for name in python python3 python3.11; do ln -sf /usr/bin/python3.11 "$BASE/usr/local/bin/$name"; done
# The authorities that this machine trusts, and how its pip finds packages: in this base alone, not in the image's files.
cp /etc/ssl/certs/ca-certificates.crt $BASE/etc/ssl/certs/ca-certificates.crt
printf '[global]\ncert = /etc/ssl/certs/ca-certificates.crt\ntimeout = 180\n' > $BASE/etc/pip.conf
say "base: $(du -sm $BASE | cut -f1) MB"

unshare --mount --net --pid --fork --kill-child --mount-proc bash /project/tests/container_check/engine.sh &
ENGINE=$!
for _ in $(seq 20); do
  CHILD=$(pgrep -P $ENGINE | head -1) && [ -n "$CHILD" ] && break
  sleep 0.3
done
slirp4netns --configure --mtu=1400 --disable-host-loopback "$CHILD" tap0 > slirp.log 2>&1 &
NETWORK=$!
outcome=0
wait $ENGINE || outcome=$?
kill $NETWORK 2>/dev/null || true
find /sys/fs/cgroup/*/container-check -depth -type d -exec rmdir {} + 2>/dev/null || true
say "ended with $outcome"
exit $outcome

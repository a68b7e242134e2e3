#!/bin/bash
# Becomes a machine of its own: this machine's files under a layer of its own, and systemd.
# Runs in new namespaces (mount, PID, UTS, IPC, cgroup, network). Arguments: host name, folder of
# the layers, checkout (its relocated files first, then itself, separated by a colon), Python's
# folder or -, then SOURCE:TARGET[:ro], folders that the machine mounts.
set -euo pipefail
name=$1 layers=$2 checkout=$3 python=$4
shift 4
mount --make-rprivate /
root=$layers/root
mkdir -p "$layers"/{upper,work,root,checkout-upper,checkout-work}
mount -t overlay overlay "$root" \
  -o "lowerdir=/,upperdir=$layers/upper,workdir=$layers/work"

mount -t proc proc "$root/proc"
mount -t sysfs -o ro sysfs "$root/sys"
mount -t tmpfs -o mode=755 tmpfs "$root/sys/fs/cgroup"
mount -t cgroup2 cgroup2 "$root/sys/fs/cgroup"
mount -t tmpfs -o mode=755 tmpfs "$root/dev"
for node in null zero full random urandom tty; do
  touch "$root/dev/$node"
  mount --bind "/dev/$node" "$root/dev/$node"
done
mkdir "$root/dev/pts" "$root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts "$root/dev/pts"
mount -t tmpfs -o mode=1777 tmpfs "$root/dev/shm"
ln -s pts/ptmx "$root/dev/ptmx"
ln -s /proc/self/fd "$root/dev/fd"
mount -t tmpfs -o mode=755 tmpfs "$root/run"

mkdir -p "$root/opt/roboao"
mount -t overlay overlay "$root/opt/roboao" \
  -o "lowerdir=$checkout,upperdir=$layers/checkout-upper,workdir=$layers/checkout-work"
if [ "$python" != - ]; then
  mkdir -p "$root/opt/python"
  mount --bind "$python" "$root/opt/python"
  echo /opt/python/lib >"$root/etc/ld.so.conf.d/python.conf"
  chroot "$root" ldconfig
fi
for folder in "$@"; do
  IFS=: read -r source target how <<<"$folder"
  mkdir -p "$root$target"
  mount --bind "$source" "$root$target"
  [ -z "$how" ] || mount -o "remount,bind,$how" "$root$target"
done
# After what is mounted from there.
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"

hostname "$name"
echo "$name" >"$root/etc/hostname"
printf '127.0.0.1 localhost %s\n' "$name" >"$root/etc/hosts"
ip link set lo up
if [ ! -e "$root/etc/machine-of-the-tests" ]; then
  # Of what this machine starts at boot only what the page of the documentation installs.
  rm -rf "$root"/etc/systemd/system/*.wants "$root/etc/machine-id"
  systemctl --root="$root" set-default multi-user.target 2>/dev/null
  touch "$root/etc/machine-id" "$root/etc/machine-of-the-tests"
  # Nor what this machine has of an archive of its own.
  rm -rf "$root/var/lib/roboao" "$root/etc/roboao" "$root/etc/ssl/roboao"
  sed -i '/^roboao/d' "$root"/etc/{passwd,shadow,group,gshadow}
fi

cd "$root"
mkdir -p mnt/before
pivot_root . mnt/before
umount --lazy /mnt/before
exec env -i container=roboao-tests PATH=/usr/sbin:/usr/bin:/sbin:/bin \
  /lib/systemd/systemd --system --log-target=journal --show-status=no

# The guest's second half, in the host's files: what a booted machine has, then the job, then off.
# shellcheck shell=sh
exec > /dev/ttyS1 2>&1 < /dev/null
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/run/tmp
export PATH HOME TMPDIR
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mkdir -p /run/tmp /dev/pts /dev/shm
mount -t devpts pts /dev/pts
mount -t tmpfs shm /dev/shm
mount -t bpf bpf /sys/fs/bpf
mount -t cgroup2 cgroup /sys/fs/cgroup
stty -F /dev/ttyS1 raw
ip link set lo up
# shellcheck disable=SC1091
. /vm/env.sh
mkdir -p /lib/modules
mount --bind "$VM_MODULES" /lib/modules
# The node of TUN and TAP devices is there when the module is.
modprobe tun || echo "vm: no TAP devices"
echo "vm: up, Linux $(uname -r)"
sh /vm/job.sh
echo "vm: done"
sync
busybox poweroff -f

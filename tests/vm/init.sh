#!/busybox sh
# First process of a guest: makes the host's / the root, with everything written kept in memory, and goes on in guest.sh.
b=/busybox
$b mount -t proc proc /proc
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod "/m/$m" || echo "vm: cannot load $m"; done < /modules
# Nothing on the host changes for the guest while it runs, so that its cache may be as it likes.
$b mount -t 9p -o trans=virtio,version=9p2000.L,msize=512000,cache=loose,ro host /ro || echo "vm: no host files"
$b mount -t tmpfs rw /rw
$b mkdir /rw/up /rw/work
$b mount -t overlay -o lowerdir=/ro,upperdir=/rw/up,workdir=/rw/work root /root || echo "vm: no overlay"
$b mkdir -p /root/vm
$b mount -t 9p -o trans=virtio,version=9p2000.L,cache=none job /root/vm || echo "vm: no job"
$b mount --move /dev /root/dev
$b umount /proc
exec $b switch_root /root /bin/sh /vm/guest.sh

# keeper.sh RUN NAME=TREE…: number 1 of one host of a world. It began in namespaces of its own: network, processes, mounts, host name.
#
# Standard input is a pipe from the test. At its end, however the test ended, this process ends, and the kernel with it ends every process
# of the host, its mounts and its network. RUN is an empty directory that all hosts of this machine share: each sees its own mounts there.
#
# Standard output: "ready", when every root tree is mounted.
set -eu
run=$1
shift
mount --make-rprivate /
mount -t tmpfs -o mode=0755 world "$run"
number=6
for pair; do
	root=$run/${pair%%=*} tree=${pair#*=}
	eval "exec $number>>'$tree.lock'"
	flock -s $number
	number=$((number + 1))
	mkdir "$root" "$root.upper" "$root.work"
	mount -t overlay -o "lowerdir=$tree,upperdir=$root.upper,workdir=$root.work" world "$root"
	mount -t proc proc "$root/proc"
	mount -t sysfs sysfs "$root/sys"
	for directory in dev run tmp; do mount -t tmpfs -o mode=0755 world "$root/$directory"; done
	chmod 1777 "$root/tmp"
	mknod -m 666 "$root/dev/null" c 1 3
	mknod -m 666 "$root/dev/zero" c 1 5
	mknod -m 666 "$root/dev/full" c 1 7
	mknod -m 666 "$root/dev/random" c 1 8
	mknod -m 666 "$root/dev/urandom" c 1 9
	mknod -m 666 "$root/dev/tty" c 5 0
	mkdir -m 1777 "$root/dev/shm" "$root/run/lock"
	ln -s /proc/self/fd "$root/dev/fd"
	rm -f "$root/etc/resolv.conf"
	echo nameserver 127.0.0.1 >"$root/etc/resolv.conf"
done
ip link set lo up
echo ready
# Not exec: as number 1, the shell also waits for processes whose parents have ended.
cat >/dev/null

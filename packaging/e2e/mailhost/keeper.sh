#!/bin/sh
# keeper.sh TREE RUN NAME: the process that holds one mail host, in a mount namespace of its own.
#
# Standard input is a pipe from the test: one line means "boot", end-of-file means that the test has died
# or has had enough, and then everything goes at once. All mounts are made in this process's namespace, so
# no death of any process can leave one behind; what can be left are a cgroup and RUN, and the next
# keeper reaps those whose lock nobody holds.
#
# Standard output: "mounted", then "boot PID" with the PID of systemd-nspawn at each boot, then "off CODE".
set -eu
tree=$1 run=$2 name=$3
exec 3<&0 </dev/null

# The hierarchies in which systemd keeps its units: the unified one, and beside old controllers its named one.
hierarchies() {
	for h in /sys/fs/cgroup /sys/fs/cgroup/unified /sys/fs/cgroup/systemd; do
		if [ -w "$h/cgroup.procs" ]; then echo "$h"; fi
	done
}

reap() { # reap NAME: kills the host's processes and removes its cgroups
	for h in $(hierarchies); do
		[ -d "$h/mxcert-e2e-$1" ] || continue
		for try in 1 2 3 4 5 6 7 8 9 10; do
			procs=$(find "$h/mxcert-e2e-$1" -name cgroup.procs -exec cat {} + 2>/dev/null) || :
			if [ -z "$procs" ]; then break; fi
			kill -9 $procs 2>/dev/null || :
			sleep 0.05
		done
		find "$h/mxcert-e2e-$1" -depth -type d -exec rmdir {} + 2>/dev/null || :
	done
}

sweep() {
	for old in "${run%/*}"/run-*; do
		if [ "$old" = "$run" ] || [ -z "$(find "$old" -maxdepth 0 -mmin +1 2>/dev/null)" ]; then continue; fi
		flock -n "$old/lock" true || continue
		reap "${old##*/run-}"
		rm -rf --one-file-system "$old"
	done
	# Programs that a checkout built for its hosts, and has not built for a week.
	find "${run%/*}" -maxdepth 1 -name 'bin-*' -mtime +7 -exec rm -rf {} +
}

exec 4>"$run/lock" 5>>"$tree.lock"
flock -n 4
flock -s 5
sweep

mkdir "$run/mnt"
mount -t tmpfs -o mode=0755 mxcert-e2e "$run/mnt"
mkdir "$run/mnt/upper" "$run/mnt/work" "$run/mnt/root"
mount -t overlay -o "lowerdir=$tree,upperdir=$run/mnt/upper,workdir=$run/mnt/work" mxcert-e2e "$run/mnt/root"
echo mounted
read -r line <&3 || exit 0

# A cgroup a host: systemd-nspawn builds its subtree in the cgroup where it is started, and two systemds in
# one subtree kill each other's services.
nspawn() { # only in the background, where it is a process of its own
	for h in $(hierarchies); do
		mkdir -p "$h/mxcert-e2e-$name"
		echo 0 >"$h/mxcert-e2e-$name/cgroup.procs"
	done
	exec systemd-nspawn --directory="$run/mnt/root" --boot --register=no --keep-unit --drop-capability=CAP_SYS_TIME --private-network \
		--resolv-conf=off --timezone=off --console=pipe --machine="$name" --hostname=mx.example.org \
		</dev/null >>"$run/console.log" 2>&1 3<&- 4>&- 5>&-
}

(cat <&3 >/dev/null; reap "$name") >/dev/null 4>&- 5>&- &
# systemd-nspawn --keep-unit exits with 133 when the host reboots. RUN/again asks for a boot after any other end.
code=133
while [ "$code" = 133 ] || rm "$run/again" 2>/dev/null; do
	nspawn &
	echo "boot $!"
	code=0
	wait $! || code=$?
	reap "$name"
done
echo "off $code"

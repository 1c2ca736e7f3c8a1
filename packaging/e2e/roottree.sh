#!/bin/sh
# roottree.sh [--path] [exim|postfix|judges|etcd] [bookworm|trixie]: a Debian 12 or 13 root tree with the mail host of the end-to-end tests. Its
# servers are Exim, or Postfix and Dovecot: as Debian packages, Exim and Postfix exclude each other. "judges" is the tree with Postfix and
# what serves, validates and judges beside it: other name servers, resolvers, clients of TLS. "etcd" is that with Exim, and what a fleet needs.
#
# Prints the tree's path, alone, on standard output; what it does and how long each part took on
# standard error. A tree is made once and kept below ${TMPDIR:-/tmp}, under a name that is the hash
# of this script, the server and the release: editing the script makes new trees. Nobody writes into a tree that is complete: a
# host mounts an overlay over it and holds TREE.lock, shared, while it lives.
#
# --path prints where the tree is or would be, and makes nothing. MXCERT_E2E_MIRROR overrides the
# mirror, which is otherwise that of the machine's own apt sources.
#
# By mmdebstrap: it takes 32 s where debootstrap takes 85 s for the same packages. The tree with Postfix is a copy of that with
# Exim in which apt exchanges them: 15 s.
set -eu

host_needs="systemd-container mmdebstrap util-linux iproute2"
packages="
	apt systemd systemd-sysv dbus libpam-systemd polkitd
	exim4-daemon-heavy bind9 bind9-dnsutils bind9-utils
	openssl ca-certificates iproute2 procps python3 python3-apt certspotter sudo
"
postfix_packages="postfix dovecot-core dovecot-imapd"
judges_packages="unbound unbound-host knot knot-dnssecutils pdns-server pdns-backend-sqlite3 dnsmasq-base gnutls-bin swaks"
etcd_packages="etcd-server etcd-client age"

say() { echo "roottree: $*" >&2; }
die() { say "$*"; exit 1; }
now() { date +%s%N; }

timed() ( # timed NAME COMMAND…: runs the command and says how long it took
	name=$1 began=$(now)
	shift
	"$@" >&2
	say "$name: $(( ($(now) - began) / 1000000 )) ms"
)

# Of the machine's apt sources, the one that has our suite; on another release of Debian, its main archive.
mirror() {
	if [ -n "${MXCERT_E2E_MIRROR:-}" ]; then echo "$MXCERT_E2E_MIRROR"; return; fi
	apt-get indextargets --format '$(RELEASE) $(COMPONENT) $(REPO_URI)' 'Created-By: Packages' |
		awk -v suite="$suite" '
			$1 == suite && $2 == "main" && !found { found = $3 }
			$2 == "main" && $3 ~ /\/debian\/?$/ && !other { other = $3 }
			END { print found ? found : other }'
}

install_host_needs() {
	missing=
	for p in $host_needs; do
		[ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
	done
	if [ -z "$missing" ]; then return; fi
	say "installing$missing"
	export DEBIAN_FRONTEND=noninteractive
	set -- apt-get -o DPkg::Lock::Timeout=300 -y -qq --no-install-recommends install $missing
	"$@" </dev/null || { apt-get -qq update && "$@" </dev/null; }
}

# What a builder that was killed left, and the trees of other versions of this script that no host holds
# and nobody has used for a week.
sweep() {
	rm -rf --one-file-system "$cache"/building-*
	for old in "$cache"/tree-*.lock; do
		if [ "$old" = "$tree.lock" ] || [ -z "$(find "$old" -mtime +7 2>/dev/null)" ]; then continue; fi
		flock -n "$old" rm -rf "${old%.lock}" "$old" || :
	done
}

bootstrap() { # bootstrap DIRECTORY OPTION…
	directory=$1
	shift
	url=$(mirror)
	[ -n "$url" ] || die "apt's sources name no Debian mirror; set MXCERT_E2E_MIRROR to one that has $suite"
	proxy=
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	TMPDIR="$cache" ${proxy:+env http_proxy="$proxy"} mmdebstrap --quiet --mode=root "$@" \
		--dpkgopt='path-exclude=/usr/share/doc/*' \
		--dpkgopt='path-exclude=/usr/share/man/*' \
		--dpkgopt='path-exclude=/usr/share/locale/*' \
		"$suite" "$directory" "$url"
	# What a story installs later is installed whole.
	rm -f "$directory/etc/dpkg/dpkg.cfg.d/99mmdebstrap"
}

with_exim() { # with_exim DIRECTORY
	bootstrap "$1" --variant=essential --include="$(echo $packages)"
	# A host without a network updates nothing.
	for timer in apt-daily apt-daily-upgrade; do ln -s /dev/null "$1/etc/systemd/system/$timer.timer"; done
}

with_postfix() { # with_postfix DIRECTORY
	from_tree exim "$1" $postfix_packages
}

with_judges() { # with_judges DIRECTORY
	from_tree postfix "$1" $judges_packages
}

with_etcd() { # with_etcd DIRECTORY
	from_tree exim "$1" $etcd_packages
}

from_tree() { # from_tree SERVER DIRECTORY PACKAGE…: a copy of the tree with the server, in which apt installs packages
	from=$(tree_of "$1") to=$2
	shift 2
	bootstrap "$to" --variant=custom --setup-hook="cp -a --reflink=auto '$from/.' \"\$1\"" \
		--customize-hook="chroot \"\$1\" apt-get -y -qq --purge --no-install-recommends install $* >/dev/null"
}

tree_of() { # tree_of SERVER
	echo "$cache/tree-$( (cat "$script"; echo "$1 $suite") | sha256sum | cut -c1-16)"
}

make_tree() { # make_tree SERVER
	tree=$(tree_of "$1")
	if [ ! -d "$tree" ]; then
		sweep
		say "making $tree ($suite, $1), about a minute"
		timed "tree of $suite with $1" "with_$1" "$cache/building-$$" 9>&-
		mv "$cache/building-$$" "$tree"
	fi
	touch "$tree.lock"
}

script=$0
cache="${TMPDIR:-/tmp}/mxcert-e2e"
path_only=
if [ "${1:-}" = --path ]; then
	path_only=yes
	shift
fi
server=${1:-exim}
case $server in exim | postfix | judges | etcd) ;; *) die "no such server: $server; there are exim, postfix, judges and etcd" ;; esac
suite=${2:-bookworm}
case $suite in bookworm | trixie) ;; *) die "no such release: $suite; there are bookworm (Debian 12) and trixie (13)" ;; esac
if [ -n "$path_only" ]; then tree_of "$server"; exit; fi

[ "$(id -u)" = 0 ] || die "needs root, to unpack packages with their owners"
command -v apt-get >/dev/null || die "needs a Debian machine: there is no apt-get"
mkdir -p -m 0755 "$cache"
exec 9>"$cache/builder.lock"
flock -w 900 9 || die "another builder has held $cache/builder.lock for 15 minutes"
timed "host packages" install_host_needs 9>&-
make_tree exim
case $server in
postfix) make_tree postfix ;;
judges) make_tree postfix; make_tree judges ;;
etcd) make_tree etcd ;;
esac
echo "$tree"

#!/bin/sh
# All tests. As root, what they need of Debian is installed, and the end-to-end test boots a real mail host; otherwise
# the parts that were left out are named at the end. With CI=true a missing tool or a skipped test is a failure.
set -eu
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
left_out=

part() { # part NAME COMMAND…: runs it, prints its time. If it fails, the other parts still run, and the end of the script fails
	name=$1
	shift
	start=$(date +%s)
	echo "== $name"
	if "$@"; then
		echo "== $name: $(($(date +%s) - start)) s"
	else
		echo "== $name: FAILED after $(($(date +%s) - start)) s"
		echo "$name" >>"$log/failed"
	fi
}

need() { # need PACKAGE…: installs Debian packages that are missing, where possible
	missing=
	for package; do
		dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
	done
	[ -n "$missing" ] || return 0
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
		apt-get update -qq
		# shellcheck disable=SC2086 # a list of names
		DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends $missing >"$log/apt" 2>&1 || { cat "$log/apt"; return 1; }
	else
		left_out="$left_out
  tests that need the Debian packages$missing: as root, make test installs them"
	fi
}

unpack() { # unpack PROGRAM PACKAGE…: makes the programs of Debian packages usable without installing them, so that no server starts here
	program=$1 dir=${TMPDIR:-/tmp}/mxcert-programs
	shift
	PATH=$PATH:$dir/usr/sbin:$dir/usr/bin
	if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null && ! command -v "$program" >/dev/null; then
		mkdir -p "$dir/debs/partial"
		apt-get update -qq
		apt-get -o DPkg::Lock::Timeout=300 install -y -qq --no-install-recommends --download-only -o Dir::Cache::archives="$dir/debs" "$@" >"$log/apt" 2>&1 || { cat "$log/apt"; return 1; }
		for deb in "$dir"/debs/*.deb; do
			[ ! -e "$deb" ] || dpkg-deb -x "$deb" "$dir"
		done
	fi
}

failures() { # failures FILE: of the output of go test -v, what the tests that failed said, and what belongs to no test
	awk '
		FNR == 1 { pass++ }
		pass == 1 && /^ *--- FAIL: / { failed[$3] = 1 }
		pass == 1 { next }
		/^=== (RUN|CONT|NAME|PAUSE) / { test = $3; next }
		/^ *--- (PASS|SKIP)/ || /^ok/ || /^PASS$/ { test = ""; next }
		/^ *--- FAIL/ || /^FAIL/ || /^panic/ { test = ""; print; next }
		test == "" || test in failed { print (test == "" ? "" : test ": ") $0 }
	' "$1" "$1" | cut -c 1-2000 | tail -n 400
}

verbose() { # verbose NAME COMMAND…: go test -v, of which only the essentials are shown
	output=$log/$1
	shift
	if ! "$@" >"$output" 2>&1; then
		echo "$name" >"$output.failed"
		failures "$output"
		return 1
	fi
	grep -E -e '^(ok|FAIL|panic)' -e '^ *--- SKIP' -e '^figure:' "$output" || true
	if [ "${CI:-}" = true ] && grep -q -E '^ *--- SKIP' "$output"; then
		echo "$name" >"$output.failed"
		echo 'a test was skipped, which must not happen in CI:'
		grep -A 3 -E '^ *--- SKIP' "$output"
		return 1
	fi
}

first_errors() { # of each part that failed, what its tests said first: about 80 lines in all, for readers who see only the end
	set -- "$log"/*.failed
	for failed; do
		[ -e "$failed" ] || return 0
		echo "== $(cat "$failed"):"
		awk -v most=$((78 / $# - 1)) -v skips="$([ "${CI:-}" != true ] || echo 1)" -f packaging/failures/failures.awk "${failed%.failed}" >"$log/first"
		[ -s "$log/first" ] || tail -n 5 "${failed%.failed}" >"$log/first"
		cat "$log/first"
	done
}

need openssl dbus systemd e2fsprogs lintian mandoc bind9-dnsutils sqlite3 certbot lego dehydrated uacme ansible ansible-lint bash-completion fish zsh python3-icalendar chromium
unpack named bind9
unpack knotd knot
unpack unbound unbound
unpack certspotter certspotter
unpack prometheus prometheus prometheus-node-exporter
unpack pdns_server pdns-server pdns-backend-sqlite3
if [ "${CI:-}" = true ] || [ "$(id -u)" = 0 ]; then
	export MXCERT_TEST_REQUIRE=1
fi
part 'go vet' verbose vet go vet ./...
packages=$(go list ./... | grep -v -e /packaging/e2e -e /packaging/crash)
# shellcheck disable=SC2086 # a list of names
part 'unit tests (-race)' verbose unit go test -race -v -timeout 25m $packages
# One is busy, the other waits for disks.
part 'two years of up to ten thousand certificates' verbose years go test -count=1 -v -timeout 20m -run TestTwoYears ./acme/schedule &
years=$!
part 'kills, errors and power cuts at every system call' verbose crash go test -count=1 -v -timeout 40m ./packaging/crash/...
wait "$years"
part 'storms of faults over a fleet, and a week without its store, in compressed time' verbose storms go test -count=1 -v -timeout 10m -run '^Test(Storm|AWeek)' ./acme/fleet
part 'changes of keys with TLSA records, in compressed time' verbose rolls go test -count=1 -v -timeout 20m -run '^Test(Grid|Years)' ./deploy/dane

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	# At most five hosts at once: if they wait too long for a processor, senders and commands give up. make e2e runs everything on both
	# releases: here without what takes minutes of processor time and has a target of its own, or runs on the other release.
	part 'end-to-end test on a real mail host of Debian 12' verbose e2e env MXCERT_E2E=require go test -count=1 -v -timeout 60m -parallel 3 \
		-skip '^Test(AnsibleFleet|DeploymentsUnderLoad|DiscoverOnTheMailHost|DNSWorld|HostileDNS|MistakesOfUsers|OCSPUnderLoad|PackageIsReproducible|PackagesKeepDecisions|RPM|TimeToNewHandshake|WallAtRandom)$' ./packaging/e2e
	# The fleet without faults: those come at random moments, and make fleet runs 48 of them.
	part 'end-to-end test of senders, DANE and a fleet' verbose e2eworlds env MXCERT_E2E=require MXCERT_FLEET_FAULTS=0 go test -p 1 -count=1 -v -timeout 60m -parallel 3 \
		-skip '^TestPlay$' ./packaging/e2e/fleet ./packaging/e2e/mailhost ./packaging/e2e/relays ./packaging/e2e/senders ./packaging/e2e/world ./packaging/e2e/dane &
	worlds=$!
	# On Debian 13 what depends on the release: its systemd and its mail servers.
	part 'end-to-end test on a real mail host of Debian 13' verbose e2e13 env MXCERT_E2E=require MXCERT_E2E_RELEASE=trixie go test -count=1 -v -timeout 60m -parallel 2 \
		-run '^Test(FirstIssueAndNothingToDo|Daemon|DiscoverOnTheMailHost|ForeignChangesAreHealed|DoctorOnMailHosts|Journal|BeingToldByMail|CertspotterAsksMxcert|PackageOnTheHost)$' ./packaging/e2e &
	debian13=$!
	wait "$worlds" "$debian13"
else
	left_out="$left_out
  the end-to-end test on a real mail host (systemd, Exim, BIND in a container): it needs root and Debian; run: sudo make e2e"
fi
if [ -e "$log/failed" ]; then
	echo 'These parts failed:'
	sed 's/^/  /' "$log/failed"
	first_errors
	exit 1
fi
if [ -n "$left_out" ]; then
	echo "Passed, but left out:$left_out"
fi

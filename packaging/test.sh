#!/bin/sh
# All tests. As root, what they need of Debian is installed, and the end-to-end test boots a real mail host; otherwise
# the parts that were left out are named at the end. With CI=true a missing tool or a skipped test is a failure.
set -eu
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT
left_out=

part() { # part NAME COMMAND…: runs it, prints its time
	name=$1
	shift
	start=$(date +%s)
	echo "== $name"
	"$@"
	echo "== $name: $(($(date +%s) - start)) s"
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
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >"$log/apt" 2>&1 || { cat "$log/apt"; return 1; }
	else
		left_out="$left_out
  tests that need the Debian packages$missing: as root, make test installs them"
	fi
}

verbose() { # verbose NAME COMMAND…: go test -v, of which only the essentials are shown
	output=$log/$1
	shift
	if ! "$@" >"$output" 2>&1; then
		grep -v -e '^=== ' -e '^ *--- PASS' -e '^ok' -e '^PASS$' "$output" | tail -n 300
		echo 'what the tests said:'
		grep -E '^ *[a-z_0-9]+_test\.go:[0-9]+: ' "$output" | cut -c 1-300 | tail -n 200
		echo 'failed:'
		grep -E -e '^ *--- FAIL' -e '^FAIL.*[a-z]' -e '^panic' "$output"
		return 1
	fi
	grep -E -e '^(ok|FAIL|panic)' -e '^ *--- SKIP' -e '^figure:' "$output" || true
	if [ "${CI:-}" = true ] && grep -q -E '^ *--- SKIP' "$output"; then
		echo 'a test was skipped, which must not happen in CI:'
		grep -A 3 -E '^ *--- SKIP' "$output"
		return 1
	fi
}

need openssl dbus e2fsprogs lintian mandoc bind9-dnsutils certbot lego ansible ansible-lint
if [ "${CI:-}" = true ] || [ "$(id -u)" = 0 ]; then
	export MXCERT_TEST_REQUIRE=1
fi
part 'go vet' go vet ./...
packages=$(go list ./... | grep -v -e /packaging/e2e -e /packaging/crash)
# shellcheck disable=SC2086 # a list of names
part 'unit tests (-race)' verbose unit go test -race -v -timeout 15m $packages
part 'two years of up to ten thousand certificates' verbose years go test -count=1 -v -timeout 20m -run TestTwoYears ./acme/schedule
part 'kills, errors and power cuts at every system call' verbose crash go test -count=1 -v -timeout 20m ./packaging/crash/...

if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
	part 'end-to-end test on a real mail host of Debian 12' verbose e2e env MXCERT_E2E=require go test -count=1 -v -timeout 40m ./packaging/e2e/...
	# On Debian 13 without what takes long and does not depend on the release, or only little. make e2e runs everything on both.
	part 'end-to-end test on a real mail host of Debian 13' verbose e2e13 env MXCERT_E2E=require MXCERT_E2E_RELEASE=trixie go test -count=1 -v -timeout 40m \
		-skip '^Test(Ansible|AnsibleLint|PackageIsReproducible|DeploymentsUnderLoad|TimeToNewHandshake|RenewNowUnderLoad|ReloadHangs|EximHangs|MistakesOfUsers|Daemon|WallAtRandom)$' ./packaging/e2e
else
	left_out="$left_out
  the end-to-end test on a real mail host (systemd, Exim, BIND in a container): it needs root and Debian; run: sudo make e2e"
fi
if [ -n "$left_out" ]; then
	echo "Passed, but left out:$left_out"
fi

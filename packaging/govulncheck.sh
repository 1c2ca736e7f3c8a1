#!/bin/sh
# Looks for known vulnerabilities in what mxcert and its modules call. The database is the public one of the Go project,
# or GOVULNDB: a file:// URL of a copy of it, or of the folder data/osv of its source repository.
# Exit status: 0 nothing found, 3 something found, 1 it could not look. It is no part of .ci/run, because a build must
# not depend on a server elsewhere, nor fail on the day on which a vulnerability becomes known.
set -eu
tool=$1
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
GOBIN=$dir go install "$tool" || { echo "govulncheck: NOT CHECKED: $tool cannot be built" >&2; exit 1; }
for tags in "" allproviders; do
	echo "== govulncheck${tags:+ -tags $tags} ./..."
	status=0
	"$dir/govulncheck" ${GOVULNDB:+-db "$GOVULNDB"} ${tags:+-tags "$tags"} ./... || status=$?
	case $status in
	0) ;;
	3) exit 3 ;;
	*)
		echo "govulncheck: NOT CHECKED: it could not look (status $status; see above). Without a way to the database, copy it and name the copy: make govulncheck GOVULNDB=file:///path" >&2
		exit 1
		;;
	esac
done

#!/bin/sh
# The main job in a mail world on this machine: a CA, name servers and a mail server on free loopback ports, and the real
# mxcert against them. Exits with 0 only when the renewed certificate was seen on the wire. KEEP=1 leaves the world up.
set -eu
mxcert=$PWD/bin/mxcert
lab=$PWD/bin/mxcert-lab
dir=$(mktemp -d "${TMPDIR:-/tmp}/mxcert-demo.XXXXXX")
pid=

finish() {
	[ -z "$pid" ] || kill "$pid" 2>/dev/null || true
	[ -z "$pid" ] || wait "$pid" 2>/dev/null || true
	rm -rf "$dir"
}
trap finish EXIT
trap 'exit 130' INT TERM

show() { # show COMMAND…: as a person would type it
	printf '\n$ mxcert -c mxcert.yaml %s\n' "$*"
	"$mxcert" -c "$dir/mxcert.yaml" "$@"
}

serial() { # the serial that the mail server shows, by openssl where there is one
	if command -v openssl >/dev/null; then
		openssl s_client -starttls smtp -connect "$smtp" -servername mx.example.org </dev/null 2>/dev/null | openssl x509 -noout -serial
	else
		"$mxcert" -c "$dir/mxcert.yaml" verify --json | sed -n 's/.*"serial": "\(.*\)".*/serial=\1/p' | head -n 1
	fi
}

echo "Starting a CA, name servers and a mail server on loopback (bin/mxcert-lab up) …"
"$lab" up --dir "$dir" --secondaries 1 --ready-file "$dir/ready.json" >"$dir/lab.log" 2>&1 &
pid=$!
tries=0
until [ -s "$dir/ready.json" ]; do
	tries=$((tries + 1))
	if [ "$tries" -gt 200 ] || ! kill -0 "$pid" 2>/dev/null; then
		cat "$dir/lab.log"
		echo "the lab did not start" >&2
		exit 1
	fi
	sleep 0.05
done
smtp=$(sed -n 's/.*endpoints: \["\([^"]*\)".*/\1/p' "$dir/mxcert.yaml")

show renew
first=$(serial)
printf '\nThat was the first certificate. The next replaces it, long before it is due:\n'
show renew --now
second=$(serial)
show status
show verify

printf '\nWhat senders saw on the wire: first %s, then %s\n' "$first" "$second"
if [ -z "$second" ] || [ "$first" = "$second" ]; then
	echo 'The renewed certificate was not seen on the wire.' >&2
	exit 1
fi
if [ "${KEEP:-}" = 1 ]; then
	cat <<TEXT

The world stays up until you press Ctrl-C. In another terminal:

  cd $PWD
  bin/mxcert -c $dir/mxcert.yaml status
  bin/mxcert -c $dir/mxcert.yaml renew --now --new-key
  bin/mxcert -c $dir/mxcert.yaml history
  echo garbage > $dir/tls/mx.crt && bin/mxcert -c $dir/mxcert.yaml renew     # heals it, without an order
  bin/mxcert -c $dir/mxcert.yaml run                                         # the daemon
  openssl s_client -starttls smtp -connect $smtp -servername mx.example.org -CAfile $dir/roots.pem </dev/null
TEXT
	wait "$pid"
fi

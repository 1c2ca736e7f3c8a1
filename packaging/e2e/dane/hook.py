#!/usr/bin/python3
# 10-nsupdate: the hook of the site hook.test; mxcert-dane(7) has the protocol. It changes BIND by nsupdate.
import json, subprocess, sys

SERVER = "203.0.113.11"
request = json.load(sys.stdin)
if request["zone"] != "hook.test.":
    sys.exit(3)


def records():
    out = subprocess.run(["dig", "+norec", "+noall", "+answer", "@" + SERVER, request["name"], "TLSA"], capture_output=True, text=True, check=True).stdout
    fields = [line.split() for line in out.splitlines() if line and not line.startswith(";")]
    return [" ".join(f[4:7]) + " " + "".join(f[7:]).lower() for f in fields if f[3] == "TLSA"], max([int(f[1]) for f in fields], default=0)


def change(lines):
    secret = open("/etc/mxcert/hook.secret").read().strip()
    text = "\n".join(["server " + SERVER, "zone " + request["zone"], "key hmac-sha256:mxcert. " + secret] + lines + ["send", ""])
    done = subprocess.run(["nsupdate"], input=text, capture_output=True, text=True)
    if done.returncode:
        json.dump({"error": (done.stdout + done.stderr).strip()[-200:], "temporary": True}, sys.stdout)
        sys.exit()


if request["action"] == "add":
    change([f"update add {request['name']} {request['ttl']} TLSA {r}" for r in request["records"]])
if request["action"] == "remove":
    change([f"update delete {request['name']} TLSA {r}" for r in request["records"]])
found, ttl = records()
json.dump({"records": found, "ttl": ttl}, sys.stdout)

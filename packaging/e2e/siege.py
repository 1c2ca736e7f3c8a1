# siege.py: runs commands as root, one after the other, and says of each in a line of JSON how it went.
#
# Standard input is a JSON object: commands (a list of lists), rounds (at least so many), while (a file: further rounds as long as it is
# there), patience (seconds; a command that takes longer is killed), environment.
import json, os, select, signal, sys, time, unicodedata

MOST = 4 << 20  # bytes of output


def unprintable(text):
    """The characters that a terminal may obey: control characters, bidi overrides and what is no UTF-8."""
    return sorted({"U+%04X" % ord(c) for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")})


def run(argv, patience, environment):
    reading, writing = os.pipe()
    began = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setsid()
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        os.closerange(3, 64)
        os.execvpe(argv[0], argv, dict(os.environ, **environment))
    os.close(writing)
    output, killed = b"", False
    while True:
        left = began + patience - time.monotonic()
        if left <= 0 and not killed:
            killed = True
            os.kill(pid, signal.SIGKILL)
        ready, _, _ = select.select([reading], [], [], max(0.05, left))
        if ready:
            part = os.read(reading, 65536)
            output = (output + part)[:MOST]
            if not part:
                break
        elif killed:
            break  # a child holds the pipe
    os.close(reading)
    _, status, usage = os.wait4(pid, 0)
    text = output.decode("utf-8", "surrogateescape")
    return {"argv": argv, "code": os.waitstatus_to_exitcode(status), "seconds": round(time.monotonic() - began, 2), "memory": usage.ru_maxrss << 10, "killed": killed,
            "length": len(output), "unprintable": unprintable(text), "output": text.encode("utf-8", "replace").decode()[:20000]}


order = json.load(sys.stdin)
rounds = 0
while rounds < order["rounds"] or order.get("while") and os.path.exists(order["while"]):
    rounds += 1
    for argv in order["commands"]:
        print(json.dumps(run(argv, order["patience"], order.get("environment", {}))), flush=True)

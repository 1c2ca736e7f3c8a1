# snapshot.py FILE PROMISED…: writes what every file of this host is, or says what differs from what FILE holds, and exits with 1.
#
# Of each file: type and mode, user, group, links, size, inode, the time of the last change (ctime, which no program can set), the target of a
# link. PROMISED are paths that may differ; one that ends in / stands for all below it, too.
import json, os, stat, sys

ALWAYS = ["/proc/", "/sys/", "/dev/", "/run/", "/tmp/", "/var/tmp/", "/var/log/", "/var/cache/", "/var/spool/",
          "/var/lib/mxcert/", "/var/lib/mxcert-keys/", "/var/lib/mxcert-install/", "/var/lib/bind/", "/var/lib/exim4/", "/var/lib/systemd/"]
BUT = ["/run/mxcert-helpers"]  # in a promised place, and not promised


def describe(path):
    s = os.lstat(path)
    of = {"mode": oct(s.st_mode), "uid": s.st_uid, "gid": s.st_gid, "links": s.st_nlink, "size": s.st_size, "inode": s.st_ino, "changed": s.st_ctime_ns}
    if stat.S_ISLNK(s.st_mode):
        of["target"] = os.readlink(path)
    return of, stat.S_ISDIR(s.st_mode)


def walk(path, promised, seen):
    if path + "/" in promised:
        return
    try:
        of, directory = describe(path)
        names = sorted(os.listdir(path)) if directory else []
    except FileNotFoundError:
        return
    if path not in promised:
        seen[path] = of
    for name in names:
        walk(path.rstrip("/") + "/" + name, promised, seen)


promised, now = set(ALWAYS + sys.argv[2:]), {}
walk("/", promised, now)
for path in BUT:
    if os.path.exists(path):
        walk(path, set(), now)
if len(now) < 2000:
    sys.exit("only %d files: this is no host" % len(now))
try:
    before = json.load(open(sys.argv[1]))
except FileNotFoundError:
    json.dump(now, open(sys.argv[1], "w"))
    print(len(now))
    sys.exit(0)
differ = [p for p in sorted(set(before) | set(now)) if before.get(p) != now.get(p)]
for path in differ:
    old, new = before.get(path) or {}, now.get(path) or {}
    what = ", ".join("%s %s, was %s" % (k, new[k], old[k]) for k in old if k in new and old[k] != new[k])
    print("%s: %s" % (path, what if old and new else "made" if new else "removed"))
sys.exit(1 if differ else 0)

# Of the output of go test -v: each test that failed, with the first lines that it said itself (t.Error, t.Fatal, t.Log) and its last one, without
# what its daemons logged. Also panics, data races, and what the compiler or go vet says. It prints at most as many lines as the variable most says (80).
# With skips=1 a test that was skipped counts as failed.

function keep(of, test, line,    id) { # as a line of a test of a package: of the first, the second …; 0: of none
	id = of SUBSEP test
	if (!(id in lines)) {
		lines[id] = 0
		groups[++count] = id
	}
	if (line != "")
		text[id, ++lines[id]] = substr(line, 1, 300)
}

BEGIN { if (!most) most = 80; package = 1; verdict[0] = "The compiler or go vet says:" }

# A data race is a block. Of the first one of a test it shows who meets whom.
/^WARNING: DATA RACE/ {
	racing = 1
	wanted = (package, test) in raced ? 1 : 9
	raced[package, test] = 1
}
racing && /^==================$/ { racing = 0; next }
racing {
	if (wanted > 0 && $0 != "") {
		keep(package, test, $0)
		wanted--
	}
	next
}

# A panic ends the program: what it says, and the functions of its goroutine, without those of Go itself.
/^(panic|fatal error): / { panics = 1; wanted = 14 }
panics && /^FAIL\t/ { panics = 0 }
panics {
	failed[package, test] = 1
	if (/^[^ \t].*\)$/)
		caller = $0
	else if (/^\t\// && caller != "") {
		if (wanted > 1 && !/\/src\/(testing|runtime|internal)\//) {
			keep(package, test, caller)
			keep(package, test, $0)
			wanted -= 2
		}
		caller = ""
	} else if (wanted > 0 && $0 != "" && !/^created by / && !/^\t\//) {
		keep(package, test, $0)
		wanted--
	}
	next
}

# The compiler names the package first.
/^# / { compiles = 1; keep(0, "", $0); next }
compiles && /^(vet: )?[^ \t]+\.go:[0-9]+/ { keep(0, "", $0); next }
{ compiles = 0 }

/^=== (RUN|CONT|NAME|PAUSE) / { test = $3; more = 0; next }
/^ *--- (PASS|FAIL|SKIP): / {
	test = $3
	more = 0
	if ($2 == "FAIL:" || $2 == "SKIP:" && skips) {
		failed[package, test] = 1
		keep(package, test, "")
		for (parent = test; sub(/\/[^\/]*$/, "", parent); )
			explained[package, parent] = 1
	}
	next
}
/^(ok  |FAIL|\?   )\t/ {
	if (/^FAIL/ || skips)
		verdict[package] = $0
	package++
	test = ""
	more = 0
	next
}
/^signal: / { keep(package, "", $0) }
/^ +[A-Za-z0-9_.-]+\.go:[0-9]+: / { keep(package, test, $0); more = 3; next }
more && /^        / { keep(package, test, $0); more--; next } # more lines of the same
{ more = 0 }

# matters reports whether there is something to say of a group.
function matters(id,    part) {
	split(id, part, SUBSEP)
	if (part[2] == "")
		return part[1] in verdict && lines[id]
	return id in failed && (lines[id] || !(id in explained))
}

function show(id, each,    part, i, n) {
	split(id, part, SUBSEP)
	n = lines[id]
	if (part[2] != "")
		print part[2] (n ? ":" : " says nothing.")
	for (i = 1; i <= n; i++)
		if (n > each && i == each - 1) {
			print "    … " n - each + 1 " lines …"
			i = n - 1 # the last one is often that of t.Fatal
		} else
			print "  " text[id, i]
}

END {
	for (i = 1; i <= count; i++)
		if (matters(groups[i])) {
			split(groups[i], part, SUBSEP)
			shown[++n] = groups[i]
			of[n] = part[1]
			room[part[1]]++
		}
	for (p in verdict)
		heads += p > 0 || room[0]
	each = n ? int((most - 1 - heads - n) / n) : 0
	each = each > 15 ? 15 : each < 4 ? 4 : each
	for (p = 0; p <= package; p++) {
		if (!(p in verdict) || p == 0 && !room[0] || skips && !room[p] && verdict[p] !~ /^FAIL/)
			continue
		if (++printed < most)
			print verdict[p]
		for (i = 1; i <= n; i++)
			if (of[i] == p) {
				needs = 1 + (lines[shown[i]] < each ? lines[shown[i]] : each)
				if (printed + needs >= most) {
					split(shown[i], part, SUBSEP)
					left = left " " part[2]
					continue
				}
				printed += needs
				show(shown[i], each)
			}
	}
	if (left != "")
		print substr("above:" left, 1, 400)
}

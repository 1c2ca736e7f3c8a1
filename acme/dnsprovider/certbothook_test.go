package dnsprovider_test

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"mxcert/acme/dnsprovider"
	"mxcert/acme/resolve"
)

// hooks gives the variables for two scripts; OUT is a file beside the first.
func hooks(t *testing.T, auth, cleanUp string) map[string]string {
	t.Helper()
	first := script(t, auth)
	env := map[string]string{"CERTBOT_AUTH_HOOK": first["EXEC_PATH"], "OUT": first["OUT"]}
	if cleanUp != "" {
		env["CERTBOT_CLEANUP_HOOK"] = script(t, cleanUp)["EXEC_PATH"]
	}
	return env
}

// TestHook: the scripts see what certbot's see. A wildcard and its apex have the same name there too.
func TestHook(t *testing.T) {
	const show = `echo "$CERTBOT_DOMAIN $CERTBOT_VALIDATION $CERTBOT_REMAINING_CHALLENGES $CERTBOT_ALL_DOMAINS token=${CERTBOT_TOKEN-unset} output=${CERTBOT_AUTH_OUTPUT-unset}" >>"$OUT"`
	env := hooks(t, show+`; printf '\n  said %s\nand more\n\n' $CERTBOT_VALIDATION; echo noise >&2`, show)
	solver := newSolver(t, "certbot-hook", env)
	records := []dnsprovider.TXT{record("example.org", "one"), record("example.org", "two"), record("mx.example.com", "three")}
	if err := errors.Join(solver.Present(t.Context(), records), solver.CleanUp(t.Context(), records)); err != nil {
		t.Fatal(err)
	}
	const all = "example.org,example.org,mx.example.com"
	want := "example.org one 2 " + all + " token=unset output=unset\n" +
		"example.org two 1 " + all + " token=unset output=unset\n" +
		"mx.example.com three 0 " + all + " token=unset output=unset\n" +
		"example.org one 2 " + all + " token=unset output=said one\nand more\n" +
		"example.org two 1 " + all + " token=unset output=said two\nand more\n" +
		"mx.example.com three 0 " + all + " token=unset output=said three\nand more\n"
	if got := read(t, env["OUT"]); got != want {
		t.Errorf("they saw\n%s", got)
	}
}

// TestHooksInTheWild: the ways in which scripts are written and named in the documentation and repositories of others.
func TestHooksInTheWild(t *testing.T) {
	const add, remove = `echo "$CERTBOT_DOMAIN $CERTBOT_VALIDATION" >>"$OUT"`, `sed -i "/ $CERTBOT_VALIDATION\$/d" "$OUT"`
	for what, tt := range map[string]struct {
		auth, cleanUp, line, cleanUpLine string
		bare                             bool // without the line that names an interpreter
	}{
		"an identifier on standard output": {
			auth:    `set -e; ` + add + `; id=$(grep -n " $CERTBOT_VALIDATION" "$OUT" | cut -d: -f1); echo "record $id"`,
			cleanUp: `test -n "$CERTBOT_AUTH_OUTPUT" || exit 1; n=${CERTBOT_AUTH_OUTPUT#record }; sed -i "${n}s/.*//" "$OUT"; grep -q . "$OUT" || : >"$OUT"`,
		},
		"a file for the clean-up": {
			auth:    add + `; mkdir -p "$OUT.d/CERTBOT_$CERTBOT_DOMAIN"; echo 17 >>"$OUT.d/CERTBOT_$CERTBOT_DOMAIN/RECORD_ID"`,
			cleanUp: `test -s "$OUT.d/CERTBOT_$CERTBOT_DOMAIN/RECORD_ID" && ` + remove,
		},
		"one wait at the end":          {auth: add + `; if [ "$CERTBOT_REMAINING_CHALLENGES" -eq 0 ]; then sleep 0.1; fi`, cleanUp: remove},
		"one script with an argument":  {auth: `case "$1" in auth) ` + add + `;; cleanup) ` + remove + `;; *) exit 64;; esac`, line: "{auth} auth", cleanUpLine: "{auth} cleanup"},
		"an interpreter in front":      {auth: add, cleanUp: remove, line: "sh {auth}", cleanUpLine: "/bin/sh {cleanup}"},
		"a redirection and a wait":     {auth: add, cleanUp: remove, line: "{auth} >/dev/null 2>&1 && sleep 0.1", cleanUpLine: "{cleanup} || exit 1"},
		"quotes and variables":         {auth: `test "$1" = "two words" && test "$2" = example && ` + add, cleanUp: remove, line: `{auth} "two words" ${CERTBOT_DOMAIN%%.*}`},
		"no interpreter in the script": {auth: add, cleanUp: remove, bare: true},
	} {
		t.Run(what, func(t *testing.T) {
			env := hooks(t, tt.auth, tt.cleanUp)
			auth, cleanUp := env["CERTBOT_AUTH_HOOK"], env["CERTBOT_CLEANUP_HOOK"]
			for _, path := range []string{auth, cleanUp} {
				if tt.bare {
					writeScript(t, path, strings.TrimPrefix(read(t, path), "#!/bin/sh\n"))
				}
			}
			for variable, line := range map[string]string{"CERTBOT_AUTH_HOOK": tt.line, "CERTBOT_CLEANUP_HOOK": tt.cleanUpLine} {
				if line != "" {
					env[variable] = strings.NewReplacer("{auth}", auth, "{cleanup}", cleanUp).Replace(line)
				}
			}
			solver := newSolver(t, "certbot-hook", env)
			records := []dnsprovider.TXT{record("example.org", "one"), record("example.com", "two")}
			if err := solver.Present(t.Context(), records); err != nil {
				t.Fatal(err)
			}
			if got := read(t, env["OUT"]); got != "example.org one\nexample.com two\n" {
				t.Errorf("made: %q", got)
			}
			if err := solver.CleanUp(t.Context(), records); err != nil {
				t.Fatal(err)
			}
			if got := read(t, env["OUT"]); got != "" {
				t.Errorf("left behind: %q", got)
			}
		})
	}
}

// TestHookWithNsupdate changes a real zone, as most of these scripts do that are not for one company's API.
func TestHookWithNsupdate(t *testing.T) {
	nsupdate, err := exec.LookPath("nsupdate")
	if err != nil {
		if os.Getenv("MXCERT_TEST_REQUIRE") == "1" {
			t.Fatal(err)
		}
		t.Skipf("%v: install bind9-dnsutils", err)
	}
	w, s := newWorld(t)
	const change = `
: "${CERTBOT_DOMAIN:?}" "${CERTBOT_VALIDATION:?}"
HOST="_acme-challenge"
"$NSUPDATE" <<EOM
server $SERVER $PORT
key hmac-sha256:$KEY $SECRET
zone ${ZONE}
update %s ${HOST}.${CERTBOT_DOMAIN} %sTXT "${CERTBOT_VALIDATION}"
send
EOM
`
	env := hooks(t, fmt.Sprintf(change, "add", "300 "), fmt.Sprintf(change, "delete", ""))
	env["SERVER"], env["PORT"], _ = net.SplitHostPort(s.Address())
	env["NSUPDATE"], env["KEY"], env["SECRET"], env["ZONE"] = nsupdate, keyName, secret, "example.org"
	solver := newSolver(t, "certbot-hook", env)
	records := []dnsprovider.TXT{record("mx.example.org", "apex"), record("mx.example.org", "wildcard")}
	if err := solver.Present(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if got := values(w, "mx.example.org"); !slices.Equal(got, []string{"apex", "wildcard"}) {
		t.Errorf("in the zone: %q", got)
	}
	if err := solver.CleanUp(t.Context(), records[:1]); err != nil {
		t.Fatal(err)
	}
	if got := values(w, "mx.example.org"); !slices.Equal(got, []string{"wildcard"}) {
		t.Errorf("after the clean-up of one: %q", got)
	}
	env["SECRET"] = "d3Jvbmc="
	err = newSolver(t, "certbot-hook", env).Present(t.Context(), records)
	if e, ok := errors.AsType[*dnsprovider.Error](err); !ok || !strings.Contains(e.Error(), "CERTBOT_AUTH_HOOK: exit status 2; it said") || strings.Contains(e.Error(), "d3Jvbmc=") {
		t.Errorf("with a wrong key: %v", err)
	}
}

// TestHookAfterACrash: a new process has no CERTBOT_AUTH_OUTPUT. A script that can do without removes the record; one
// that cannot leaves it to the operator.
func TestHookAfterACrash(t *testing.T) {
	records := []dnsprovider.TXT{record("example.org", "one"), record("example.com", "two")}
	env := hooks(t, "exit 1", `echo "$CERTBOT_DOMAIN $CERTBOT_VALIDATION $CERTBOT_REMAINING_CHALLENGES" >>"$OUT"`)
	if err := newSolver(t, "certbot-hook", env).CleanUp(t.Context(), records); err != nil {
		t.Error(err)
	}
	if got := read(t, env["OUT"]); got != "example.org one 1\nexample.com two 0\n" {
		t.Errorf("it saw %q", got)
	}
	env = hooks(t, "exit 1", `test -n "${CERTBOT_AUTH_OUTPUT+set}" || { echo 'no record id' >&2; exit 1; }`)
	lost, rest := dnsprovider.Forgotten(newSolver(t, "certbot-hook", env).CleanUp(t.Context(), records))
	if !slices.Equal(lost, records) || rest != nil {
		t.Errorf("forgotten %v, rest %v", lost, rest)
	}
	err := newSolver(t, "certbot-hook", env).CleanUp(t.Context(), records[:1])
	if !strings.Contains(err.Error(), "no record id") || !strings.Contains(err.Error(), "CERTBOT_AUTH_OUTPUT is lost") {
		t.Errorf("it does not say why: %v", err)
	}
}

// TestHookWithoutCleanUp is allowed, as by certbot, and what stays is not hushed up.
func TestHookWithoutCleanUp(t *testing.T) {
	solver := newSolver(t, "certbot-hook", hooks(t, "exit 0", ""))
	records := []dnsprovider.TXT{record("example.org", "one")}
	if err := solver.Present(t.Context(), records); err != nil {
		t.Fatal(err)
	}
	if lost, rest := dnsprovider.Forgotten(solver.CleanUp(t.Context(), records)); len(lost) != 1 || rest != nil {
		t.Errorf("forgotten %v, rest %v", lost, rest)
	}
}

// TestHookFails: the order stops, and what was begun is cleaned up.
func TestHookFails(t *testing.T) {
	env := hooks(t, `echo "make $CERTBOT_VALIDATION" >>"$OUT"; test $CERTBOT_VALIDATION != two || { echo "token $API_TOKEN refused" >&2; exit 7; }`, `echo "remove $CERTBOT_VALIDATION" >>"$OUT"`)
	env["API_TOKEN"] = "s3cr3t+value"
	solver := newSolver(t, "certbot-hook", env)
	records := []dnsprovider.TXT{record("a.example.org", "one"), record("b.example.org", "two"), record("c.example.org", "three")}
	err := solver.Present(t.Context(), records)
	e, ok := errors.AsType[*dnsprovider.Error](err)
	if !ok || !strings.Contains(e.Error(), "b.example.org: CERTBOT_AUTH_HOOK: exit status 7; it said \"token (API_TOKEN) refused\"") || !strings.Contains(e.Hint(), "exit 0") || !e.Temporary() || e.Kind() != "dns-update" {
		t.Errorf("got %v", err)
	}
	if err := solver.CleanUp(t.Context(), records); err != nil {
		t.Error(err)
	}
	if got := read(t, env["OUT"]); got != "make one\nmake two\nremove one\nremove two\n" {
		t.Errorf("they ran for %q", got)
	}
}

// TestHookExcess: time and output are limited, and bytes that no variable can hold do no harm.
func TestHookExcess(t *testing.T) {
	t.Parallel()
	env := hooks(t, `head -c 300000 /dev/zero | tr '\0' x; printf '\0y'`, `echo "${#CERTBOT_AUTH_OUTPUT}" >>"$OUT"`)
	solver := newSolver(t, "certbot-hook", env)
	records := []dnsprovider.TXT{record("example.org", "one")}
	if err := errors.Join(solver.Present(t.Context(), records), solver.CleanUp(t.Context(), records)); err != nil || read(t, env["OUT"]) != "65536\n" {
		t.Errorf("%v, %s", err, read(t, env["OUT"]))
	}
	env = hooks(t, `printf 'a\0b'`, `echo "$CERTBOT_AUTH_OUTPUT" >>"$OUT"`)
	solver = newSolver(t, "certbot-hook", env)
	if err := errors.Join(solver.Present(t.Context(), records), solver.CleanUp(t.Context(), records)); err != nil || read(t, env["OUT"]) != "ab\n" {
		t.Errorf("%v, %s", err, read(t, env["OUT"]))
	}
	env = hooks(t, `sleep 60`, "")
	env["CERTBOT_HOOK_TIMEOUT"] = "1"
	if err := newSolver(t, "certbot-hook", env).Present(t.Context(), records); err == nil || !strings.Contains(err.Error(), "it was stopped after 1s") {
		t.Errorf("a script that hangs: %v", err)
	}
}

func TestHookEnvironment(t *testing.T) {
	t.Setenv("PROCESS_SECRET", "p")
	t.Setenv("CERTBOT_TOKEN", "of the process")
	t.Setenv("HOME", "/home/of/mxcert")
	env := hooks(t, `env >>"$OUT"`, "")
	env["API_TOKEN"] = "for the script"
	if err := newSolver(t, "certbot-hook", env).Present(t.Context(), []dnsprovider.TXT{record("example.org", "one")}); err != nil {
		t.Fatal(err)
	}
	got := "\n" + read(t, env["OUT"])
	for _, want := range []string{"\nAPI_TOKEN=for the script\n", "\nHOME=/home/of/mxcert\n", "\nPATH=/"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, private := range []string{"PROCESS_SECRET", "CERTBOT_TOKEN", "_HOOK"} {
		if strings.Contains(got, private) {
			t.Errorf("the script sees %s", private)
		}
	}
}

func TestHookSettings(t *testing.T) {
	plain := filepath.Join(t.TempDir(), "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for says, env := range map[string]map[string]string{
		"CERTBOT_AUTH_HOOK: it is missing":               {},
		"CERTBOT_AUTH_HOOK: exec: ":                      {"CERTBOT_AUTH_HOOK": plain},
		"CERTBOT_CLEANUP_HOOK: ":                         {"CERTBOT_AUTH_HOOK": "/bin/true", "CERTBOT_CLEANUP_HOOK": "/nonexistent now"},
		"CERTBOT_HOOK_TIMEOUT: \"5m\" is not":            {"CERTBOT_AUTH_HOOK": "/bin/true", "CERTBOT_HOOK_TIMEOUT": "5m"},
		"CERTBOT_CLEANUP_HOK: this provider has no such": {"CERTBOT_AUTH_HOOK": "/bin/true", "CERTBOT_CLEANUP_HOK": "/bin/true"},
	} {
		_, err := dnsprovider.New("certbot-hook", env, resolve.New(nil))
		if e, ok := errors.AsType[*dnsprovider.Error](err); !ok || !strings.Contains(e.Error(), says) || e.Kind() != "dns-config" || e.Hint() == "" {
			t.Errorf("%v does not say %q", err, says)
		}
	}
	if err := dnsprovider.CheckVariables("certbot-hook", []string{"CERTBOT_AUTH_HOOK", "MY_TOKEN"}); err != nil {
		t.Error(err)
	}
	if err := dnsprovider.CheckVariables("certbot-hook", []string{"CERTBOT_DOMAIN"}); err == nil {
		t.Error("CERTBOT_DOMAIN is for the script to read")
	}
}

package deploy_test

import (
	"bufio"
	"bytes"
	"encoding/pem"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"mxcert/acme/bundle"
	"mxcert/deploy"
)

// loopEnv makes the test binary a process that deploys the bundles of a directory in turn, without end.
const loopEnv = "MXCERT_TEST_DEPLOY_LOOP"

func TestMain(m *testing.M) {
	if dir := os.Getenv(loopEnv); dir != "" {
		fmt.Println("ended:", deployLoop(dir))
		return
	}
	if dir := os.Getenv(exchangeEnv); dir != "" {
		if err := exchangeLoop(dir); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func deployLoop(dir string) error {
	// "same" goes to a pair whose key stays, "new" to a combined file whose key changes.
	bundles := map[string][]*bundle.Bundle{}
	for _, kind := range []string{"same", "new"} {
		for i := range 2 {
			text, err := os.ReadFile(filepath.Join(dir, fmt.Sprint(kind, i)))
			if err != nil {
				return err
			}
			cut := bytes.Index(text, []byte("-----BEGIN CERT"))
			b, err := bundle.Parse(text[cut:], text[:cut])
			if err != nil {
				return err
			}
			bundles[kind] = append(bundles[kind], b)
		}
	}
	for i := 0; ; i++ {
		plan, err := deploy.Make("mx", []deploy.Job{
			{Bundle: bundles["same"][i%2], Target: pair(filepath.Join(dir, "out"))}, {Bundle: bundles["new"][i%2], Target: combined(filepath.Join(dir, "out"))},
		}, nil)
		if err == nil {
			err = plan.Apply(keepNothing)
		}
		if err != nil {
			return err
		}
		if i == 0 {
			fmt.Println("deployed")
		}
	}
}

// TestKilledAtRandomMoments: whenever kill -9 comes, each file parses, and keys and certificates belong together.
func TestKilledAtRandomMoments(t *testing.T) {
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	same := fresh(t, 1)
	for name, b := range map[string]*bundle.Bundle{"same0": same, "same1": renewed(t, same, 2), "new0": fresh(t, 3), "new1": fresh(t, 4)} {
		write(t, filepath.Join(dir, name), string(b.CombinedPEM()), 0o600)
	}
	left := 0
	for range 60 {
		child := exec.Command(os.Args[0], "-test.run=^$")
		child.Env = append(os.Environ(), loopEnv+"="+dir)
		stdout, err := child.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := child.Start(); err != nil {
			t.Fatal(err)
		}
		line, err := bufio.NewReader(stdout).ReadString('\n')
		time.Sleep(time.Duration(rand.Int64N(int64(12 * time.Millisecond))))
		_ = child.Process.Kill()
		_ = child.Wait()
		if line != "deployed\n" {
			t.Fatalf("the other process says %q, %v", line, err)
		}
		checkPair(t, read(t, pair(out).Certificate), read(t, pair(out).PrivateKey))
		text := read(t, combined(out).Combined)
		block, rest := pem.Decode(text)
		if block == nil {
			t.Fatalf("the combined file is %q", text)
		}
		checkPair(t, rest, pem.EncodeToMemory(block))
		if entries, err := filepath.Glob(filepath.Join(out, ".mxcert-mx")); err == nil {
			left += len(entries)
		}
		if t.Failed() {
			return
		}
	}
	if left == 0 {
		t.Error("no run was killed in the middle: this test sees nothing")
	}
	last := fresh(t, 9)
	apply(t, last, pair(out), combined(out)) // also checks that nothing of the killed runs is left
}

func checkPair(t *testing.T, chain, key []byte) {
	t.Helper()
	if _, err := bundle.Parse(chain, key); err != nil {
		t.Errorf("after kill -9: %v", err)
	}
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

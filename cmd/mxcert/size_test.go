package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestNoTemplates: if a program executes text/template, the linker must keep every exported method. mxcert then grows from 18 to 26 MB, and
// a command from 13 to 17 MiB of memory. The libraries of some DNS providers parse templates, which costs little.
// gRPC, which speaks to etcd, executes them on a page about its calls, unless the build tag grpcnotrace leaves that out: the Makefile and the
// packages set it.
func TestNoTemplates(t *testing.T) {
	t.Parallel()
	program := filepath.Join(t.TempDir(), "mxcert")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-tags", "grpcnotrace", "-o", program, "mxcert/cmd/mxcert").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	symbols, err := exec.CommandContext(t.Context(), "go", "tool", "nm", program).Output()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(symbols), " github.com/spf13/cobra.(*Command).ExecuteC\n") {
		t.Error("the test sees no functions in the program")
	}
	if strings.Contains(string(symbols), " text/template.(*Template).Execute\n") {
		t.Error("something executes text/template: cobra does after SetUsageTemplate, SetHelpTemplate or SetVersionTemplate")
	}
}

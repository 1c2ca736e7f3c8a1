package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"mxcert/cmd/mxcert-lab/ca"
)

// authority are the flags that all commands with a CA have.
type authority struct {
	validity    time.Duration
	profiles    map[string]string
	chainLength int
	badNonces   int
	verbose     bool
}

func (a *authority) addFlags(command *cobra.Command) {
	flags := command.Flags()
	flags.DurationVar(&a.validity, "validity", 90*24*time.Hour, "lifetime of certificates without a profile")
	flags.StringToStringVar(&a.profiles, "profile", nil, "further profile and the lifetime of its certificates (`NAME=DURATION`)")
	flags.IntVar(&a.chainLength, "chain-length", 1, "number of intermediate certificates")
	flags.IntVar(&a.badNonces, "bad-nonces", 0, "percentage of good nonces that the CA refuses")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "the CA's log on standard error")
}

func (a *authority) options(stderr io.Writer) (ca.Options, error) {
	opts := ca.Options{Validity: a.validity, ChainLength: a.chainLength, BadNonces: a.badNonces, Profiles: map[string]time.Duration{}}
	for name, text := range a.profiles {
		validity, err := time.ParseDuration(text)
		if err != nil {
			return ca.Options{}, fmt.Errorf("%w: --profile %s=%s: %v", errUsage, name, text, err)
		}
		opts.Profiles[name] = validity
	}
	if a.verbose {
		opts.Log = stderr
	}
	return opts, nil
}

func caCommand() *cobra.Command {
	var a authority
	var listen, management, resolver, caFile, rootsFile string
	command := &cobra.Command{
		Use: "ca", Short: "Run the CA alone, until SIGINT or SIGTERM", Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			opts, err := a.options(command.ErrOrStderr())
			if err != nil {
				return err
			}
			opts.Listen, opts.Management, opts.Resolver = listen, management, resolver
			return serveCA(command.Context(), opts, caFile, rootsFile, command.OutOrStdout())
		},
	}
	flags := command.Flags()
	flags.StringVar(&listen, "listen", "127.0.0.1:14000", "`ADDRESS:PORT` of the ACME directory")
	flags.StringVar(&management, "management", "", "`ADDRESS:PORT` of Pebble's management interface (default none)")
	flags.StringVar(&resolver, "dns", "", "`ADDRESS:PORT` of the DNS server that validation asks, over TCP (default the system's)")
	flags.StringVar(&caFile, "ca-file", "", "`FILE` for the root of the CA's own HTTPS (acme.ca_file)")
	flags.StringVar(&rootsFile, "roots-file", "", "`FILE` for the roots of issued certificates (acme.roots_file)")
	a.addFlags(command)
	return command
}

func serveCA(ctx context.Context, opts ca.Options, caFile, rootsFile string, stdout io.Writer) error {
	c, err := ca.Start(opts)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	for path, content := range map[string][]byte{caFile: c.HTTPSRoots(), rootsFile: c.Roots()} {
		if path == "" {
			continue
		}
		if err := writeWhole(path, content); err != nil {
			return err
		}
	}
	fmt.Fprintf(stdout, "ACME directory: %s\n", c.DirectoryURL())
	if c.ManagementURL() != "" {
		fmt.Fprintf(stdout, "management:     %s\n", c.ManagementURL())
	}
	<-ctx.Done()
	return nil
}

// writeWhole writes a public file so that a reader that waits for it never sees a part of it.
func writeWhole(path string, content []byte) error {
	temporary, err := os.CreateTemp(filepath.Dir(path), ".mxcert-lab-")
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	defer func() { _ = os.Remove(temporary.Name()) }()
	_, err = temporary.Write(content)
	if err == nil {
		err = temporary.Chmod(0o644)
	}
	if closing := temporary.Close(); err == nil {
		err = closing
	}
	if err == nil {
		err = os.Rename(temporary.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

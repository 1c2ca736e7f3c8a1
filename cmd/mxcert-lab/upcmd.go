package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"mxcert/acme/bundle"
	"mxcert/cmd/mxcert-lab/lab"
)

// up are the flags of the command up.
type up struct {
	authority   authority
	directory   string
	readyFile   string
	caPort      int
	dnsPort     int
	smtpPort    int
	secondaries int
	dnsLag      time.Duration
	keys        []string
	preload     time.Duration
	signed      bool
}

func upCommand() *cobra.Command {
	var u up
	command := &cobra.Command{
		Use: "up", Short: "Start the whole lab, until SIGINT or SIGTERM",
		Long: "Start the whole lab and write DIR/mxcert.yaml, a configuration of mxcert that fits it.\n" +
			"The lab runs until SIGINT or SIGTERM. Its CA is a new one at each start.",
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			return u.run(command.Context(), command.OutOrStdout(), command.ErrOrStderr())
		},
	}
	flags := command.Flags()
	flags.StringVar(&u.directory, "dir", "", "`DIR` for all files; it stays (default a temporary one, which is removed)")
	flags.StringVar(&u.readyFile, "ready-file", "", "`FILE` to write, as JSON, once everything answers")
	flags.IntVar(&u.caPort, "ca-port", 0, "port of the CA (0 takes a free one)")
	flags.IntVar(&u.dnsPort, "dns-port", 0, "port of the primary name server (0 takes a free one)")
	flags.IntVar(&u.smtpPort, "smtp-port", 0, "port of the SMTP server (0 takes a free one)")
	flags.IntVar(&u.secondaries, "secondaries", 0, "further authoritative name servers, at 127.0.0.2 and on")
	flags.DurationVar(&u.dnsLag, "dns-lag", 0, "DNS updates become visible this much later")
	flags.StringSliceVar(&u.keys, "keys", []string{"ec256"}, "key types that the certificate has and the SMTP server reads")
	flags.DurationVar(&u.preload, "preload", 0, "the SMTP server loads its files once, and again this long after a change (default at each connection)")
	flags.BoolVar(&u.signed, "signed", false, "the zones are signed, and the name servers validate DNSSEC")
	u.authority.addFlags(command)
	return command
}

func (u *up) run(ctx context.Context, stdout, stderr io.Writer) error {
	opts, err := u.options(stderr)
	if err != nil {
		return err
	}
	l, err := lab.Start(ctx, opts)
	if err != nil {
		return err
	}
	return errors.Join(u.serve(ctx, l, stdout), l.Close())
}

func (u *up) options(stderr io.Writer) (lab.Options, error) {
	authority, err := u.authority.options(stderr)
	if err != nil {
		return lab.Options{}, err
	}
	authority.Listen = loopback(u.caPort)
	for _, key := range u.keys {
		if known := []bundle.KeyType{bundle.EC256, bundle.EC384, bundle.RSA2048, bundle.RSA3072, bundle.RSA4096}; !slices.Contains(known, bundle.KeyType(key)) {
			return lab.Options{}, fmt.Errorf("--keys: %q is not a key type; the key types are %v", key, known)
		}
	}
	return lab.Options{
		Directory: u.directory, CA: authority, DNSListen: loopback(u.dnsPort), Secondaries: u.secondaries, DNSLag: u.dnsLag,
		SMTPListen: loopback(u.smtpPort), Keys: u.keys, Preload: u.preload > 0, Watch: u.preload, Signed: u.signed,
	}, nil
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func (u *up) serve(ctx context.Context, l *lab.Lab, stdout io.Writer) error {
	configuration := l.Path("mxcert.yaml")
	if err := os.WriteFile(configuration, []byte(l.Config(lab.ConfigOptions{})), 0o600); err != nil {
		return fmt.Errorf("write the configuration: %w", err)
	}
	if _, err := io.WriteString(stdout, summary(l, u.authority.validity, u.preload)); err != nil {
		return fmt.Errorf("print the summary: %w", err)
	}
	if u.readyFile != "" {
		ready, err := json.MarshalIndent(addresses(l), "", "  ")
		if err != nil {
			return fmt.Errorf("write the ready file: %v", err)
		}
		if err := writeWhole(u.readyFile, append(ready, '\n')); err != nil {
			return err
		}
		defer func() { _ = os.Remove(u.readyFile) }()
	}
	<-ctx.Done()
	return nil
}

package setup

import (
	"context"
	"net"
	"strings"
	"time"
)

const (
	eximUnit = "exim4.service"
	// settle is how long after a reload Exim may still close its ports: systemd's job is done when the signal is sent.
	settle = 500 * time.Millisecond
	// opening limits how long to wait for the ports after that. If a session holds the old socket at the moment of the reload, Exim waits for
	// 30 s before it tries again ("Address already in use").
	opening = 35 * time.Second
)

// smtpPorts returns the addresses at which other programs of this host look for Exim.
func smtpPorts() []string { return []string{"127.0.0.1:25", "[::1]:25"} }

// reload reloads Exim and waits until the addresses that were open before are open again. done is false if Exim is not running.
func reload(ctx context.Context, addresses []string) (done bool, err error) {
	var before []string
	for _, address := range addresses {
		if isOpen(ctx, address) {
			before = append(before, address)
		}
	}
	if err := must(ctx, "systemctl", "reload", eximUnit); err != nil {
		state, _ := hostProgram(ctx, "systemctl", "is-active", eximUnit) // it also fails for a unit that is not active
		if state = strings.TrimSpace(state); state == "inactive" || state == "failed" {
			return false, nil
		}
		return false, err
	}
	if len(before) > 0 {
		await(ctx, before)
	}
	return true, nil
}

// await waits until the addresses are open. If they stay closed, the next program that connects finds out.
func await(ctx context.Context, addresses []string) {
	ctx, cancel := context.WithTimeout(ctx, settle+opening)
	defer cancel()
	sleep(ctx, settle)
	for _, address := range addresses {
		for ctx.Err() == nil && !isOpen(ctx, address) {
			sleep(ctx, settle/10)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

func isOpen(ctx context.Context, address string) bool {
	c, err := (&net.Dialer{Timeout: time.Second}).DialContext(ctx, "tcp", address)
	if err != nil {
		return false
	}
	return c.Close() == nil
}

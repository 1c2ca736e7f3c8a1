package mailhost

import (
	"context"
	"net"
)

// Listen listens inside the host's network, for a server that runs in the test's process. The address must have a number for its host.
func (h *Host) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	leave, err := h.enterNetwork()
	if err != nil {
		return nil, err
	}
	defer leave()
	return new(net.ListenConfig).Listen(ctx, network, address)
}

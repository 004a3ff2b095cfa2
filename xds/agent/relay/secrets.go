package relay

import (
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Secrets answers a stream of Envoy's for secrets that the agent has itself, until it ends: requests is closed then.
type Secrets func(requests <-chan *discoveryv3.DeltaDiscoveryRequest, send func(*discoveryv3.DeltaDiscoveryResponse) error) error

// secrets serves such a stream. Nothing of it goes to the control plane or into the memory.
func (r *Relay) secrets(down grpc.ServerStream) error {
	if r.opts.Secrets == nil {
		return status.Error(codes.Unimplemented, "this agent has no certificate of the workload: it proves itself by none of the kinds for which there are any (--token-file)")
	}
	ctx := down.Context()
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			var m message
			request := &discoveryv3.DeltaDiscoveryRequest{}
			if down.RecvMsg(&m) != nil || m.decode(request) != nil {
				return
			}
			select {
			case requests <- request:
			case <-ctx.Done():
				return
			}
		}
	}()
	return r.opts.Secrets(requests, func(answer *discoveryv3.DeltaDiscoveryResponse) error {
		m, err := encode(answer)
		if err != nil {
			return err
		}
		return down.SendMsg(m)
	})
}

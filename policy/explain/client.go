package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy"
)

// unknownPeer stands for an address that was not stated: one that RFC 5737
// keeps for examples.
func unknownPeer() netip.Addr { return netip.AddrFrom4([4]byte{192, 0, 2, 1}) }

// client decides which claims of a request about its way are trusted, and
// computes the headers that rules and backends see. It removes the claims that
// clients may not make, so that no rule can be reached with a forged header.
func (e *evaluation) client(s *policy.GatewaySettings, req *GatewayRequest) {
	peer := req.Client
	if !peer.IsValid() {
		peer = unknownPeer()
	}
	peer = peer.Unmap()
	hops := s.TrustedHops()
	claimed, proto := e.req.header("x-forwarded-for"), e.req.header("x-forwarded-proto")
	out := &Client{Peer: peer.String(), TrustedHops: hops, Address: peer.String(), ForwardedFor: peer.String(), ForwardedProto: schemeOf(e.secure)}
	tlsBefore := ""
	if ports := s.TLSPorts(); !e.secure && len(ports) > 0 {
		called := cmp.Or(req.CalledPort, req.Port)
		tlsBefore = fmt.Sprintf("; the PROXY protocol says that the client called port %d, at which the NLB ends no TLS (--called-port %d asks as one that it ends TLS for)", called, ports[0])
		if slices.Contains(ports, uint32(called)) {
			out.ForwardedProto = schemeOf(true)
			tlsBefore = fmt.Sprintf("; the PROXY protocol says that the client called port %d, at which the NLB has ended TLS", called)
		}
	}
	switch {
	case hops == 0 && claimed != "":
		out.Because = "nothing stands in front that adds to X-Forwarded-For (GatewayPolicy spec.inFront), so what the request says of it is dropped"
	case hops == 0:
		out.Because = "nothing stands in front that adds to X-Forwarded-For (GatewayPolicy spec.inFront)"
	default:
		var entries []string
		for entry := range strings.SplitSeq(claimed, ",") {
			if entry = strings.TrimSpace(entry); entry != "" {
				entries = append(entries, entry)
			}
		}
		out.Because = fmt.Sprintf("X-Forwarded-For has fewer than %d entries, so the request went round what stands in front", hops)
		if n := len(entries) - int(hops); n >= 0 {
			out.Because = fmt.Sprintf("entry %d from the right of X-Forwarded-For was written by the first of %d hops", hops, hops)
			if a, err := netip.ParseAddr(entries[n]); err == nil {
				out.Address = a.Unmap().String()
			} else {
				out.Because = fmt.Sprintf("entry %d from the right of X-Forwarded-For is no address", hops)
			}
		}
		if claimed != "" {
			out.ForwardedFor = claimed + "," + peer.String()
		}
		if proto != "" {
			out.ForwardedProto = proto
		}
	}
	if hops == 0 || proto == "" {
		out.Because += tlsBefore
	}
	e.out.Gateway.Client = out
	var kept []Header
	for _, h := range e.req.Headers {
		if !internal(h.Name, s) {
			kept = append(kept, h)
		}
	}
	kept = append(kept, Header{"x-forwarded-for", out.ForwardedFor}, Header{"x-forwarded-proto", out.ForwardedProto})
	e.req.Headers = kept
}

// internal reports whether clients of a Gateway may not say a header, or not
// all of it.
func internal(name string, s *policy.GatewaySettings) bool {
	switch name = strings.ToLower(name); {
	case name == "x-forwarded-for" || name == "x-forwarded-proto":
		return true // written anew
	case name == requestID:
		return s.TrustedHops() == 0
	case slices.Contains(s.ForgedHeaders(), name):
		return true
	}
	return strings.HasPrefix(name, "x-envoy-")
}

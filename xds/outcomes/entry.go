package outcomes

import (
	"net/netip"
	"strconv"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/outcome"
)

// result is how one request or connection ended.
type result struct {
	failed    bool
	cause     outcome.Cause
	abandoned bool
	// ignored entries say nothing about a backing.
	ignored bool
	// cut is true for an answer that began well and was ended by the time limit of its stream. timeout.streamAge
	// ends it as intended; the time limit of an attempt ends an answer that takes too long.
	cut bool
}

func failure(c outcome.Cause) result { return result{failed: true, cause: c} }

// httpResult returns how a request ended. Flags come before the status: an
// answer that began with 200 and broke off is none.
func httpResult(e *accesslogv3.HTTPAccessLogEntry) result {
	f := e.GetCommonProperties().GetResponseFlags()
	if f.GetFaultInjected() {
		// A policy asked for this failure; no backing had a part in it.
		return result{ignored: true}
	}
	if f.GetDownstreamConnectionTermination() || f.GetDownstreamRemoteReset() || f.GetDownstreamProtocolError() {
		return result{abandoned: true}
	}
	r := e.GetResponse()
	if code := r.GetResponseCode().GetValue(); f.GetUpstreamMaxStreamDurationReached() && code > 0 && code < 400 {
		return result{cut: true}
	}
	if c, ok := flagged(f); ok {
		return failure(c)
	}
	if r.GetResponseCodeDetails() == tookTooLong {
		return failure(outcome.Timeout)
	}
	switch code := r.GetResponseCode().GetValue(); {
	case code == 0:
		// The answer never began, and no flag says why.
		return failure(outcome.Other)
	case code >= 500 && r.GetResponseCodeDetails() == viaUpstream:
		return failure(outcome.ServerError)
	case code >= 500:
		return failure(outcome.Other)
	}
	if s, ok := grpcStatus(r); ok {
		return grpcResult(s)
	}
	return result{}
}

// viaUpstream is what Envoy says of answers that are the application's own
// (Envoy: response code details).
const viaUpstream = "via_upstream"

// tookTooLong is what Envoy says of requests that took longer than their route
// allows, for which it sets no flag.
const tookTooLong = "max_duration_timeout"

// flagged returns why a request failed according to its flags, false if no flag
// says that it did. For a request that ran out of attempts it is the cause of
// the last one.
func flagged(f *accesslogv3.ResponseFlags) (outcome.Cause, bool) {
	switch {
	case f.GetUpstreamOverflow(), f.GetOverloadManager():
		return outcome.Overflow, true
	case f.GetNoHealthyUpstream(), f.GetNoClusterFound(), f.GetNoFilterConfigFound():
		return outcome.NoHost, true
	case f.GetUpstreamRequestTimeout(), f.GetStreamIdleTimeout(), f.GetDurationTimeout(), f.GetUpstreamMaxStreamDurationReached():
		return outcome.Timeout, true
	case f.GetUpstreamConnectionFailure(), f.GetDnsResolutionFailure():
		return outcome.ConnectFailure, true
	case f.GetUpstreamConnectionTermination(), f.GetUpstreamRemoteReset(), f.GetUpstreamProtocolError(), f.GetLocalReset():
		return outcome.Reset, true
	}
	return 0, false
}

// The gRPC codes of failures of the server, not of its caller (gRPC: status
// codes).
const (
	grpcUnknown          = 2
	grpcDeadlineExceeded = 4
	grpcInternal         = 13
	grpcUnavailable      = 14
	grpcDataLoss         = 15
)

func grpcResult(status int) result {
	switch status {
	case grpcDeadlineExceeded:
		return failure(outcome.Timeout)
	case grpcUnknown, grpcInternal, grpcUnavailable, grpcDataLoss:
		return failure(outcome.ServerError)
	}
	return result{}
}

// statusField is where a gRPC answer says how it ended.
const statusField = "grpc-status"

// grpcStatus returns the status of a gRPC answer, false of any other answer.
func grpcStatus(r *accesslogv3.HTTPResponseProperties) (int, bool) {
	text, ok := r.GetResponseTrailers()[statusField]
	if !ok {
		text, ok = r.GetResponseHeaders()[statusField]
	}
	if !ok {
		return 0, false
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		// Callers take a status that is no number for UNKNOWN.
		return grpcUnknown, true
	}
	return n, true
}

// ended reports whether an entry about a request was written at its end. Older
// proxies write no other.
func ended(t accesslogv3.AccessLogType) bool {
	return t == accesslogv3.AccessLogType_DownstreamEnd || t == accesslogv3.AccessLogType_NotSet
}

// tcpResult returns whether a connection was made. What happens after that is a
// matter of the caller and the server.
func tcpResult(e *accesslogv3.TCPAccessLogEntry) result {
	if c, ok := flagged(e.GetCommonProperties().GetResponseFlags()); ok {
		return failure(c)
	}
	return result{}
}

// latency returns the time from a request's first byte to its answer's last one
// in microseconds.
func latency(c *accesslogv3.AccessLogCommon) (uint64, bool) {
	for _, d := range []*durationpb.Duration{c.GetTimeToLastDownstreamTxByte(), c.GetDuration()} {
		if d.IsValid() && d.AsDuration() >= 0 {
			return uint64(d.AsDuration() / time.Microsecond), true
		}
	}
	return 0, false
}

// Tags of entries (package compile).
const (
	clusterTag = "cluster"
	portTag    = "port"
)

// targetOf returns the backing that an entry is about, false if it says nothing
// about a backing.
func targetOf(c *accesslogv3.AccessLogCommon) (target, bool) {
	name := c.GetCustomTags()[clusterTag]
	if name == "" || name == absent {
		name = c.GetUpstreamCluster()
	}
	return parseCluster(name)
}

// clusterless returns the Service of a request that found no cluster, false for
// any other request. Its backing is not known. A 500 is the part of a rule that
// falls to an invalid backend, and is meant to fail; so is a gRPC error, which has
// a 503 for the same.
func clusterless(e *accesslogv3.HTTPAccessLogEntry) (target, bool) {
	c := e.GetCommonProperties()
	if !c.GetResponseFlags().GetNoClusterFound() || e.GetResponse().GetResponseCode().GetValue() != 503 {
		return target{}, false
	}
	if _, isGRPC := grpcStatus(e.GetResponse()); isGRPC {
		return target{}, false
	}
	return parseCluster(naming.SharedOf(c.GetCustomTags()[portTag]))
}

// failedOver reports whether a request that was meant for a backing was answered by the other one.
func failedOver(meant target, c *accesslogv3.AccessLogCommon, v result) bool {
	if v.failed && (v.cause == outcome.ConnectFailure || v.cause == outcome.NoHost || v.cause == outcome.Overflow) {
		return false
	}
	by, ok := parseCluster(c.GetUpstreamCluster())
	return ok && by.chosen && by.Platform != meant.Platform
}

// absent is what Envoy writes for what there is not.
const absent = "-"

// target is what a cluster's name says: whose requests it takes.
type target struct {
	outcome.Key
	// chosen is false for a TCP port's cluster, which both backings share: its
	// endpoint says whose a connection was.
	chosen bool
	// mirrored is true for the cluster of copies of requests.
	mirrored bool
}

// parseCluster reads the name of a cluster, false for one that is not a backing's.
func parseCluster(name string) (target, bool) {
	b, ok := naming.ParseCluster(name)
	if !ok {
		return target{}, false
	}
	return target{Key: outcome.Key{Service: b.Service, Port: b.Port, Platform: b.Platform}, chosen: !b.Shared, mirrored: b.Mirrored}, true
}

// copied reports whether a route by its name mirrors a part of its requests.
func copied(route string) bool {
	_, v := naming.CutVariant(route)
	return v.Shadow
}

// addressOf returns the address of an endpoint, false if there is none.
func addressOf(a *corev3.Address) (netip.AddrPort, bool) {
	s := a.GetSocketAddress()
	if s == nil || s.GetPortValue() == 0 || s.GetPortValue() > 65535 {
		return netip.AddrPort{}, false
	}
	ip, err := netip.ParseAddr(s.GetAddress())
	if err != nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(s.GetPortValue())), true
}

package server

import (
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
)

// Outcomes takes the proxies' reports of the requests that they sent. Many streams call
// its methods at a time; a proxy has several: one for load reports, and one for each log
// and worker thread. The methods may keep their arguments but not change them.
type Outcomes interface {
	// Connected is called before a node's first report on a stream, and the
	// function that it returns when the stream has ended.
	Connected(node string) (disconnected func())
	// LogHTTP takes entries of an access log of requests, LogTCP of connections.
	// The log's name is the one that its listener gives it.
	LogHTTP(node, log string, entries []*accesslogv3.HTTPAccessLogEntry)
	LogTCP(node, log string, entries []*accesslogv3.TCPAccessLogEntry)
	// Load takes what a node sent to clusters since its last report, about interval ago.
	Load(node string, interval time.Duration, clusters []*endpointv3.ClusterStats)
}

// connected tells Outcomes, if there are any, of a stream.
func (o *Options) connected(node string) (disconnected func()) {
	if o.Outcomes == nil {
		return func() {}
	}
	return o.Outcomes.Connected(node)
}

package server

import (
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/mem"
	"google.golang.org/grpc/status"
)

// maxLogMessage is the largest message of access log entries. Proxies send what
// they have once it is 64 KiB, and an entry ends with the headers of its
// request, of which Envoy takes no more than 60 KiB by default.
const maxLogMessage = 1 << 20

// maxLogName is the longest name of a log.
const maxLogName = 128

// als implements the access log service: how the requests that proxies sent ended.
type als struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	server *Server
}

// StreamAccessLogs passes on the entries that a proxy sends. Proxies wait for no answer.
func (a als) StreamAccessLogs(g accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	message, err := g.Recv()
	if err != nil {
		return ended(err)
	}
	o := &a.server.opts
	// The first message names the proxy and the log for all entries of the
	// stream.
	from, err := a.server.reports(g.Context(), message.GetIdentifier().GetNode())
	if err != nil {
		return err
	}
	defer from.leave()
	node := from.node
	log := message.GetIdentifier().GetLogName()
	if len(log) > maxLogName {
		return status.Errorf(codes.InvalidArgument, "node %s: the name of the access log has more than %d bytes", node.ID, maxLogName)
	}
	defer o.connected(node.ID)()
	for {
		http, tcp := message.GetHttpLogs().GetLogEntry(), message.GetTcpLogs().GetLogEntry()
		o.Metrics.logEntries.WithLabelValues("http").Add(float64(len(http)))
		o.Metrics.logEntries.WithLabelValues("tcp").Add(float64(len(tcp)))
		if o.Outcomes != nil {
			if http = known(from, http); len(http) > 0 {
				o.Outcomes.LogHTTP(node.ID, log, http)
			}
			if tcp = known(from, tcp); len(tcp) > 0 {
				o.Outcomes.LogTCP(node.ID, log, tcp)
			}
		}
		if message, err = g.Recv(); err != nil {
			return ended(err)
		}
		if err := from.readmit(g.Context()); err != nil {
			return err
		}
	}
}

// checkLogMessage refuses a message of entries that no proxy of ours would send;
// gRPC ends its stream (code Internal).
func checkLogMessage(data mem.BufferSlice) error {
	if n := data.Len(); n > maxLogMessage {
		return fmt.Errorf("xds: a message of access log entries has %d bytes, more than %d", n, maxLogMessage)
	}
	return nil
}

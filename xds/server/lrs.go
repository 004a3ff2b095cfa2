package server

import (
	"time"

	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"
)

// lrsInterval is how often proxies report their load.
const lrsInterval = 10 * time.Second

// lrs implements the load reporting service: what every proxy sent to every
// cluster, and how it went.
type lrs struct {
	lrsv3.UnimplementedLoadReportingServiceServer
	server *Server
}

// StreamLoadStats asks for the load of all clusters and counts what is reported.
func (l lrs) StreamLoadStats(g lrsv3.LoadReportingService_StreamLoadStatsServer) error {
	first, err := g.Recv()
	if err != nil {
		return ended(err)
	}
	o := &l.server.opts
	if first.GetNode() == nil {
		return status.Error(codes.InvalidArgument, "the first load report on a stream must carry a node")
	}
	node, err := o.Identify(first.GetNode())
	if err != nil {
		return status.Errorf(codes.InvalidArgument, "node: %v", err)
	}
	if o.Authorize != nil {
		if err := o.Authorize(g.Context(), &node); err != nil {
			return status.Errorf(codes.PermissionDenied, "node %s: %v", node.ID, err)
		}
	}
	if err := g.Send(&lrsv3.LoadStatsResponse{
		SendAllClusters: true, LoadReportingInterval: durationpb.New(lrsInterval),
	}); err != nil {
		return ended(err)
	}
	for {
		report, err := g.Recv()
		if err != nil {
			return ended(err)
		}
		o.Metrics.loadReports.Inc()
		for _, c := range report.GetClusterStats() {
			for _, zone := range c.GetUpstreamLocalityStats() {
				o.Metrics.loadRequests.WithLabelValues("success").Add(float64(zone.GetTotalSuccessfulRequests()))
				o.Metrics.loadRequests.WithLabelValues("error").Add(float64(zone.GetTotalErrorRequests()))
			}
			o.Metrics.loadRequests.WithLabelValues("dropped").Add(float64(c.GetTotalDroppedRequests()))
		}
	}
}

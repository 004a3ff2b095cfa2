package server

import (
	"slices"
	"time"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	lrsv3 "github.com/envoyproxy/go-control-plane/envoy/service/load_stats/v3"
	"google.golang.org/protobuf/types/known/durationpb"
)

// defaultLoadInterval is how often proxies report their load if Options do not say.
const defaultLoadInterval = 10 * time.Second

// lrs implements the load reporting service: what every proxy sent to every
// cluster, and how it went.
type lrs struct {
	lrsv3.UnimplementedLoadReportingServiceServer
	server *Server
}

// StreamLoadStats asks for the load of all clusters and passes on what is reported.
func (l lrs) StreamLoadStats(g lrsv3.LoadReportingService_StreamLoadStatsServer) error {
	first, err := g.Recv()
	if err != nil {
		return ended(err)
	}
	o := &l.server.opts
	from, err := l.server.reports(g.Context(), first.GetNode())
	if err != nil {
		return err
	}
	defer from.leave()
	node := from.node
	interval := o.LoadInterval
	if interval <= 0 {
		interval = defaultLoadInterval
	}
	if err := g.Send(&lrsv3.LoadStatsResponse{
		SendAllClusters: true, LoadReportingInterval: durationpb.New(interval),
	}); err != nil {
		return ended(err)
	}
	defer o.connected(node.ID)()
	for {
		report, err := g.Recv()
		if err != nil {
			return ended(err)
		}
		if err := from.readmit(g.Context()); err != nil {
			return err
		}
		o.Metrics.loadReports.Inc()
		for _, c := range report.GetClusterStats() {
			for _, zone := range c.GetUpstreamLocalityStats() {
				o.Metrics.loadRequests.WithLabelValues("success").Add(float64(zone.GetTotalSuccessfulRequests()))
				o.Metrics.loadRequests.WithLabelValues("error").Add(float64(zone.GetTotalErrorRequests()))
			}
			o.Metrics.loadRequests.WithLabelValues("dropped").Add(float64(c.GetTotalDroppedRequests()))
		}
		if o.Outcomes != nil {
			o.Outcomes.Load(node.ID, interval, slices.DeleteFunc(report.GetClusterStats(), func(c *endpointv3.ClusterStats) bool {
				return !from.sent(c.GetClusterName())
			}))
		}
	}
}

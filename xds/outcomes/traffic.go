package outcomes

import (
	"strings"

	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/naming"
)

// maxTraffic is of how many backings of Services requests are counted, whatever proxies say: ten thousand Services
// with two each.
const maxTraffic = 20_000

// backingKey is a Service's backing, all of its ports together.
type backingKey struct {
	service discovery.Key
	backing discovery.BackingName
}

// traffic is what proxies have sent to a backing since this replica started, by their load reports. An attempt that
// is made again counts again. Of TCP, issued are connections, and how they ended is in no load report.
type traffic struct{ issued, success, failed uint64 }

func (t *traffic) add(issued, success, failed uint64) {
	t.issued += issued
	t.success += success
	t.failed += failed
}

// sent counts the requests of a cluster, in shifts and outside of them, and by their caller where that is known. Copies of
// requests are none.
func (b *batch) sent(c *endpointv3.ClusterStats, from caller, known bool) {
	t, ok := parseCluster(c.GetClusterName())
	if !ok {
		// The cluster of an InstanceGroup has the name of its backing's and one part more.
		if i := strings.LastIndexByte(c.GetClusterName(), '/'); i > 0 {
			t, ok = parseCluster(c.GetClusterName()[:i])
			ok = ok && t.chosen && t.Platform == discovery.Instances
		}
	}
	if !ok || t.mirrored || naming.FailsOver(c.GetClusterName()) {
		return
	}
	for _, zone := range c.GetUpstreamLocalityStats() {
		key := backingKey{t.Service, t.Platform}
		if !t.chosen { // each locality of the cluster is of one backing
			key.backing = discovery.BackingName(zone.GetLocality().GetSubZone())
		}
		if _, named := discovery.ParseBacking(key.backing.String()); !named {
			continue // proxies must not make up series
		}
		of := b.traffic[key]
		if of == nil {
			if len(b.traffic) >= maxTraffic {
				continue
			}
			of = &traffic{}
			b.traffic[key] = of
		}
		issued, success, failed := zone.GetTotalIssuedRequests(), zone.GetTotalSuccessfulRequests(), zone.GetTotalErrorRequests()
		of.add(issued, success, failed)
		if known && issued+success+failed > 0 {
			b.calls.add(from, key, issued, success, failed)
		}
	}
}

// Metrics of what load reports say of each Service.
var (
	sentDesc = prometheus.NewDesc("causeway_service_sent_total",
		"Requests, or TCP connections, that proxies have sent to a Service's backing, by their load reports to this replica.",
		[]string{"namespace", "service", "backing"}, nil)
	requestsDesc = prometheus.NewDesc("causeway_service_requests_total",
		"Requests to a Service's backing that ended, by result (success, error), by the proxies' load reports to this replica.",
		[]string{"namespace", "service", "backing", "result"}, nil)
)

// Describe implements prometheus.Collector.
func (r *Recorder) Describe(ch chan<- *prometheus.Desc) {
	ch <- sentDesc
	ch <- requestsDesc
}

// Collect implements prometheus.Collector. What was counted of a Service goes with the Service.
func (r *Recorder) Collect(ch chan<- prometheus.Metric) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for key, of := range r.traffic {
		if !r.opts.Exists(key.service) {
			delete(r.traffic, key)
			continue
		}
		counter := func(d *prometheus.Desc, n uint64, labels ...string) {
			ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(n),
				append([]string{key.service.Namespace, key.service.Name, key.backing.String()}, labels...)...)
		}
		counter(sentDesc, of.issued)
		if of.success > 0 || of.failed > 0 { // TCP has neither
			counter(requestsDesc, of.success, "success")
			counter(requestsDesc, of.failed, "error")
		}
	}
}

package status

import (
	"runtime"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/policy/upstream"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// collector turns the catalog's state into metrics on each scrape.
type collector struct {
	catalog *catalog.Catalog
	store   *snapshot.Store
	xds     *server.Server

	version string

	lastSync, failing, resources, bytes, guard, instances, failedOver, proxiesBehind, refused *prometheus.Desc
	build, services, home, share                                                              *prometheus.Desc
}

// maxTold is of how many Services home and shares are told. A Service has four series: two backings of both.
const maxTold = 10_000

// NewCollector returns the metrics of what a control plane of a version has in its catalog, its snapshot and its server.
func NewCollector(version string, cat *catalog.Catalog, store *snapshot.Store, xds *server.Server) prometheus.Collector {
	return &collector{
		catalog: cat, store: store, xds: xds, version: version,
		build:         prometheus.NewDesc("causeway_build_info", "1, by the control plane's version and that of Go.", []string{"version", "goversion"}, nil),
		services:      prometheus.NewDesc("causeway_services", "Services of the mesh.", nil, nil),
		home:          prometheus.NewDesc("causeway_service_home", "1 for the backing that is a Service's home, 0 for others; none while the home is not known.", []string{"namespace", "service", "backing"}, nil),
		share:         prometheus.NewDesc("causeway_service_share_ratio", "Part of a Service's traffic that a backing is to have, 0 to 1; none while it is not known.", []string{"namespace", "service", "backing"}, nil),
		lastSync:      prometheus.NewDesc("causeway_source_last_sync_timestamp_seconds", "When a source last read everything, in Unix time.", []string{"source"}, nil),
		failing:       prometheus.NewDesc("causeway_source_failing", "1 while a source's newest attempt to read has failed.", []string{"source"}, nil),
		resources:     prometheus.NewDesc("causeway_xds_resources", "Resources in the snapshot.", []string{"type"}, nil),
		bytes:         prometheus.NewDesc("causeway_xds_resource_bytes", "Bytes of the resources in the snapshot, all zones' variants together.", []string{"type"}, nil),
		guard:         prometheus.NewDesc("causeway_guard_held_instances", "Instances that the never-empty guard holds back from removal.", []string{"group"}, nil),
		instances:     prometheus.NewDesc("causeway_group_instances", "Instances of a group by state (desired, ready, draining, spot).", []string{"group", "state"}, nil),
		failedOver:    prometheus.NewDesc("causeway_failed_over_ports", "Ports of a Service whose home has no usable endpoint, so that the other backing answers.", []string{"service"}, nil),
		refused:       prometheus.NewDesc("causeway_xds_rejected_resources", "Resources that a proxy refused and that are not mended since, by whether the last good content is pinned in their place.", []string{"pinned"}, nil),
		proxiesBehind: prometheus.NewDesc("causeway_xds_proxies_behind", "Connected proxies that have not acknowledged everything, by cause (pending, rejected, stalled).", []string{"cause"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.lastSync, c.failing, c.resources, c.bytes, c.guard, c.instances, c.failedOver, c.proxiesBehind, c.refused, c.build, c.services, c.home, c.share} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	r := c.catalog.Read()
	for st := range catalog.Sources.All(r) {
		if !st.LastSync.IsZero() {
			gauge(c.lastSync, float64(st.LastSync.UnixMilli())/1000, st.Name)
		}
		failing := 0.0
		if st.Error != "" {
			failing = 1
		}
		gauge(c.failing, failing, st.Name)
	}
	gauge(c.build, 1, c.version, runtime.Version())
	c.divisions(r, gauge)
	told := make(map[discovery.Key]bool)
	for g := range catalog.InstanceGroups.All(r) {
		key := discovery.Key{Namespace: g.Namespace, Name: g.Object.Spec.ServiceRef.Name}
		if !told[key] {
			told[key] = true
			gauge(c.failedOver, float64(resolve.FailedOver(r, key)), key.String())
		}
	}
	for st := range catalog.GroupStatuses.All(r) {
		group := st.Key.String()
		gauge(c.guard, float64(st.GuardHeld), group)
		gauge(c.instances, float64(st.Counts.Desired), group, "desired")
		gauge(c.instances, float64(st.Counts.Ready), group, "ready")
		gauge(c.instances, float64(st.Counts.Draining), group, "draining")
		gauge(c.instances, float64(st.Counts.Spot), group, "spot")
	}
	count, bytes := c.store.Totals()
	for t := range count {
		gauge(c.resources, float64(count[t]), resource.Type(t).String())
		gauge(c.bytes, float64(bytes[t]), resource.Type(t).String())
	}
	refused := map[bool]float64{true: 0, false: 0}
	for _, r := range c.store.Rejections() {
		refused[r.Pinned]++
	}
	for pinned, n := range refused {
		gauge(c.refused, n, strconv.FormatBool(pinned))
	}
	var pending, rejected, stalled float64
	for _, p := range c.xds.Proxies() {
		switch ProxyState(&p) {
		case "in sync":
		case "rejected":
			rejected++
		default:
			if p.StalledSince.IsZero() {
				pending++
			} else {
				stalled++
			}
		}
	}
	gauge(c.proxiesBehind, pending, "pending")
	gauge(c.proxiesBehind, rejected, "rejected")
	gauge(c.proxiesBehind, stalled, "stalled")
}

// divisions tells how the traffic of each Service is divided between its backings.
func (c *collector) divisions(r catalog.Reader, gauge func(*prometheus.Desc, float64, ...string)) {
	n := 0
	for svc := range catalog.Services.All(r) {
		if n++; n > maxTold {
			continue
		}
		d := upstream.DivisionOf(r, svc)
		if d.Unknown != "" {
			continue
		}
		for _, b := range discovery.Backings() {
			home := 0.0
			if b == d.Home {
				home = 1
			}
			gauge(c.home, home, svc.Key.Namespace, svc.Key.Name, b.String())
			gauge(c.share, float64(d.ShareOf(b))/policy.ShareTotal, svc.Key.Namespace, svc.Key.Name, b.String())
		}
	}
	gauge(c.services, float64(n))
}

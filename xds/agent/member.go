package agent

import (
	"context"
	"errors"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/agent/dns"
	"github.com/causeway-mesh/causeway/xds/agent/health"
	"github.com/causeway-mesh/causeway/xds/agent/membership"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/members/membersv1"
)

// resolvConf has the resolvers that the host had before the agent.
const resolvConf = "/etc/resolv.conf"

// newMember sets up what the agent tells the control plane and is told by it. The names of an earlier run are there at once.
func (a *Agent) newMember() error {
	o := &a.opts
	capture := o.Bootstrap.Capture()
	if len(o.DNS.Listen) > 0 && !capture.Host && !capture.Pod {
		return errors.New("--dns-listen: without --captured-listen the addresses of Services lead nowhere on this host: " +
			"declare where connections are redirected to, for example 127.0.0.1:15002=240.0.0.0/4, or leave names to http_proxy")
	}
	hello := &membersv1.Hello{
		Node:   naming.Node(string(o.Bootstrap.Role), o.Bootstrap.Namespace, o.Bootstrap.Workload, o.Bootstrap.Instance),
		Region: o.Bootstrap.Region, Zone: o.Bootstrap.Zone, NodeName: o.Bootstrap.NodeName, AgentVersion: o.Version, Capture: membersv1.Capture_CAPTURE_EXPLICIT,
	}
	switch {
	case capture.Host:
		hello.Capture = membersv1.Capture_CAPTURE_HOST
	case capture.Pod:
		hello.Capture = membersv1.Capture_CAPTURE_POD
	}
	if len(o.DNS.Listen) > 0 {
		hello.Features = append(hello.Features, "dns")
		o.DNS.Namespace, o.DNS.ResolvConf, o.DNS.Logger = o.Bootstrap.Namespace, resolvConf, o.Logger
	}
	if o.ApplicationHealth != "" {
		var err error
		if a.health, err = health.New(o.ApplicationHealth, func() { a.member.Wake() }); err != nil {
			return err //nolint:wrapcheck // it names the flag
		}
		hello.Features = append(hello.Features, "application-health")
	}
	a.member = membership.New(membership.Options{
		Conn: a.relay.Conn(), Hello: hello, Report: a.report, File: filepath.Join(a.dir, namesFile), Logger: o.Logger,
		Names: func(services []*membersv1.Service) { a.named(tableOf(services, capture)) },
	})
	return nil
}

// named takes over the names of the mesh.
func (a *Agent) named(t *dns.Table) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.table = t
	if a.dns != nil {
		a.dns.Set(t)
	}
}

// listenDNS opens the address of the agent's DNS, if it has one.
func (a *Agent) listenDNS(ctx context.Context) error {
	if len(a.opts.DNS.Listen) == 0 {
		return nil
	}
	server, err := dns.Listen(ctx, a.opts.DNS)
	if err != nil {
		return err //nolint:wrapcheck // it names the flag
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.dns = server
	server.Set(a.table)
	return nil
}

// tableOf returns the names with the addresses that callers reach Services at: virtual ones where the host redirects connections to them, of those families
// that it does so for, and else cluster IPs, which a pod's connections have too.
func tableOf(services []*membersv1.Service, c bootstrap.Capture) *dns.Table {
	out := make([]dns.Service, 0, len(services))
	for _, s := range services {
		d := dns.Service{Namespace: s.GetNamespace(), Name: s.GetName(), ExternalName: s.GetExternalName()}
		addresses := s.GetVirtualAddresses()
		if !c.Host {
			addresses = s.GetClusterIps()
		}
		for _, text := range addresses {
			if ip, err := netip.ParseAddr(text); err == nil && (!c.Host || ip.Is4() && c.IPv4 || ip.Is6() && c.IPv6) {
				d.Addresses = append(d.Addresses, ip.Unmap())
			}
		}
		for _, h := range s.GetHosts() {
			for _, text := range h.GetAddresses() {
				if ip, err := netip.ParseAddr(text); err == nil {
					if d.Hosts == nil {
						d.Hosts = make(map[string][]netip.Addr)
					}
					name := strings.ToLower(h.GetName())
					d.Hosts[name] = append(d.Hosts[name], ip.Unmap())
				}
			}
		}
		for _, p := range s.GetPorts() {
			if n := p.GetNumber(); n > 0 && n < 1<<16 {
				d.Ports = append(d.Ports, dns.Port{Name: p.GetName(), Number: uint16(n)})
			}
		}
		out = append(out, d)
	}
	return dns.NewTable(out)
}

// report says how the agent is.
func (a *Agent) report(ctx context.Context) *membersv1.Report {
	s := a.Status(ctx)
	r := &membersv1.Report{
		Ready: s.Ready, Why: brief(s.Why), Draining: s.Draining, LastError: brief(s.LastEnd), Restarts: uint32(max(s.Restarts, 0)), //nolint:gosec // a count
		EnvoyVersion: a.relay.EnvoyVersion(), LastKnownGood: s.Configuration.LastGood,
	}
	switch {
	case s.Leave != nil:
		r.DrainReason, r.DrainUntil = brief(s.Leave.Reason+": "+s.Leave.Text), s.Leave.Until.Unix()
	case s.Draining:
		r.DrainReason = naming.Ending + ": the agent ends"
	}
	if s.EC2 != nil {
		for _, n := range s.EC2.Notices[:min(len(s.EC2.Notices), maxNotices)] {
			if !n.Drains || s.Leave == nil { // a Gateway does not drain for it
				r.Notices = append(r.Notices, brief(n.Reason+": "+n.Text))
			}
		}
	}
	if h := s.Application; h != nil {
		r.Application, r.ApplicationReason = membersv1.Health_HEALTH_UNKNOWN, brief(h.Reason)
		switch {
		case h.Known && h.Healthy:
			r.Application = membersv1.Health_HEALTH_HEALTHY
		case h.Known:
			r.Application = membersv1.Health_HEALTH_UNHEALTHY
		}
	}
	return r
}

// maxNotices is how many notices the control plane is told.
const maxNotices = 10

// maxSaid is how many bytes of a text the control plane is told.
const maxSaid = 1000

// brief bounds a text to what a message may have.
func brief(s string) string { return strings.ToValidUTF8(s[:min(len(s), maxSaid)], "") }

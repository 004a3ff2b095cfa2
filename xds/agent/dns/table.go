// Package dns answers the names of the mesh's Services on a host, and passes all other questions
// on to the host's own resolvers as they came.
package dns

import (
	"net/netip"
	"strings"
)

// Zone is the suffix that is the mesh's own. Kubernetes' DNS has it too.
const Zone = "svc.cluster.local."

// Service is a name.
type Service struct {
	Namespace, Name string
	// Addresses that callers on this host reach it at.
	Addresses []netip.Addr
	Ports     []Port
	// Hosts are its pods that have names of their own, by the first label of these.
	Hosts map[string][]netip.Addr
	// ExternalName is the name that it stands for, "" for none.
	ExternalName string
}

// Port is a named port of a Service.
type Port struct {
	Name   string
	Number uint16
}

// Table has the names of the mesh. It is immutable.
type Table struct {
	services   map[string]*Service // by "name.namespace"
	namespaces map[string]bool
}

// NewTable returns a table of Services. Names are lower case, as Kubernetes has them.
func NewTable(services []Service) *Table {
	t := &Table{services: make(map[string]*Service, len(services)), namespaces: make(map[string]bool)}
	for i := range services {
		s := &services[i]
		t.services[s.Name+"."+s.Namespace] = s
		t.namespaces[s.Namespace] = true
	}
	return t
}

// match is what a name of a question means to the mesh.
type match struct {
	// zone is where the mesh's authority for the name begins, "" for a name that is none of the mesh's.
	zone string
	// service is nil for a name that is no Service's.
	service *Service
	// port and protocol are of a name such as _http._tcp.users.web.svc.cluster.local., without
	// underscores; port is "" for one that lacks it.
	port, protocol string
	// exists is true for names that others lie below, such as a namespace's.
	exists bool
}

// find looks up a name in lower case that ends with a dot.
//
// Below the zone every name is the mesh's. A short name (users, users.web, users.web.svc) is so only while there is such a Service or pod: a
// host without a search path sends it as it is written, and everything else that has no more dots is somebody else's.
func (t *Table) find(name, namespace string) match {
	if name == Zone {
		return match{zone: Zone, exists: true}
	}
	labels, full := strings.CutSuffix(name, "."+Zone)
	if !full {
		return t.findShort(name, namespace)
	}
	parts := strings.Split(labels, ".")
	n := len(parts)
	m := match{zone: Zone, exists: n == 1 && t.namespaces[parts[0]]}
	if n < 2 || n > 4 {
		return m
	}
	s := t.services[parts[n-2]+"."+parts[n-1]]
	if s == nil {
		return m
	}
	switch n {
	case 2:
		m.service = s
	case 3, 4:
		if pod := s.host(parts[0]); n == 3 && pod != nil {
			m.service = pod
			return m
		}
		protocol, ok := strings.CutPrefix(parts[n-3], "_")
		if !ok || protocol != "tcp" {
			return m
		}
		m.exists = len(s.Ports) > 0
		if n == 4 {
			port, ok := strings.CutPrefix(parts[0], "_")
			if m.exists = false; !ok || !s.has(port) {
				return m
			}
			m.port = port
		}
		if n == 3 {
			return m
		}
		m.service, m.protocol = s, protocol
	}
	return m
}

func (t *Table) findShort(name, namespace string) match {
	parts := strings.Split(strings.TrimSuffix(name, "."), ".")
	if n := len(parts); n > 2 && parts[n-1] == "svc" {
		parts = parts[:n-1]
	}
	var s *Service
	switch len(parts) {
	case 1:
		s = t.services[parts[0]+"."+namespace]
	case 2:
		if s = t.services[parts[0]+"."+parts[1]]; s == nil {
			s = t.services[parts[1]+"."+namespace].host(parts[0])
		}
	case 3:
		s = t.services[parts[1]+"."+parts[2]].host(parts[0])
	}
	if s == nil {
		return match{}
	}
	return match{zone: name, service: s}
}

// host returns a pod of a Service as what its name means, nil if there is none.
func (s *Service) host(name string) *Service {
	if s == nil || s.Hosts[name] == nil {
		return nil
	}
	return &Service{Namespace: s.Namespace, Name: name + "." + s.Name, Addresses: s.Hosts[name]}
}

func (s *Service) has(port string) bool {
	for _, p := range s.Ports {
		if p.Name == port {
			return true
		}
	}
	return false
}

// of returns the Service's addresses of a family.
func (s *Service) of(ipv4 bool) []netip.Addr {
	var out []netip.Addr
	for _, a := range s.Addresses {
		if a.Is4() == ipv4 {
			out = append(out, a)
		}
	}
	return out
}

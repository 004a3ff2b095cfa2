package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
)

// asked is what `explain request` asks, as its flags and arguments say it.
type asked struct {
	// From is who asks in the mesh; Gateway where a request comes in from
	// outside. One of them is set.
	From, Gateway string
	// ServerName and Client are of requests at Gateways only.
	ServerName, Client, CalledPort string
	Zone                           string
	Method, URL                    string
	Headers                        []string
	HTTP10                         bool
}

// check finds mistakes that need no state to be found.
func (a *asked) check() error {
	_, _, err := a.parse()
	return err
}

// parse reads the question; one of its answers is set.
func (a *asked) parse() (*explain.Request, *explain.GatewayRequest, error) {
	var headers []explain.Header
	for _, line := range a.Headers {
		h, err := explain.ParseHeader(line)
		if err != nil {
			return nil, nil, wrongInput("-H %q: %v", line, err)
		}
		headers = append(headers, h)
	}
	switch {
	case a.Gateway != "" && a.From != "":
		return nil, nil, wrongInput("--from and --gateway: a request comes from a workload or from outside: give one of them")
	case a.Gateway == "":
		if a.ServerName != "" || a.Client != "" || a.CalledPort != "" {
			return nil, nil, wrongInput("--sni, --client and --called-port: they mean something with --gateway only")
		}
		req, err := explain.ParseRequest(explain.Workload{}, a.Method, a.URL, headers)
		if err != nil {
			return nil, nil, inputError{err.Error()}
		}
		if a.From == "" {
			return nil, nil, wrongInput("--from: say who asks, as NAMESPACE/NAME of a workload or Service, or as a proxy's node id; or say --gateway NAMESPACE/NAME for a request from outside")
		}
		req.HTTP10 = a.HTTP10
		return &req, nil, nil
	}
	namespace, name, ok := strings.Cut(a.Gateway, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, nil, wrongInput("--gateway: %q is not NAMESPACE/NAME", a.Gateway)
	}
	req, err := explain.ParseGatewayRequest(discovery.Key{Namespace: namespace, Name: name}, a.Method, a.URL, a.ServerName, headers)
	if err != nil {
		return nil, nil, inputError{err.Error()}
	}
	req.HTTP10 = a.HTTP10
	if a.Client != "" {
		if req.Client, err = netip.ParseAddr(a.Client); err != nil {
			return nil, nil, wrongInput("--client: %q is not an address", a.Client)
		}
	}
	if a.CalledPort != "" {
		n, err := strconv.ParseUint(a.CalledPort, 10, 16)
		if err != nil || n == 0 {
			return nil, nil, wrongInput("--called-port: %q is not a port", a.CalledPort)
		}
		req.CalledPort = uint16(n)
	}
	return nil, &req, nil
}

// answer evaluates the question over a state. proxies are those that are
// connected, nil without a control plane.
func (a *asked) answer(r catalog.Reader, proxies []server.ProxyStatus) (*explain.Explanation, error) {
	req, outside, err := a.parse()
	if err != nil {
		return nil, err
	}
	if req != nil {
		if req.From, err = findWorkload(r, proxies, a.From, a.Zone); err != nil {
			return nil, err
		}
		return explain.Evaluate(r, *req), nil
	}
	zones, listeners := gatewayProxies(proxies, outside.Gateway, outside.Port)
	outside.From = workloadIn(outside.Gateway.Namespace, zones, a.Zone)
	e := explain.EvaluateGateway(r, *outside)
	if e == nil {
		return nil, noGateway(r, outside.Gateway)
	}
	e.Envoy.Listeners = listeners
	return e, nil
}

// gatewayProxies returns the zones of a Gateway's proxies, and the names of
// the listeners that they have for a port, each once.
func gatewayProxies(proxies []server.ProxyStatus, gateway discovery.Key, port uint16) (zones, listeners []string) {
	for i := range proxies {
		p := &proxies[i]
		if parts := strings.Split(p.ID, "~"); p.Role != resource.Gateway || len(parts) != 4 || parts[1] != gateway.Namespace || parts[2] != gateway.Name {
			continue
		}
		zones = append(zones, p.Zone)
		for _, text := range p.Listeners {
			d, err := naming.ParseDeclaration(text)
			switch {
			case err != nil || d.Gateway != gateway:
			case d.Port == port:
				listeners = append(listeners, text)
			case d.Port == 0:
				listeners = append(listeners, fmt.Sprintf("%s:%d", text, port))
			}
		}
	}
	slices.Sort(listeners)
	return zones, slices.Compact(listeners)
}

// noGateway says why a Gateway means nothing, with the ones that do.
func noGateway(r catalog.Reader, key discovery.Key) error {
	var others []string
	for o := range catalog.Objects.By(r, catalog.ByKind, "Gateway") {
		if policy.BuildGateway(r, o.Key) != nil {
			others = append(others, o.Key.String())
		}
	}
	slices.Sort(others)
	if _, ok := catalog.Objects.Get(r, policy.GatewayUnit(key).String()); ok {
		return wrongInput("--gateway: Gateway %s is of another controller or has no valid listener: 'causeway explain object gateway/%s -n %s' says more", key, key.Name, key.Namespace)
	}
	return wrongInput("--gateway: there is no Gateway %s: the mesh knows %s", key, joinOr(others, "none"))
}

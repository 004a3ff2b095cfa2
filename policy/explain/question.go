package explain

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/naming"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// ErrInput says that what was Question makes no sense; the error around it says why.
var ErrInput = errors.New("that cannot be explained")

// InputError is an error that is the asker's, with its text.
type InputError string

func (e InputError) Error() string { return string(e) }

// Is makes every InputError an ErrInput.
func (InputError) Is(target error) bool { return target == ErrInput }

// WrongInput returns an InputError.
func WrongInput(format string, args ...any) error { return InputError(fmt.Sprintf(format, args...)) }

// Proxy is a connected proxy, as far as it says who asks.
type Proxy struct {
	// ID is the node id (naming.Node), Service the "namespace/name" that the proxy belongs to.
	ID, Service, Zone string
	// Node is the Kubernetes node that it says it runs on, "" for none.
	Node string
	// Listeners that it has declared.
	Listeners []string
}

// gatewayRole is the role of a Gateway's proxies in their node ids.
const gatewayRole = "gateway"

// Question is the question of `explain request`, in the words of its flags and
// arguments.
type Question struct {
	// From is the caller in the mesh; Gateway is where a request from outside
	// comes in. One of them is set.
	From, Gateway string
	// ServerName and Client are of requests at Gateways only.
	ServerName, Client, CalledPort string
	Zone, Node                     string
	Method, URL                    string
	Headers                        []string
	HTTP10, HTTP2                  bool
	// Captured is true for a program that connects to the URL's host itself, and whose connections are redirected to the proxy.
	Captured bool
}

// Values is the question as a query of the admin API.
func (a *Question) Values() url.Values {
	return url.Values{
		"from": {a.From}, "gateway": {a.Gateway}, "sni": {a.ServerName}, "client": {a.Client}, "calledPort": {a.CalledPort}, "zone": {a.Zone}, "node": {a.Node},
		"method": {a.Method}, "url": {a.URL}, "header": a.Headers, "http10": {strconv.FormatBool(a.HTTP10)}, "http2": {strconv.FormatBool(a.HTTP2)},
		"captured": {strconv.FormatBool(a.Captured)},
	}
}

// QuestionOf is the inverse of Values.
func QuestionOf(q url.Values) *Question {
	return &Question{
		From: q.Get("from"), Gateway: q.Get("gateway"), ServerName: q.Get("sni"), Client: q.Get("client"), CalledPort: q.Get("calledPort"), Zone: q.Get("zone"), Node: q.Get("node"),
		Method: q.Get("method"), URL: q.Get("url"), Headers: q["header"], HTTP10: q.Get("http10") == "true", HTTP2: q.Get("http2") == "true",
		Captured: q.Get("captured") == "true",
	}
}

// Check finds mistakes that need no state to be found.
func (a *Question) Check() error {
	_, _, err := a.parse()
	return err
}

// parse reads the question; one of its answers is set.
func (a *Question) parse() (*Request, *GatewayRequest, error) {
	var headers []Header
	for _, line := range a.Headers {
		h, err := ParseHeader(line)
		if err != nil {
			return nil, nil, WrongInput("-H %q: %v", line, err)
		}
		headers = append(headers, h)
	}
	switch {
	case a.HTTP10 && a.HTTP2:
		return nil, nil, WrongInput("--http1.0 and --http2: a request is of one version: give one of them")
	case a.Gateway != "" && a.From != "":
		return nil, nil, WrongInput("--from and --gateway: a request comes from a workload or from outside: give one of them")
	case a.Gateway != "" && a.Captured:
		return nil, nil, WrongInput("--captured: it means something with --from only")
	case a.Gateway == "":
		if a.ServerName != "" || a.Client != "" || a.CalledPort != "" {
			return nil, nil, WrongInput("--sni, --client and --called-port: they mean something with --gateway only")
		}
		req, err := ParseRequest(Workload{}, a.Method, a.URL, headers)
		if err != nil {
			return nil, nil, InputError(err.Error())
		}
		if a.From == "" {
			return nil, nil, WrongInput("--from: say who asks, as NAMESPACE/NAME of a workload or Service, or as a proxy's node id; or say --gateway NAMESPACE/NAME for a request from outside")
		}
		req.HTTP10, req.HTTP2 = a.HTTP10, a.HTTP2
		if a.Captured {
			// A Host header is no part of where a program connects to.
			to, err := ParseRequest(Workload{}, a.Method, a.URL, nil)
			if err != nil {
				return nil, nil, WrongInput("--captured: %s does not say what the program connects to: write http://HOST[:PORT]/PATH", a.URL)
			}
			req.Destination = to.Host
		}
		return &req, nil, nil
	}
	namespace, name, ok := strings.Cut(a.Gateway, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return nil, nil, WrongInput("--gateway: %q is not NAMESPACE/NAME", a.Gateway)
	}
	req, err := ParseGatewayRequest(discovery.Key{Namespace: namespace, Name: name}, a.Method, a.URL, a.ServerName, headers)
	if err != nil {
		return nil, nil, InputError(err.Error())
	}
	req.HTTP10, req.HTTP2 = a.HTTP10, a.HTTP2
	if a.Client != "" {
		if req.Client, err = netip.ParseAddr(a.Client); err != nil {
			return nil, nil, WrongInput("--client: %q is not an address", a.Client)
		}
	}
	if a.CalledPort != "" {
		n, err := strconv.ParseUint(a.CalledPort, 10, 16)
		if err != nil || n == 0 {
			return nil, nil, WrongInput("--called-port: %q is not a port", a.CalledPort)
		}
		req.CalledPort = uint16(n)
	}
	return nil, &req, nil
}

// Answer evaluates the question over a state. proxies are those that are
// connected, nil without a control plane.
func (a *Question) Answer(r catalog.Reader, proxies []Proxy) (*Explanation, error) {
	req, outside, err := a.parse()
	if err != nil {
		return nil, err
	}
	if req != nil {
		if req.From, err = findWorkload(r, proxies, a.From, place{a.Zone, a.Node}); err != nil {
			return nil, err
		}
		req.From.Name = a.From
		if a.Captured {
			if err := req.capturing(a.From, proxies); err != nil {
				return nil, err
			}
		}
		e := Evaluate(r, *req)
		e.noteInbound(proxies)
		return e, nil
	}
	places, listeners := gatewayProxies(proxies, outside.Gateway, outside.Port)
	outside.From = workloadIn(outside.Gateway.Namespace, places, place{a.Zone, a.Node})
	e := EvaluateGateway(r, *outside)
	if e == nil {
		return nil, noGateway(r, outside.Gateway)
	}
	e.Envoy.Listeners = listeners
	return e, nil
}

// gatewayProxies returns the places of a Gateway's proxies, and the names of
// the listeners that they have for a port, each once.
func gatewayProxies(proxies []Proxy, gateway discovery.Key, port uint16) (places []place, listeners []string) {
	for i := range proxies {
		p := &proxies[i]
		role, namespace, workload, _, ok := naming.ParseNode(p.ID)
		if !ok || role != gatewayRole || namespace != gateway.Namespace || workload != gateway.Name {
			continue
		}
		places = append(places, place{p.Zone, p.Node})
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
	return places, slices.Compact(listeners)
}

// noGateway says why a Gateway means nothing, with the ones that do.
func noGateway(r catalog.Reader, key discovery.Key) error {
	var others []string
	for o := range catalog.Objects.By(r, catalog.ByKind, discovery.KindGateway) {
		if resolve.BuildGateway(r, o.Key) != nil {
			others = append(others, o.Key.String())
		}
	}
	slices.Sort(others)
	if _, ok := catalog.Objects.Get(r, policy.GatewayUnit(key).String()); ok {
		return WrongInput("--gateway: Gateway %s is of another controller or has no valid listener: 'causeway explain object gateway/%s -n %s' says more", key, key.Name, key.Namespace)
	}
	return WrongInput("--gateway: there is no Gateway %s: the mesh knows %s", key, orNone(others, "none"))
}

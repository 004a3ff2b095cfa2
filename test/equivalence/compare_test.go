package equivalence

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy/explain"
)

// differs says in what the evaluator is wrong about what was seen, "" for nothing.
func differs(e *explain.Explanation, seen observed) string {
	if len(e.Envoy.Routes) == 1 && seen.Route != e.Envoy.Routes[0] {
		return fmt.Sprintf("route: evaluator says %q, Envoy took %q", e.Envoy.Routes[0], seen.Route)
	}
	if len(e.Envoy.Routes) == 0 && seen.Route != "" && seen.Route != "-" {
		return fmt.Sprintf("route: evaluator says none, Envoy took %q", seen.Route)
	}
	if e.Answer != nil {
		if why := answerDiffers(e.Answer, seen); why != "" || len(e.Backends) > 0 || e.Fault != nil {
			return why // which backend's filters touch it is a matter of chance
		}
		why := headersDiffer(seen, e.ResponseHeaders)
		for i := range e.Answer.BackendHeaders {
			if why = headersDiffer(seen, &e.Answer.BackendHeaders[i], e.ResponseHeaders); why == "" {
				break
			}
		}
		return why
	}
	var reasons []string
	backends := chosen(e)
	for i := range backends {
		b := &backends[i]
		if b.Percent == 0 {
			continue
		}
		why := backendDiffers(b, e, seen)
		if why == "" {
			return ""
		}
		reasons = append(reasons, fmt.Sprintf("backend %s %s: %s", b.Kind, b.Name, why))
	}
	if len(reasons) == 0 {
		return "the evaluator names neither an answer nor a backend"
	}
	return strings.Join(reasons, "\n")
}

func answerDiffers(a *explain.Answer, seen observed) string {
	code := ""
	if a.GRPCStatus != nil {
		code = strconv.Itoa(*a.GRPCStatus)
	}
	switch {
	case seen.Echo != nil:
		return fmt.Sprintf("evaluator says answer %d (%s), but backend %s got the request", a.Status, a.Because, seen.Echo.ID)
	case a.Status != seen.Status || code != seen.GRPCStatus:
		return fmt.Sprintf("evaluator says status %d grpc-status %q (%s), Envoy answered %d %q (%s)", a.Status, code, a.Because, seen.Status, seen.GRPCStatus, seen.Flags)
	case a.Location != seen.Location:
		return fmt.Sprintf("evaluator says location %q, Envoy answered %q", a.Location, seen.Location)
	}
	return ""
}

func backendDiffers(b *explain.Backend, e *explain.Explanation, seen observed) string {
	if b.Answer != nil {
		return answerDiffers(b.Answer, seen)
	}
	var clusters []string
	for _, t := range b.Targets {
		if t.Percent == 0 {
			continue
		}
		clusters = append(clusters, t.Cluster)
		if t.Cluster != seen.Cluster {
			continue
		}
		if t.Answer != nil {
			return answerDiffers(t.Answer, seen)
		}
		if (strings.Contains(seen.Flags, "UPE") || seen.Flags == "" && seen.Status == 502) && speaksHTTP2(t.Cluster) {
			return "" // the test's backends that speak HTTP/2 refuse websockets and untidy paths
		}
		if seen.Echo == nil {
			return fmt.Sprintf("Envoy answered %d (%s) itself: %s", seen.Status, seen.Flags, seen.Body)
		}
		if !endpointOf(&t, seen.Echo.ID) {
			return fmt.Sprintf("%s answered, who is no endpoint of %s", seen.Echo.ID, t.AnsweredBy)
		}
		want := b.Forwarded
		if speaksHTTP2(t.Cluster) { // net/http takes it out of what the backend shows
			want.Headers = slices.DeleteFunc(slices.Clone(want.Headers), func(h explain.Header) bool {
				return strings.EqualFold(h.Name, "expect") && strings.Contains(h.Value, "100-continue")
			})
		}
		if why := messageDiffers(&want, seen.Echo); why != "" {
			return why
		}
		return headersDiffer(seen, b.ResponseHeaders, e.ResponseHeaders)
	}
	return fmt.Sprintf("evaluator says clusters %q, Envoy took %q and answered %d (%s)", clusters, seen.Cluster, seen.Status, seen.Flags)
}

// speaksHTTP2 reports whether a cluster is one of the ports that speak HTTP/2.
func speaksHTTP2(cluster string) bool {
	return strings.Contains(cluster, ":81/") || strings.Contains(cluster, ":50051/")
}

func endpointOf(t *explain.Target, id string) bool {
	return slices.ContainsFunc(t.Zones, func(z explain.Zone) bool {
		return slices.ContainsFunc(z.Endpoints, func(e explain.Endpoint) bool {
			switch id {
			case "self-rpc": // answers for pods and instances on ports that speak HTTP/2
				return e.ID == "self" || e.ID == "self-instances"
			case "pay": // an ExternalService's endpoints have no other id than their address
				return e.ID == "127.0.0.1"
			}
			return e.ID == id
		})
	})
}

func messageDiffers(want *explain.Message, got *echoed) string {
	if want.Method != got.Method || want.Host != got.Host || asJSON(want.Path) != got.Path {
		return fmt.Sprintf("evaluator says the backend gets %s %s of host %s, it got %s %s of host %s",
			want.Method, want.Path, want.Host, got.Method, got.Path, got.Host)
	}
	wanted, seen := joined(want.Headers), joined(got.Headers)
	for _, name := range slices.Sorted(keys(wanted, seen)) {
		if envoys(name) {
			continue
		}
		w, wok := wanted[name]
		g, gok := seen[name]
		if w != g || wok != gok {
			return fmt.Sprintf("header %s: evaluator says %q (%t), the backend got %q (%t)", name, w, wok, g, gok)
		}
	}
	return ""
}

// asJSON returns a text as it comes out of JSON, which has no bytes that are no UTF-8.
func asJSON(s string) string {
	data, err := json.Marshal(s)
	if err == nil {
		err = json.Unmarshal(data, &s)
	}
	if err != nil {
		panic(err)
	}
	return s
}

func keys(maps ...map[string]string) func(func(string) bool) {
	all := map[string]bool{}
	for _, m := range maps {
		for k := range m {
			all[k] = true
		}
	}
	return func(yield func(string) bool) {
		for k := range all {
			if !yield(k) {
				return
			}
		}
	}
}

// joined returns headers by name in lower case; several of a name mean the
// same as their values with commas between, or, of cookies, with semicolons
// (RFC 9113, section 8.2.3).
func joined(headers []explain.Header) map[string]string {
	out := map[string]string{}
	for _, h := range headers {
		name := strings.ToLower(h.Name)
		if before, ok := out[name]; ok {
			separator := ","
			if name == "cookie" {
				separator = "; "
			}
			out[name] = before + separator + h.Value
		} else {
			out[name] = h.Value
		}
	}
	for name, value := range out { // space around a value is no part of it
		out[name] = strings.TrimSpace(value)
	}
	return out
}

// envoys reports whether a header is one that a proxy adds on its way.
func envoys(name string) bool {
	switch name {
	case "x-request-id", "content-length", "connection", "x-forwarded-proto", "x-forwarded-for", "accept-encoding":
		return true
	}
	return strings.HasPrefix(name, "x-envoy-")
}

// headersDiffer compares the answer's headers that filters name. What a backend answers is known.
func headersDiffer(seen observed, edits ...*explain.HeaderEdits) string {
	var base []explain.Header
	if seen.Echo != nil {
		base = append(base, explain.Header{Name: baseHeader, Value: "base"})
	}
	names := map[string]string{strings.ToLower(baseHeader): ""}
	for _, e := range edits {
		if e == nil {
			continue
		}
		base = e.Apply(base)
		for _, h := range append(slices.Clone(e.Set), e.Add...) {
			names[strings.ToLower(h.Name)] = ""
		}
		for _, name := range e.Remove {
			names[strings.ToLower(name)] = ""
		}
	}
	want := joined(base)
	for _, name := range slices.Sorted(keys(names)) {
		if got := strings.Join(seen.Header.Values(name), ","); got != want[name] {
			return fmt.Sprintf("header %s of the answer: evaluator says %q, it was %q", name, want[name], got)
		}
	}
	return ""
}

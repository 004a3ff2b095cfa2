package relay

import (
	"maps"
	"slices"
	"strconv"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// memory answers an Envoy's requests from what is kept, as a delta server does.
type memory struct {
	kept *kept
	// followed are the names that Envoy follows, by type URL; "*" is all.
	followed map[string]map[string]bool
	nonce    int
}

func newMemory(k *kept) *memory {
	return &memory{kept: k, followed: make(map[string]map[string]bool)}
}

// all is the name that stands for every resource of a type.
const all = "*"

// answer returns the response to a request, nil if there is nothing new to say.
// What is asked for and not kept is not answered: Envoy waits for it, or does without.
func (m *memory) answer(request *discoveryv3.DeltaDiscoveryRequest) *discoveryv3.DeltaDiscoveryResponse {
	url := request.GetTypeUrl()
	followed, begun := m.followed[url]
	if !begun {
		followed = make(map[string]bool)
		m.followed[url] = followed
	}
	names := request.GetResourceNamesSubscribe()
	if !begun && len(names) == 0 {
		names = []string{all} // the old way to ask for everything, which Envoy uses for virtual hosts too
	}
	for _, name := range request.GetResourceNamesUnsubscribe() {
		delete(followed, name)
	}
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url}
	for _, name := range names {
		if followed[name] {
			continue
		}
		followed[name] = true
		response.Resources = append(response.Resources, m.kept.get(url, name)...)
	}
	if len(response.GetResources()) == 0 && !slices.Contains(names, all) {
		return nil
	}
	m.nonce++
	response.Nonce = strconv.Itoa(m.nonce)
	return response
}

// get returns the resource of a name, or all of a type, by name.
func (k *kept) get(url, name string) []*discoveryv3.Resource {
	k.mu.Lock()
	defer k.mu.Unlock()
	if name != all {
		if r := k.types[url][name]; r != nil {
			return []*discoveryv3.Resource{r}
		}
		return nil
	}
	out := make([]*discoveryv3.Resource, 0, len(k.types[url]))
	for _, name := range slices.Sorted(maps.Keys(k.types[url])) {
		out = append(out, k.types[url][name])
	}
	return out
}

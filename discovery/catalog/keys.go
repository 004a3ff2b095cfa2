package catalog

import "github.com/causeway-mesh/causeway/discovery"

// Keys returns the names of all objects of a kind.
func Keys(r Reader, kind string) []discovery.Key {
	var out []discovery.Key
	switch kind {
	case discovery.KindService:
		for s := range Services.All(r) {
			out = append(out, s.Key)
		}
	default:
		for o := range Objects.By(r, ByKind, kind) {
			out = append(out, o.Key)
		}
	}
	return out
}

package effective

import (
	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
)

// Unread says why there may be an object of a kind about another one that its
// source cannot read, "" if there is none.
func Unread(r catalog.Reader, kind string, about discovery.ObjectName) string {
	st, ok := catalog.Sources.Get(r, discovery.KubernetesSource(kind))
	if !ok {
		return ""
	}
	for _, u := range st.UnreadAbout(about) {
		return kind + " cannot be read: " + u.String()
	}
	return unreadAll(kind, st)
}

// unreadAll says why there may be objects of a kind that their source does not even name, "" if there are none.
func unreadAll(kind string, st *discovery.SourceStatus) string {
	if st.UnreadAll == "" {
		return ""
	}
	return kind + " cannot be read: " + st.UnreadAll
}

// UnreadTLS says why it is not known whether policies about a target state TLS, "" if it is known. Callers
// that took such a policy for none would speak in the clear.
func UnreadTLS(r catalog.Reader, target discovery.ObjectName) string {
	if target.Kind == discovery.KindService {
		if why := Unread(r, discovery.KindBackendTLSPolicy, target); why != "" {
			return why
		}
	}
	st, ok := catalog.Sources.Get(r, discovery.KubernetesSource(discovery.KindTrafficPolicy))
	if !ok {
		return ""
	}
	for _, u := range st.UnreadAbout(target) {
		if !u.NoTLS {
			return discovery.KindTrafficPolicy + " cannot be read: " + u.String()
		}
	}
	return unreadAll(discovery.KindTrafficPolicy, st)
}

// UnreadMesh says why what the Mesh says is not known, "" if it is, or if there is none.
func UnreadMesh(r catalog.Reader) string {
	st, ok := catalog.Sources.Get(r, discovery.KubernetesSource(discovery.KindMesh))
	if _, read := MeshObject(r); !ok || read {
		return ""
	}
	return st.UnreadObject(policy.MeshUnit().Key)
}

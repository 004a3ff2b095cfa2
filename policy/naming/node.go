package naming

import (
	"slices"
	"strings"
)

// Node returns the node id of a proxy.
func Node(role, namespace, workload, instance string) string {
	return strings.Join([]string{role, namespace, workload, instance}, "~")
}

// ParseNode reads a node id, false for one that is not ROLE~NAMESPACE~WORKLOAD~INSTANCE.
func ParseNode(id string) (role, namespace, workload, instance string, ok bool) {
	parts := strings.Split(id, "~")
	if len(parts) != 4 || slices.Contains(parts, "") {
		return "", "", "", "", false
	}
	return parts[0], parts[1], parts[2], parts[3], true
}

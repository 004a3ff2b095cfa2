package lint

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy"
)

func valueRules() []Rule {
	return []Rule{
		{
			Name: "Twice", Severity: policy.Warning,
			Doc:   "two items of a list are the same",
			value: twice,
		},
		{
			Name: "OddLimit", Severity: policy.Warning,
			Doc:   "a limit so small that hardly anything passes, or so great that it limits nothing",
			value: oddLimit,
		},
		{
			Name: "OddTime", Severity: policy.Warning,
			Doc:   "a time so short that nothing is done within it, or so long that it bounds nothing",
			value: oddTime,
		},
		{
			Name: "Empty", Severity: policy.Warning,
			Doc:   "a field that is written and says nothing: `{}`, `[]` or `\"\"`",
			value: empty,
		},
		{
			Name: "OddName", Severity: policy.Warning,
			Doc:   "a name that nothing can have: with a star or a space, or in capitals where Kubernetes has none",
			value: oddName,
		},
	}
}

// meansEmpty are fields that mean something although they are empty, by the end of their path.
var meansEmpty = []string{
	"group", "sectionName", "healthCheck", "healthCheck.grpc", "healthCheck.grpc.service", "ports[].tls", "name", "spec", "namespaces.selector", "endpoints", "conditions",
	"clusterIP", "loadBalancer", "guard", "type", "data", "stringData", "finalizers", "rules[]", "replacePrefixMatch", "emptyDir",
}

func empty(c *check, v *value) {
	switch x := v.v.(type) {
	case map[string]any:
		if len(x) > 0 {
			return
		}
	case []any:
		if len(x) > 0 {
			return
		}
	case string:
		if x != "" || strings.Contains(v.path, ".tags.") {
			return
		}
	default:
		return
	}
	path := indexes.ReplaceAllString(v.path, "[]")
	for _, end := range meansEmpty {
		if path == end && end != "endpoints" || strings.HasSuffix(path, "."+end) {
			return
		}
	}
	if path == "endpoints" || path == "spec.rules[]" || path == "status" {
		return
	}
	c.tell(v.path, "it is empty and says nothing", "write what it shall say, or remove it")
}

var indexes = regexp.MustCompile(`\[\d+\]`)

// objectNames are fields with the name of a Kubernetes object, which has no capitals.
var objectNames = []string{"secretName", "horizontalPodAutoscaler", "namespace", "nodeName"}

// freeText are fields that hold more than a name.
var freeText = []string{"query", "value", "ca.crt", "tls.crt", "tls.key", "description", "title"}

func oddName(c *check, v *value) {
	s, ok := v.v.(string)
	if !ok || slices.Contains(freeText, v.name) || strings.HasPrefix(v.path, "data.") || strings.HasPrefix(v.path, "stringData.") {
		return
	}
	switch {
	case strings.TrimSpace(s) != s:
		c.tell(v.path, fmt.Sprintf("%q begins or ends with a space", s), "remove it")
	case strings.Contains(s, "*") && !takesStar(v):
		c.tell(v.path, fmt.Sprintf("%q is taken letter by letter, star included", s), "write the whole name")
	case slices.Contains(objectNames, v.name) && strings.ToLower(s) != s:
		c.tell(v.path, fmt.Sprintf("no object is named %s, because names have no capitals", s), "write "+strings.ToLower(s))
	case v.name == "zone" && strings.ToLower(s) != s:
		c.tell(v.path, fmt.Sprintf("no zone is named %s, so no caller is in it", s), "write "+strings.ToLower(s))
	}
}

// takesStar reports whether a star means something in a field, or is looked at by another rule.
func takesStar(v *value) bool {
	if v.name == "allowHeaders" || v.name == "exposeHeaders" || v.name == "allowMethods" {
		return v.v == "*"
	}
	if v.name == "replacePrefixMatch" || v.name == "replaceFullPath" {
		return false
	}
	for _, name := range []string{"hostname", "hostnames", "hosts", "subjectAltNames", "allowOrigins", "allowMethods", "allowHeaders", "exposeHeaders", "autoScalingGroups", "tags", "path", "host"} {
		if strings.Contains(v.path, name) {
			return true
		}
	}
	return false
}

func twice(c *check, v *value) {
	list, ok := v.v.([]any)
	if !ok {
		return
	}
	seen := make(map[string]int, len(list))
	for i, item := range list {
		data, err := json.Marshal(item)
		if err != nil {
			continue
		}
		if first, dup := seen[string(data)]; dup {
			c.tell(fmt.Sprintf("%s[%d]", v.path, i), fmt.Sprintf("it is the same as %s[%d]", v.path, first), "remove one, or correct it")
			continue
		}
		seen[string(data)] = i
	}
}

// limits are the bounds of plausible limits, by the end of their path.
var limits = []struct {
	path        string
	least, most float64
}{
	{"connectionPool.maxConnections", 4, 1e5},
	{"connectionPool.maxPendingRequests", 4, 1e5},
	{"connectionPool.maxRequests", 4, 1e5},
	{"connectionPool.maxRequestsPerConnection", 1, 1e5},
	{"outlierDetection.consecutive5xx", 2, 1000},
	{"outlierDetection.consecutiveGatewayErrors", 2, 1000},
	{"outlierDetection.consecutiveConnectFailures", 1, 1000},
	{"limits.headerBytes", 4096, 1 << 20},
	{"limits.headers", 20, 1000},
	{"limits.bodyBytes", 1024, 64 << 20},
	{"limits.concurrentStreams", 10, 1000},
	{"limits.connections", 10, 1e6},
	{"cors.maxAge", 0, 86400},
}

func oddLimit(c *check, v *value) {
	n, ok := v.v.(float64)
	if !ok {
		return
	}
	for _, l := range limits {
		if !strings.HasSuffix(v.path, "."+l.path) {
			continue
		}
		switch {
		case n < l.least:
			c.tell(v.path, fmt.Sprintf("with %.0f, hardly anything passes", n), fmt.Sprintf("write at least %.0f, or remove it for the default", l.least))
		case n > l.most:
			c.tell(v.path, fmt.Sprintf("%.0f limits nothing", n), fmt.Sprintf("write at most %.0f, or remove it", l.most))
		}
	}
}

// times are the bounds of plausible times, by the end of their path; 0s is
// none.
var times = []struct {
	path        string
	least, most time.Duration
}{
	{"timeout.connect", 10 * time.Millisecond, 30 * time.Second},
	{"timeout.request", 10 * time.Millisecond, time.Hour},
	{"timeouts.request", 10 * time.Millisecond, time.Hour},
	{"timeouts.backendRequest", 10 * time.Millisecond, time.Hour},
	{"timeout.requestHeaders", time.Second, 10 * time.Minute},
	{"timeout.streamIdle", time.Second, 24 * time.Hour},
	{"timeout.idle", time.Second, 24 * time.Hour},
	{"timeout.connectionAge", 30 * time.Second, 30 * 24 * time.Hour},
	{"retry.perTry", 10 * time.Millisecond, time.Hour},
	{"retry.backoff", time.Millisecond, 10 * time.Second},
	{"connectionPool.idleTimeout", time.Second, time.Hour},
	{"connectionPool.maxConnectionAge", 10 * time.Second, 7 * 24 * time.Hour},
	{"outlierDetection.interval", 100 * time.Millisecond, 5 * time.Minute},
	{"outlierDetection.baseEjectionTime", time.Second, time.Hour},
	{"loadBalancer.slowStart", time.Second, time.Hour},
	{"cookie.ttl", time.Minute, 9600 * time.Hour},
	{"sessionPersistence.absoluteTimeout", time.Minute, 9600 * time.Hour},
	{"sessionPersistence.idleTimeout", time.Minute, 9600 * time.Hour},
}

func oddTime(c *check, v *value) {
	s, ok := v.v.(string)
	if !ok {
		return
	}
	d, err := time.ParseDuration(s)
	if err != nil || d == 0 {
		return
	}
	for _, t := range times {
		if !strings.HasSuffix("."+v.path, "."+t.path) {
			continue
		}
		switch {
		case d < t.least:
			c.tell(v.path, s+" is so short that hardly anything is done within it", fmt.Sprintf("write at least %s", t.least))
		case d > t.most:
			c.tell(v.path, s+" is so long that it bounds nothing", fmt.Sprintf("write at most %s; check the unit: ms, s, m and h", t.most))
		}
	}
}

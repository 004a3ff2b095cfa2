package lint

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/upstream"
)

func shiftRules() []Rule {
	return []Rule{
		{
			Name: "NoBounds", Severity: policy.Warning,
			Doc:    "a TrafficShift's guard has no bound, so only a target that is clearly worse than the source stops it",
			object: noBounds,
		},
		{
			Name: "BigFirstStep", Severity: policy.Warning,
			Doc:    "a TrafficShift begins with half of the traffic or more",
			object: bigFirstStep,
		},
		{
			Name: "ShortHold", Severity: policy.Warning,
			Doc:    "a step is over before the guard's window has passed once",
			object: shortHold,
		},
		{
			Name: "ShadowWrites", Severity: policy.Warning,
			Doc:    "requests that change something are copied, so that it is done twice",
			object: shadowWrites,
		},
		{
			Name: "OddBound", Severity: policy.Warning,
			Doc:    "a bound of a guard that nobody can mean: a success rate of 1 %, a latency that may be 200 times as long, a quantile that a window cannot tell",
			object: oddBounds,
		},
		{
			Name: "BadKey", Severity: policy.Warning,
			Doc:   "users are told apart by a header that is the same for all of them (Host), or that changes between requests of one (X-Forwarded-For)",
			value: badKey,
		},
		{
			Name: "BadQuery", Severity: policy.Warning,
			Doc:   "a query of a metric cannot be read: PromQL that does not parse, brackets that do not close, NRQL without SELECT and FROM",
			value: badQuery,
		},
		{
			Name: "SecretInURL", Severity: policy.Warning,
			Doc:   "an address has a password in it, or is a secret itself, and everybody who may read the object may read it",
			value: secretInURL,
		},
		{
			Name: "OddCapacity", Severity: policy.Warning,
			Doc:    "a capacity that no Service has",
			object: oddCapacity,
		},
	}
}

func noBounds(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift || !slices.ContainsFunc(items(o.Value, "spec", "steps"), func(step map[string]any) bool { return step["percent"] != nil }) {
		return // what only copies needs no bound
	}
	guard, given := at(o.Value, "spec", "guard").(map[string]any)
	for name := range guard {
		switch name {
		case "minRequests", "window", "statusCodes", "paths": // those say how both sides are compared
		default:
			return
		}
	}
	message := "it has no bound, so pods that fail a little more than the instances pass"
	field := "spec.guard"
	if !given {
		message, field = "there is no guard, so pods that fail a little more than the instances pass", "spec"
	}
	c.tell(field, message, `give guard.successRate, guard.latency or guard.errorBudget, for example successRate: {atLeast: "99.9"}`)
}

func bigFirstStep(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift || connectionsOnly(c, text(o.Value, "spec", "serviceRef", "name")) {
		return // a store is cut over at once, or its data parts
	}
	const big = 50
	for i, step := range items(o.Value, "spec", "steps") {
		percent, ok := number(step, "percent")
		if !ok {
			continue
		}
		if percent >= big {
			message := fmt.Sprintf("the first step moves %g %% of the traffic at once", percent)
			c.tell(fmt.Sprintf("spec.steps[%d].percent", i), message, "begin with less, for example 1, 10, 50, 100")
		}
		return
	}
}

// connectionsOnly reports whether no port of a Service is HTTP.
func connectionsOnly(c *check, name string) bool {
	key := discovery.Key{Namespace: c.about.Namespace, Name: name}
	_, ok := catalog.Services.Get(c.r, key.String())
	return ok && !slices.ContainsFunc(upstream.Protocols(c.r, key), func(p policy.Protocol) bool { return p != policy.TCP })
}

func shortHold(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift {
		return
	}
	window, ok := span(o.Value, "spec", "guard", "window")
	if !ok {
		window = 2 * time.Minute
	}
	for i, step := range items(o.Value, "spec", "steps") {
		if hold, ok := span(step, "hold"); ok && hold < window && text(step, "approval") == "" {
			c.tell(fmt.Sprintf("spec.steps[%d].hold", i), fmt.Sprintf("%s is over before the guard has seen one window of %s", hold, window), "hold for longer than guard.window, or shorten the window")
		}
	}
	const enough = 10 * time.Second
	if window < enough {
		c.tell("spec.guard.window", fmt.Sprintf("in %s a single slow answer decides", window), "write 1m or more; less is for demonstrations")
	}
}

func shadowWrites(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift {
		return
	}
	for i, step := range items(o.Value, "spec", "steps") {
		for j, method := range texts(step, "shadow", "methods") {
			if slices.Contains([]string{"POST", "PUT", "PATCH", "DELETE"}, method) {
				c.tell(fmt.Sprintf("spec.steps[%d].shadow.methods[%d]", i, j), method+" changes something, and the copy does so a second time", "copy GET and HEAD only, unless the target has a database of its own")
			}
		}
	}
}

// bounds are what a guard's bounds are between that somebody means.
var bounds = []struct {
	path         []string
	least, most  float64
	below, above string
	low, high    string
	isDuration   bool
}{
	{path: []string{"successRate", "atLeast"}, least: 50, most: 99.999, below: "half of the requests may fail", low: "it is in percent: write, for example, 99.9", above: "a single failure rolls back", high: "write what the source reaches, for example 99.9"},
	{path: []string{"errorBudget", "objective"}, least: 50, most: 99.999, below: "half of the requests may fail", low: "it is in percent: write, for example, 99.9", above: "there is no budget", high: "write, for example, 99.9"},
	{path: []string{"errorBudget", "maxBurnRate"}, least: 0.1, most: 100, below: "hardly any failure is allowed", low: "write, for example, 2", above: "it bounds nothing", high: "write, for example, 2 or 14.4"},
	{path: []string{"latency", "quantile"}, least: 0.5, most: 0.999, below: "most answers are slower than it", low: "write, for example, 0.99", above: "a window has too few requests to tell it", high: "write 0.99, or 0.999 with thousands of requests a second"},
	{path: []string{"latency", "maxIncrease"}, least: 1, most: 1000, below: "chance alone makes a greater difference", low: "it is in percent: write, for example, 20", above: "it bounds nothing", high: "it is in percent: write, for example, 20"},
	{path: []string{"latency", "atMost"}, least: 0.002, most: 60, isDuration: true, below: "no answer over a network is so fast", low: "write, for example, 300ms", above: "it bounds nothing", high: "write, for example, 300ms"},
	{path: []string{"errorBudget", "period"}, least: 3600, most: 2160 * 3600, isDuration: true, below: "a budget for so short a time is empty after one failure", low: "write, for example, 720h"},
	{path: []string{"minRequests"}, least: 10, most: 1e6, below: "so few requests tell nothing", low: "write, for example, 500", above: "no window has so many requests, so every step holds for ever", high: "write, for example, 500"},
}

func oddBounds(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift {
		return
	}
	guard := at(o.Value, "spec", "guard")
	for _, b := range bounds {
		v, ok := number(guard, b.path...)
		if b.isDuration {
			var d time.Duration
			d, ok = span(guard, b.path...)
			v = d.Seconds()
		}
		field, written := "spec.guard."+strings.Join(b.path, "."), fmt.Sprint(at(guard, b.path...))
		switch {
		case !ok:
		case v < b.least:
			c.tell(field, fmt.Sprintf("with %s, %s", written, b.below), b.low)
		case v > b.most:
			c.tell(field, fmt.Sprintf("with %s, %s", plain(v, written), b.above), b.high)
		}
	}
	for i, m := range items(guard, "metrics") {
		for _, name := range []string{"atLeast", "atMost"} {
			if v, ok := number(m, name); ok && (v > 1e12 || v < -1e12) {
				c.tell(fmt.Sprintf("spec.guard.metrics[%d].%s", i, name), fmt.Sprintf("no figure comes near %s, so it bounds nothing", text(m, name)), "write what the figure is in good times, with room")
			}
		}
	}
}

// plain writes a number without an exponent.
func plain(v float64, written string) string {
	if strings.ContainsAny(written, "eE") {
		return fmt.Sprintf("%.0f", v)
	}
	return written
}

func oddCapacity(c *check, o *Object) {
	if o.Kind != discovery.KindTrafficShift {
		return
	}
	for _, most := range []struct {
		name string
		most float64
	}{{"minReadyPods", 1000}, {"maxRequestsPerSecondPerPod", 2e4}} {
		if v, ok := number(o.Value, "spec", "capacity", most.name); ok && v > most.most {
			c.tell("spec.capacity."+most.name, fmt.Sprintf("%.0f is more than any Service has", v), "write what a pod carries in a load test, or how many pods you run")
		}
	}
}

// badKeys are headers that do not tell users apart, and why.
var badKeys = map[string]string{
	"host": same, ":authority": same, "x-forwarded-proto": same, "x-forwarded-host": same, "x-forwarded-port": same, "via": same, "connection": same,
	"te": same, "accept-encoding": same, "transfer-encoding": same, "upgrade": same, "expect": same,
	"x-forwarded-for": moves, "forwarded": moves, "x-real-ip": moves, "x-envoy-external-address": moves, "x-request-id": moves, "traceparent": moves,
	"tracestate": moves, "x-amzn-trace-id": moves, "x-b3-traceid": moves, "x-b3-spanid": moves, "date": moves, "content-length": moves, "referer": moves,
	"range": moves, "if-none-match": moves, "if-modified-since": moves, "cache-control": moves, "content-type": moves, "accept": moves, "origin": moves,
	"cookie": moves, ":path": moves, ":method": moves,
	"user-agent": shared, "accept-language": shared,
	"authorization": "is renewed with the user's token, who may then change sides",
}

const (
	same   = "is the same for all users, so all of them go together"
	moves  = "changes between requests of one user, who then changes sides"
	shared = "is shared by many users, who then go together"
)

func badKey(c *check, v *value) {
	if v.name != "header" || !strings.Contains(v.path, "cohort") && !strings.Contains(v.path, "hash") {
		return
	}
	name, _ := v.v.(string)
	if why, bad := badKeys[strings.ToLower(name)]; bad {
		c.tell(v.path, name+" "+why, "name a header with the user's id, for example x-user-id, or use a cookie")
	}
}

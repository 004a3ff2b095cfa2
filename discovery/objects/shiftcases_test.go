package objects

import (
	"strings"
)

// trafficShifts are right ones and, each a mistake that somebody makes who has
// read of TrafficShifts once, wrong ones.
func trafficShifts() []specCase {
	const (
		steps = "steps: [{percent: '1', hold: 10m}, {percent: '100', hold: 24h}]"
		end   = ", " + steps + "}"
		a     = "{serviceRef: {name: php-web}, "
		query = "prometheus: {address: 'http://prometheus.monitoring:9090', query: up}"
	)
	step := func(s string) string { return a + "steps: [" + s + "]}" }
	guard := func(s string) string { return a + "guard: {" + s + "}" + end }
	metric := func(s string) string { return guard("metrics: [{name: errors, " + s + "}]") }
	notify := func(s string) string { return a + "notifications: [{" + s + "}]" + end }
	return specs(ourAPI, "TrafficShift", "{name: php-web, namespace: web}", [][2]string{
		// What is right.
		{a + steps + "}", ""},
		{a + "direction: PodsToInstances, onFailure: PreviousStep, paused: true, pin: '0'" + end, ""},
		{a + "cohort: {cookie: {name: causeway, ttl: 720h}}" + end, ""},
		{a + "cohort: {cookie: {name: uid}}" + end, ""},
		{a + "cohort: {header: X-User-Id}" + end, ""},
		{step("{shadow: {percent: '5'}, hold: 30m}, {shadow: {percent: '50', methods: [GET, HEAD, OPTIONS]}, approval: Required}, {percent: '0.1', hold: 1s}, {percent: '1.00', hold: 90s}, {percent: '10', hold: 1h30m, approval: Required}, {percent: '100.00', hold: 2160h}"), ""},
		{guard("successRate: {atLeast: '99.9'}, errorBudget: {objective: '99.9', period: 720h, maxBurnRate: '14.4'}, latency: {quantile: '0.95', atMost: 300ms, maxIncrease: '20'}, minRequests: 1, window: 1s"), ""},
		{guard("successRate: {atLeast: '100'}, errorBudget: {objective: '99.99'}, latency: {maxIncrease: '0.5'}, window: 1h"), ""},
		{metric(query + ", atMost: '0.01', timeout: 1m"), ""},
		{metric(query + ", atMost: '0.01', timeout: null"), ""},
		{guard("window: null"), ""},
		{guard("statusCodes: {failures: ['404', NOT_FOUND], fine: ['409', 4xx, '503'], maxIncrease: '2.5'}, paths: {ignored: [/health, '/legacy/*']}"), ""},
		{guard("statusCodes: {comparison: Disabled}, paths: {comparison: Disabled}"), ""},
		{metric("prometheus: {address: 'https://prometheus.example.com:9090/prefix', query: up, credentials: {secretName: prometheus}}, atLeast: '-0.5', atMost: '-0.5'"), ""},
		{metric("datadog: {site: ap1.datadoghq.com, query: 'avg:x{*}', credentials: {secretName: datadog}}, atMost: '2'"), ""},
		{metric("newRelic: {region: EU, accountID: 1, query: SELECT count(*) FROM Transaction, credentials: {directory: /etc/causeway/newrelic}}, atMost: '2'"), ""},
		{a + "capacity: {minReadyPods: 2, maxRequestsPerSecondPerPod: 50, keepSourcePercent: 0, horizontalPodAutoscaler: php-web}" + end, ""},
		{notify("name: chat, format: Slack, credentials: {secretName: slack}, events: [RollBack, Completed]"), ""},
		{notify("name: hook, url: 'https://hooks.example.com/causeway', credentials: {secretName: hook}"), ""},

		// What is moved.
		{"{" + steps + "}", "spec.serviceRef: it is missing: write it"},
		{"{serviceRef: {}" + end, "spec.serviceRef.name: it is missing: write it"},
		{"{serviceRef: {name: ''}" + end, `spec.serviceRef.name: "" is not allowed: it should be at least 1 chars long`},
		{"{serviceRef: {name: " + strings.Repeat("a", 64) + "}" + end, "spec.serviceRef.name"},
		{"{serviceRef: php-web" + end, "spec.serviceRef: it is a string: write a mapping"},
		{"{serviceRef: {name: php-web, namespace: web}" + end, "spec.serviceRef.namespace: there is no such field: correct or remove it"},
		{a + "direction: ToPods" + end, `spec.direction: "ToPods" is not allowed: write one of InstancesToPods, PodsToInstances`},

		// Steps.
		{"{serviceRef: {name: php-web}}", "spec.steps: it is missing: write it"},
		{a + "steps: []}", "spec.steps: it has 0: it should have at least 1 items"},
		{a + "steps: {percent: '1', hold: 10m}}", "spec.steps: it is a mapping: write a list"},
		{step(strings.TrimSuffix(strings.Repeat("{percent: '1', hold: 1m}, ", 65), ", ")), "spec.steps: it is too long"},
		{step("{hold: 10m}"), "spec.steps[0]: a step is one of two things: give exactly one of shadow and percent"},
		{step("{percent: '1', shadow: {percent: '5'}, hold: 10m}"), "spec.steps[0]: a step is one of two things: give exactly one of shadow and percent"},
		{step("{percent: '1', hold: 10m}, {percent: '100'}"), "spec.steps[1]: nothing keeps the step from ending at once: give hold, approval, or both"},
		{step("{percent: '10', hold: 10m}, {percent: '9.5', hold: 10m}"), "spec.steps: the steps do not rise, or a shadow follows a percent: put shadows first"},
		{step("{percent: '10', hold: 10m}, {percent: '10.0', hold: 10m}"), "spec.steps: two steps have the same percent: join them, or give one of them more"},
		{step("{percent: '10', hold: 10m}, {shadow: {percent: '5'}, hold: 10m}"), "spec.steps: the steps do not rise, or a shadow follows a percent"},
		{step("{percent: '0', hold: 10m}, {percent: '100', hold: 10m}"), `spec.steps[0].percent: "0" is where every shift begins: write more than 0`},
		{step("{percent: '0.00', hold: 10m}"), `spec.steps[0].percent: "0.00" is where every shift begins: write more than 0`},
		{step("{percent: 10, hold: 10m}"), "spec.steps[0].percent: it is a number: write a string, in quotes if it looks like something else"},
		{step("{percent: 10%, hold: 10m}"), "spec.steps[0].percent"},
		{step("{percent: '0.001', hold: 10m}"), "spec.steps[0].percent"},
		{step("{percent: '101', hold: 10m}"), "spec.steps[0].percent"},
		{step("{percent: '-1', hold: 10m}"), "spec.steps[0].percent"},
		{step("{weight: '1', hold: 10m}"), "spec.steps[0].weight: there is no such field: correct or remove it"},
		{step("{percent: '1', hold: 1d}"), `spec.steps[0].hold: time: unknown unit "d" in duration "1d": write hours, minutes and seconds, for example 24h or 1h30m`},
		{step("{percent: '1', hold: 600}"), "spec.steps[0].hold: it is a number: write a string"},
		{step("{percent: '1', hold: 0s}"), `spec.steps[0].hold: "0s" is out of bounds: write 1s to 2160h, in the units h, m, s and ms`},
		{step("{percent: '1', hold: -10m}"), `spec.steps[0].hold: "-10m" is out of bounds`},
		{step("{percent: '1', hold: 2161h}"), `spec.steps[0].hold: "2161h" is out of bounds: write 1s to 2160h`},
		{step("{percent: '1', approval: true}"), "spec.steps[0].approval: it is true or false: write a string"},
		{step("{percent: '1', approval: Manual}"), `spec.steps[0].approval: "Manual" is not allowed: write Required`},
		{step("{shadow: {methods: [GET]}, hold: 10m}"), "spec.steps[0].shadow.percent: it is missing: write it"},
		{step("{shadow: '5', hold: 10m}"), "spec.steps[0].shadow: it is a string: write a mapping"},
		{step("{shadow: {percent: '0'}, hold: 10m}"), `spec.steps[0].shadow.percent: "0" copies nothing: write more than 0`},
		{step("{shadow: {percent: '5', methods: [get]}, hold: 10m}"), `spec.steps[0].shadow.methods[0]: "get" is not allowed: write one of GET, HEAD`},
		{step("{shadow: {percent: '5', methods: []}, hold: 10m}"), "spec.steps[0].shadow.methods"},
		{step("{shadow: {percent: '5', methods: [GET, GET]}, hold: 10m}"), `spec.steps[0].shadow.methods[1]: "GET" stands twice: remove one`},

		// Cohorts.
		{a + "cohort: {}" + end, "spec.cohort: it needs one key: give exactly one of cookie and header"},
		{a + "cohort: {cookie: {name: causeway}, header: X-User-Id}" + end, "spec.cohort: it needs one key"},
		{a + "cohort: {cookie: causeway}" + end, "spec.cohort.cookie: it is a string: write a mapping"},
		{a + "cohort: {cookie: {ttl: 720h}}" + end, "spec.cohort.cookie.name: it is missing: write it"},
		{a + "cohort: {cookie: {name: 'a b'}}" + end, "spec.cohort.cookie.name"},
		{a + "cohort: {cookie: {name: causeway, ttl: 30d}}" + end, "spec.cohort.cookie.ttl"},
		{a + "cohort: {cookie: {name: causeway, ttl: 0s}}" + end, `spec.cohort.cookie.ttl: "0s" is out of bounds: write 1s to 9600h`},
		{a + "cohort: {cookie: {name: causeway, ttl: 9601h}}" + end, `spec.cohort.cookie.ttl: "9601h" is out of bounds: write 1s to 9600h`},
		{a + "cohort: {cookie: {name: __Host-causeway, ttl: 720h}}" + end, "spec.cohort.cookie: browsers take a cookie with such a name only with the attribute Secure, which the mesh does not set: choose another name"},
		{a + "cohort: {header: Cookie}" + end, `spec.cohort.header: "Cookie" differs between requests of one user: name a header with the user's id, or give cookie instead`},
		{a + "cohort: {header: 'X User'}" + end, "spec.cohort.header"},

		// The guard.
		{guard("successRate: '99.9'"), "spec.guard.successRate: it is a string: write a mapping"},
		{guard("successRate: {}"), "spec.guard.successRate.atLeast: it is missing: write it"},
		{guard("successRate: {atLeast: '0'}"), `spec.guard.successRate.atLeast: "0" bounds nothing: write more than 0, for example 99.9`},
		{guard("successRate: {atLeast: 99.9}"), "spec.guard.successRate.atLeast: it is a number: write a string"},
		{guard("successRate: {atLeast: '99.999'}"), "spec.guard.successRate.atLeast"},
		{guard("errorBudget: {}"), "spec.guard.errorBudget.objective: it is missing: write it"},
		{guard("errorBudget: {objective: '100'}"), `spec.guard.errorBudget.objective: "100" leaves no budget, or owes nothing: write more than 0 and less than 100, for example 99.9`},
		{guard("errorBudget: {objective: '0.0'}"), `spec.guard.errorBudget.objective: "0.0" leaves no budget`},
		{guard("errorBudget: {objective: '99.9', period: 30d}"), "spec.guard.errorBudget.period"},
		{guard("errorBudget: {objective: '99.9', period: 8760h}"), `spec.guard.errorBudget.period: "8760h" is out of bounds: write 1m to 2160h`},
		{guard("errorBudget: {objective: '99.9', maxBurnRate: 2}"), "spec.guard.errorBudget.maxBurnRate: it is a number: write a string"},
		{guard("errorBudget: {objective: '99.9', maxBurnRate: '0'}"), `spec.guard.errorBudget.maxBurnRate: "0" allows no failure at all: write more than 0, for example 2 or 14.4`},
		{guard("statusCodes: {failures: [404]}"), "spec.guard.statusCodes.failures[0]: it is a number: write a string"},
		{guard("statusCodes: {failures: ['40x']}"), `spec.guard.statusCodes.failures[0]: "40x" is no status: write one as 404, a class as 4xx, or a status of gRPC as NOT_FOUND`},
		{guard("statusCodes: {fine: ['600']}"), `spec.guard.statusCodes.fine[0]: "600" is no status`},
		{guard("statusCodes: {failures: ['404'], fine: ['404']}"), "spec.guard.statusCodes: a status cannot be a failure and fine: leave it out of one of the two"},
		{guard("statusCodes: {comparison: 'Off'}"), "spec.guard.statusCodes.comparison"},
		{guard("statusCodes: {maxIncrease: '100'}"), `spec.guard.statusCodes.maxIncrease: "100" allows everything: write less than 100, or comparison: Disabled`},
		{guard("paths: {ignored: [health]}"), `spec.guard.paths.ignored[0]: "health" is no path: write it from its first slash on, without a query, for example /health`},
		{guard("latency: {}"), "spec.guard.latency: it bounds nothing: give atMost, maxIncrease, or both"},
		{guard("latency: {quantile: p99, atMost: 300ms}"), "spec.guard.latency.quantile"},
		{guard("latency: {quantile: '99', atMost: 300ms}"), `spec.guard.latency.quantile: "99" is no quantile: write a number between 0 and 1, for example 0.99`},
		{guard("latency: {quantile: '1.0', atMost: 300ms}"), `spec.guard.latency.quantile: "1.0" is no quantile`},
		{guard("latency: {quantile: '0', atMost: 300ms}"), `spec.guard.latency.quantile: "0" is no quantile`},
		{guard("latency: {atMost: 300}"), "spec.guard.latency.atMost: it is a number: write a string"},
		{guard("latency: {atMost: 0ms}"), `spec.guard.latency.atMost: "0ms" is out of bounds: write 1ms to 1h`},
		{guard("latency: {maxIncrease: 20%}"), "spec.guard.latency.maxIncrease"},
		{guard("latency: {maxIncrease: '0'}"), `spec.guard.latency.maxIncrease: "0" leaves no room for chance: write more than 0, for example 20`},
		{guard("minRequests: 0"), "spec.guard.minRequests: 0 is not allowed: it should be greater than or equal to 1"},
		{guard("minRequests: '500'"), "spec.guard.minRequests: it is a string: write a whole number"},
		{guard("window: 2h"), `spec.guard.window: "2h" is out of bounds: write 1s to 1h`},
		{guard("window: 500ms"), `spec.guard.window: "500ms" is out of bounds: write 1s to 1h`},
		{guard("availability: {atLeast: '99'}"), "spec.guard.availability: there is no such field: correct or remove it"},

		// Metrics.
		{metric("atMost: '1'"), "spec.guard.metrics[0]: it is asked of one system: give exactly one of prometheus, datadog and newRelic"},
		{metric(query + ", datadog: {query: x, credentials: {secretName: a}}, atMost: '1'"), "spec.guard.metrics[0]: it is asked of one system"},
		{metric(query), "spec.guard.metrics[0]: it has no bound: give atLeast, atMost, or both"},
		{metric(query + ", atLeast: '10', atMost: '9'"), "spec.guard.metrics[0]: no figure is both at least atLeast and at most atMost: let atLeast be the smaller one"},
		{metric(query + ", atMost: 0.01"), "spec.guard.metrics[0].atMost: it is a number: write a string"},
		{metric(query + ", atMost: '1e-3'"), "spec.guard.metrics[0].atMost"},
		{metric(query + ", atMost: '1', timeout: 2m"), `spec.guard.metrics[0].timeout: "2m" is out of bounds: write 100ms to 1m`},
		{metric("prometheus: {address: 'prometheus:9090', query: up}, atMost: '1'"), `spec.guard.metrics[0].prometheus.address: "prometheus:9090" is no address: write http:// or https://, a host, and a port if need be`},
		{metric("prometheus: {address: 'http://prometheus:9090'}, atMost: '1'"), "spec.guard.metrics[0].prometheus.query: it is missing: write it"},
		{metric("prometheus: {address: 'http://prometheus:9090', query: up, credentials: {}}, atMost: '1'"), "spec.guard.metrics[0].prometheus.credentials: they are in one place: give exactly one of secretName and directory"},
		{metric("datadog: {query: x}, atMost: '1'"), "spec.guard.metrics[0].datadog.credentials: it is missing: write it"},
		{metric("datadog: {site: 'https://app.datadoghq.com', query: x, credentials: {secretName: a}}, atMost: '1'"), `spec.guard.metrics[0].datadog.site: "https://app.datadoghq.com" is no name of a site: write that of the web address after app.`},
		{metric("newRelic: {query: x, credentials: {secretName: a}}, atMost: '1'"), "spec.guard.metrics[0].newRelic.accountID: it is missing: write it"},
		{metric("newRelic: {accountID: 1, region: AP, query: x, credentials: {secretName: a}}, atMost: '1'"), `spec.guard.metrics[0].newRelic.region: "AP" is not allowed: write one of US, EU`},
		{metric("newRelic: {accountID: 1, query: x, credentials: {directory: keys}}, atMost: '1'"), `spec.guard.metrics[0].newRelic.credentials.directory: "keys" depends on where the control plane was started: write an absolute path`},
		{guard("metrics: [{name: a, " + query + ", atMost: '1'}, {name: a, " + query + ", atMost: '2'}]"), "spec.guard.metrics[1]: it stands twice: remove one"},

		// Capacity, notices, and the rest.
		{a + "capacity: {minReadyPods: -1}" + end, "spec.capacity.minReadyPods: -1 is not allowed: it should be greater than or equal to 0"},
		{a + "capacity: {maxRequestsPerSecondPerPod: 0}" + end, "spec.capacity.maxRequestsPerSecondPerPod: 0 is not allowed"},
		{a + "capacity: {keepSourcePercent: 101}" + end, "spec.capacity.keepSourcePercent: 101 is not allowed: it should be less than or equal to 100"},
		{a + "capacity: {keepSourcePercent: '100'}" + end, "spec.capacity.keepSourcePercent: it is a string: write a whole number"},
		{a + "capacity: {horizontalPodAutoscaler: ''}" + end, "spec.capacity.horizontalPodAutoscaler"},
		{a + "onFailure: Rollback" + end, `spec.onFailure: "Rollback" is not allowed: write one of RollBack, HoldStep, PreviousStep`},
		{a + "paused: 'yes'" + end, "spec.paused: it is a string: write true or false"},
		{a + "pin: 0" + end, "spec.pin: it is a number: write a string"},
		{a + "pin: '200'" + end, "spec.pin"},
		{notify("name: chat"), "spec.notifications[0]: it goes nowhere: give url, or credentials with the key url"},
		{notify("name: chat, url: hooks.example.com"), `spec.notifications[0].url: "hooks.example.com" is no web address: write http:// or https:// and a host`},
		{notify("name: Chat, url: 'http://a'"), "spec.notifications[0].name"},
		{notify("name: chat, url: 'http://a', format: Teams"), `spec.notifications[0].format: "Teams" is not allowed: write one of Generic, Slack`},
		{notify("name: chat, url: 'http://a', events: [Rollback]"), `spec.notifications[0].events[0]: "Rollback" is not allowed: write one of Step, Hold, AwaitingApproval, RollBack, Completed, Command, FailedOver`},
		{notify("name: chat, url: 'http://a', events: []"), "spec.notifications[0].events"},
	})
}

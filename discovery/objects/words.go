package objects

import (
	"regexp"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
)

// patterns describes the regular expressions of the schemas in words, with an
// example. Nobody should have to read one at night.
var patterns = map[string]string{
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`:                                          "lower case letters, digits and hyphens, for example php-web",
	`^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*)?$`:     "a lower case name, for example reports",
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`:        "a lower case name, for example shop or shop.example.com",
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)+$`:        "a host name with a dot, in lower case and without a wildcard, for example api.example.com",
	`^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`: "a host name in lower case, without port and path, for example shop.example.com or *.example.com",
	`^[a-z0-9]([a-z0-9._-]*[a-z0-9])?$`:                                        `a trust domain in lower case, for example mesh.example.com`,
	`^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`:     `an API group without its version, for example gateway.networking.k8s.io, or "" for a Service`,
	`^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$`:                                    "the name of a kind, for example Service",
	"^[A-Za-z0-9!#$%&'*+\\-.^_\\x60|~]+$":                                      "a name without spaces, colons and commas, for example x-user-id",
	"^[A-Za-z0-9!#$%&'*+\\-.^_|~]+$":                                           "a name without spaces, colons and commas, for example x-user-id",
	"^[A-Za-z0-9!#$%&'*+.^_|~-]+$":                                             "a name without spaces, colons and commas, for example x-user-id",
	`^[!-~]+([\t ]?[!-~]+)*$`:                                                  "printable ASCII characters without a space at the beginning, at the end or two in a row, for example no-cache",
	`^[!-~]*$`:                                                                 "a host name, for example shop.example.com",
	`^/[!-~]*$`:                                                                "a path that begins with a slash and has no spaces, for example /healthz",
	`^/[!-:<-~]*$`:                                                             "a path that begins with a slash and has no spaces and no semicolons, for example /shop",
	`^/[A-Za-z0-9/_.~-]+$`:                                                     "a path of letters, digits and slashes that begins with a slash, for example /healthz",
	`^(100(\.0{1,2})?|[0-9]{1,2}(\.[0-9]{1,2})?)$`:                             `0 to 100 with at most two decimal places, without a percent sign, for example "12.5"`,
	`^[0-9]{1,9}(\.[0-9]{1,6})?$`:                                              `a decimal number of at least 0, without a unit, for example "14.4"`,
	`^-?[0-9]{1,15}(\.[0-9]{1,9})?$`:                                           `a decimal number without a unit, for example "0.01"`,
	`^([0-9]{1,5}(h|m|s|ms)){1,4}$`:                                            "whole numbers with the units h, m, s and ms, for example 15s, 1m30s or 1500ms (not 1.5s)",
	`^[a-z0-9]+(-[a-z0-9]+)+$`:                                                 "an AWS region, not a zone, for example ap-northeast-1",
	`^arn:aws[a-z-]*:iam::\d{12}:role/.+$`:                                     "the ARN of a role, for example arn:aws:iam::123456789012:role/causeway",
	`^[a-zA-Z0-9][!-~]*$`:                                                      `the name of an image, without spaces, for example registry.example.com/platform/causeway-agent:v0.2.0`,
	`^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$`: `a quantity, for example 500m or 256Mi`,
	`^\d{12}$`:      `the 12 digits of an AWS account in quotes, for example "123456789012"`,
	`^[A-Z]{1,32}$`: "an HTTP method in capitals, for example GET",
	`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*$`:                                           "a host name without a wildcard, for example api.example.com",
	`^((\*\.)?[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*|[A-Za-z][-+.A-Za-z0-9]*://[!-~]+)$`: "a host name or a URI, for example api.example.com, *.example.com or spiffe://example.com/api",
	`^(([^:/?#]+):)(//([^/?#]*))([^?#]*)(\?([^#]*))?(#(.*))?`:                                                                             "a URI with a scheme and a host, for example spiffe://example.com/api",
	`^(System|([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/([A-Za-z0-9][-A-Za-z0-9_.]{0,61})?[A-Za-z0-9]))$`:          "System",
	`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$`:                                 "the name of a controller, for example mesh.causeway.dev/controller",
	`(^\*$)|(^(http(s)?):\/\/(((\*\.)?([a-zA-Z0-9\-]+\.)*[a-zA-Z0-9-]+|\*)(:([0-9]{1,5}))?)$)`:                                            "a scheme and a host without a path, for example https://shop.example.com, or * for any",
	"^(?:[-A-Za-z0-9/._~!$&'()*+,;=:@]|[%][0-9a-fA-F]{2})+$":                                                                              "a path as it stands in a request, without spaces, ? and #, for example /reports/2026",
	`^Hostname|IPAddress|NamedAddress|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9\/\-._~%!$&'()*+,;=:]+$`: "IPAddress or Hostname",
	`^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$`:                                                                                       "letters, digits, hyphens, dots and underscores, for example prod",
	`^[a-zA-Z0-9]([-a-zA-Z0-9]*[a-zA-Z0-9])?$|[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9]+$`:             "HTTP, HTTPS, TLS or TCP",
	`^(?i)\.?[a-z_][a-z_0-9]*(\.[a-z_][a-z_0-9]*)*$`:                                                                                      "a service with its package, for example shop.v1.Orders",
	`^[A-Za-z_][A-Za-z_0-9]*$`: "the method's name alone, for example List",
}

// inWords says what a regular expression of a schema wants.
func inWords(pattern string) string {
	if words, ok := patterns[pattern]; ok {
		return "write " + words
	}
	return "remove the characters that do not belong there, such as spaces, quotes and capitals"
}

// matching is how the Gateway API quotes a regular expression in a message.
var matching = regexp.MustCompile(` ?\(matching (.*)\)`)

// ruleRemedies are what to do about the rules of the Gateway API, whose
// messages have no remedy, by what their messages say. The first counts.
var ruleRemedies = []struct{ says, remedy string }{
	{"must be nil if", "remove it, or correct type"},
	{"must not be specified for protocol", "remove it, or correct protocol"},
	{"element must not contain", "remove it, or correct type"},
	{"must not contain", "remove it from the value"},
	{"must not end with", "remove it from the value"},
	{"element must contain", "write it, or correct type"},
	{"must start with '/'", "begin the value with a slash, for example /shop"},
	{"start with '/'", "begin the value with a slash, for example /shop"},
	{"must not be used together with", "remove one of the two"},
	{"but not both", "remove one of the two"},
	{"alongside other", "write * alone, or the others alone"},
	{"cannot be repeated", "keep one of them"},
	{"exactly one PathPrefix match", "give the rule one match, with path.type: PathPrefix"},
	{"exactly one of", "write one of them"},
	{"Only one of", "remove one of them"},
	{"One or both of", "write at least one of them"},
	{"must be unique", "give each its own"},
	{"must be specified", "write it, or correct what asks for it"},
	{"must be set", "write it"},
	{"may only be set", "remove it, or correct protocol"},
	{"Must have port", "write the Service's port, for example port: 80"},
	{"Must not have port", "remove port"},
	{"Must not have", "remove it"},
	{"must not specify", "remove it"},
	{"cannot be longer", "shorten it"},
	{"must be less than or equal", "write a smaller number"},
	{"must be less than", "split the route"},
	{"cannot contain an IP", "write host names, for example shop.example.com"},
	{"valid based on RFC-1123", "write host names in lower case, for example shop.example.com or *.example.com"},
	{"tls mode must be", "write tls.mode: Terminate"},
	{"immutable", "create another object"},
	{"type must be one of", "write Exact, PathPrefix or RegularExpression"},
	{"type must be", "correct type"},
	{"protocol must be", "correct protocol"},
	{"Routability must be", "remove it"},
	{"keys must be in the form", "write keys like example.com/team"},
	{"key's prefix must be", "shorten the part of the key before the slash"},
	{"valid characters", "write letters, digits and dots only"},
}

// worded returns the message and the remedy of a rule that says no remedy itself.
func worded(message string) (string, string) {
	if m := matching.FindStringSubmatch(message); m != nil {
		return strings.Replace(message, m[0], "", 1), inWords(m[1])
	}
	for _, r := range ruleRemedies {
		if strings.Contains(message, r.says) {
			return message, r.remedy
		}
	}
	return message, "correct it"
}

// ofFormat says what is wrong with a value that a schema wants in a format.
func ofFormat(field string, value any, format string) (message, remedy string) {
	format, _, _ = strings.Cut(format, ":")
	switch {
	case strings.HasPrefix(field, "spec.addresses") && strings.HasPrefix(format, "ip"):
		return shown(value) + " is not an IP address, which an address without a type is", "add type: Hostname if it is a host name, or write an address"
	case strings.HasPrefix(format, "ip"):
		return shown(value) + " is not an IP address", "write one, for example 192.0.2.1"
	case strings.HasPrefix(format, "date"):
		return shown(value) + " is not a time", "write one like 2026-01-31T12:00:00Z"
	case format == "byte":
		return shown(value) + " is not base64", "encode it"
	case strings.HasPrefix(format, "int"):
		return shown(value) + " is too great for the field", "write a smaller number"
	}
	return shown(value) + " is not of the format " + format, "correct it"
}

// oneOf says which values a field takes, and which of them was probably meant.
func oneOf(written any, values []string) string {
	out := "write one of " + strings.Join(values, ", ")
	if len(values) == 1 {
		out = "write " + values[0]
	}
	if s, ok := written.(string); ok && len(values) > 1 {
		if near := discovery.Closest(s, values); near != "" {
			return out + " (did you mean " + near + "?)"
		}
	}
	return out
}

// supported returns the values of an API server's "supported values: "A", "B"".
func supported(list string) []string {
	out := strings.Split(list, ", ")
	for i := range out {
		out[i] = strings.Trim(out[i], `"`)
	}
	return slices.Compact(out)
}

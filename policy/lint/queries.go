package lint

import (
	"fmt"
	"net/url"
	"slices"
	"strings"

	"github.com/prometheus/prometheus/promql/parser"
)

// badQuery tells of queries of metrics that their system cannot read.
func badQuery(c *check, v *value) {
	query, ok := v.v.(string)
	if !ok || v.name != "query" {
		return
	}
	if outside := unquoted(query); strings.TrimSpace(query) == "" || placeholder(query, outside) || strings.ContainsAny(outside, "“”‘’") {
		c.tell(v.path, "it is a placeholder, or has quotes of a word processor", "write the query, with plain quotes")
		return
	}
	switch {
	case strings.HasSuffix(v.path, "prometheus.query"):
		badPromQL(c, v.path, query)
	case unclosed(query) != "":
		c.tell(v.path, unclosed(query), "correct the query: try it in the system that is asked")
	case strings.HasSuffix(v.path, "newRelic.query"):
		for _, word := range []string{"SELECT", "FROM"} {
			if !slices.Contains(strings.Fields(strings.ToUpper(query)), word) {
				c.tell(v.path, "it is no NRQL: there is no "+word, "write, for example, SELECT percentage(count(*), WHERE error IS true) FROM Transaction")
				return
			}
		}
	case strings.HasSuffix(v.path, "datadog.query"):
		if !strings.Contains(query, "{") || !strings.Contains(query, ":") {
			c.tell(v.path, "it is no query of metrics: there is no aggregation with a colon, or no scope in braces", "write, for example, sum:checkout.errors{env:prod}.as_rate()")
		}
	}
}

// placeholder reports whether a query is one of documentation: it is, or has outside of its strings, an ellipsis. In a string, or
// the pattern of a label matcher, three dots are three characters.
func placeholder(query, outside string) bool {
	bare := strings.Trim(strings.TrimSpace(query), "\"'`")
	return strings.Contains(outside, "...") || strings.Contains(outside, "…") || bare == "..." || bare == "…"
}

// unquoted returns a query with empty strings in place of those that it has.
func unquoted(query string) string {
	var out strings.Builder
	quote, escaped := rune(0), false
	for _, r := range query {
		switch {
		case escaped:
			escaped = false
		case quote != 0 && r == '\\' && quote != '`':
			escaped = true
		case quote != 0:
			if r == quote {
				quote = 0
				out.WriteRune(r)
			}
		case r == '"' || r == '\'' || r == '`':
			quote = r
			out.WriteRune(r)
		default:
			out.WriteRune(r)
		}
	}
	return out.String()
}

func badPromQL(c *check, field, query string) {
	expr, err := parser.NewParser(parser.Options{EnableExperimentalFunctions: true}).ParseExpr(query)
	if err != nil {
		message, _, _ := strings.Cut(err.Error(), "\n")
		c.tell(field, "Prometheus cannot read it: "+message, "correct the query: try it in Prometheus")
		return
	}
	if t := expr.Type(); t != parser.ValueTypeVector && t != parser.ValueTypeScalar {
		c.tell(field, fmt.Sprintf("it yields a %s, and the guard asks for one figure", parser.DocumentedType(t)), "use a function such as rate, and sum the result")
	}
}

// unclosed returns the bracket or quote of a query without its other end, "" for
// none.
func unclosed(query string) string {
	var open []rune
	for _, r := range unquoted(query) {
		switch {
		case strings.ContainsRune("([{", r):
			open = append(open, r)
		case strings.ContainsRune(")]}", r):
			if len(open) == 0 || strings.IndexRune("([{", open[len(open)-1]) != strings.IndexRune(")]}", r) {
				return fmt.Sprintf("%q closes nothing", r)
			}
			open = open[:len(open)-1]
		}
	}
	for _, quote := range "\"'`" {
		if strings.Count(unquoted(query), string(quote))%2 != 0 {
			return fmt.Sprintf("a quote %c is not closed", quote)
		}
	}
	if len(open) > 0 {
		return fmt.Sprintf("%q is not closed", open[len(open)-1])
	}
	return ""
}

// secretHosts are hosts whose URLs let whoever knows them post.
var secretHosts = []string{"hooks.slack.com", "discord.com", "discordapp.com", "webhook.office.com", "chat.googleapis.com"}

func secretInURL(c *check, v *value) {
	s, ok := v.v.(string)
	if !ok || v.name != "url" && v.name != "address" || !strings.Contains(s, "://") {
		return
	}
	u, err := url.Parse(s)
	if err != nil {
		return
	}
	if u.User != nil {
		c.tell(v.path, "it has a password in it, which everybody reads who may read the object", "put it into credentials")
	}
	for _, host := range secretHosts {
		if u.Hostname() == host || strings.HasSuffix(u.Hostname(), "."+host) {
			c.tell(v.path, "whoever reads this address may post there", "put it into credentials, under the key url")
		}
	}
	if strings.HasSuffix(v.path, "prometheus.address") && (strings.Contains(u.Path, "/api/v1") || strings.Contains(u.Path, "/graph") || u.RawQuery != "") {
		c.tell(v.path, "it has the path of an API or of a page, which is added to it", "write the server's address alone, for example http://prometheus.monitoring:9090")
	}
}

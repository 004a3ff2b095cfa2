package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/causeway-mesh/causeway/policy/naming"
)

// Text returns the ruleset as nft reads it: `nft -f` does with it what Capture does.
func (r Ruleset) Text() string {
	var b strings.Builder
	table := r.Family + " " + TableName
	fmt.Fprintf(&b, "table %s\ndelete table %s\ntable %s {\n", table, table, table)
	for i := range r.Sets {
		r.Sets[i].write(&b)
	}
	for i, c := range r.Chains {
		if i > 0 || len(r.Sets) > 0 {
			b.WriteString("\n")
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		if c.Hook != "" {
			fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.Type, c.Hook, c.Priority)
		}
		for _, rule := range c.Rules {
			fmt.Fprintf(&b, "\t\t%s comment %q\n", rule, rule.Comment)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}

func (s *Set) write(b *strings.Builder) {
	fmt.Fprintf(b, "\tset %s {\n\t\ttype %s\n", s.Name, s.Type)
	switch {
	case s.Interval:
		b.WriteString("\t\tflags interval\n")
	case s.Timeout:
		b.WriteString("\t\tflags timeout\n")
	}
	elements := make([]string, len(s.Elements))
	for i, e := range s.Elements {
		elements[i] = e.Text
		if s.Lifetime > 0 {
			elements[i] += fmt.Sprintf(" timeout %dms", s.Lifetime.Milliseconds())
		}
	}
	fmt.Fprintf(b, "\t\telements = { %s }\n\t}\n", strings.Join(elements, ", "))
}

// String returns the rule as nft has it, without its comment.
func (r Rule) String() string {
	var words []string
	for _, m := range r.Matches {
		words = append(words, m.String())
	}
	return strings.Join(append(words, r.Do.String()), " ")
}

func (m Match) String() string {
	text := string(m.Key) + " "
	if m.Not {
		text += "!= "
	}
	if m.Set != "" {
		return text + "@" + m.Set
	}
	return text + m.Value.Text
}

func (a Action) String() string {
	switch {
	case a.Redirect > 0:
		return fmt.Sprintf("counter redirect to :%d", a.Redirect)
	case a.Jump != "":
		return "jump " + a.Jump
	case a.Zone > 0:
		return fmt.Sprintf("ct zone set %d", a.Zone)
	}
	return "return"
}

// Summary says in one line what a configuration captures.
func (c Config) Summary() string {
	var parts []string
	if len(c.InboundPorts) > 0 {
		in := "all inbound TCP"
		if !slices.Contains(c.InboundPorts, AllPorts) {
			in = "inbound TCP ports " + joined(c.InboundPorts, ",")
		}
		parts = append(parts, fmt.Sprintf("%s to port %d", in, naming.InboundPort))
	}
	what := "all outbound TCP"
	if c.Mode == Host {
		var to []string
		for _, d := range c.Destinations {
			to = append(to, d.String())
		}
		what = "TCP to " + strings.Join(to, ", ")
	}
	parts = append(parts, fmt.Sprintf("%s to port %d", what, naming.OutboundPort))
	if len(c.DNSServers) > 0 {
		parts = append(parts, fmt.Sprintf("DNS to port %d", naming.DNSPort))
	}
	return strings.Join(parts, "; ")
}

func (d Destination) String() string {
	text := d.CIDR.String()
	if d.CIDR.IsSingleIP() {
		text = d.CIDR.Addr().String()
	}
	switch {
	case d.Port == 0:
		return text
	case d.CIDR.Addr().Is6():
		text = "[" + text + "]"
	}
	return fmt.Sprintf("%s:%d", text, d.Port)
}

package status

import (
	"fmt"
	"strings"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// Plan is what a change of objects would do, as `causeway diff` prints it.
type Plan struct {
	*diff.Diff
	// Resources of Envoy that would change.
	Resources []engine.ResourceChange `json:"resources"`
	// Proxies are those that would be sent something, grouped; absent without a
	// control plane.
	Proxies []engine.Audience `json:"proxies,omitempty"`
	// Connected counts all proxies of the control plane that was asked.
	Connected int `json:"connected,omitempty"`
	// Freeze is the freeze of the control plane's configuration, nil for none. The control plane's side is
	// then the state from before it.
	Freeze *discovery.Freeze `json:"freeze,omitempty"`
}

// PlanOf compares the present state with the one after a directory is
// applied.
func PlanOf(now, dir catalog.Reader, prune diff.Prune, good resolve.LastGood, views []snapshot.View) (*Plan, error) {
	after, err := diff.Desired(now, dir, prune)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names the object
	}
	changes := engine.NewPreview(good, views).Changes(now, after.Read())
	return &Plan{Diff: diff.Compare(now, after.Read(), good), Resources: changes, Proxies: engine.Audiences(changes, views)}, nil
}

var actionMarks = map[diff.Action]string{diff.Added: "+", diff.Removed: "-", diff.Changed: "~"}

// Print prints the plan, with the risks first.
func (v *Plan) Print(t *phrase.Table) {
	line := func(format string, args ...any) { t.Row(fmt.Sprintf(format, args...)) }
	if v.Freeze != nil {
		line("%s", v.Freeze.Text())
		line("Compared is with the configuration from before: nothing goes out until causeway unfreeze.")
		line(" ")
	}
	if v.Empty() && len(v.Resources) == 0 {
		line("no change")
		return
	}
	if len(v.Risks) > 0 {
		line("Risks:")
		for _, r := range v.Risks {
			line("  ! %s: %s: %s", r.Code, place(r.Target, r.Port, r.Callers, r.Host), r.Message)
		}
		line(" ")
	}
	if len(v.Objects) > 0 {
		line("Objects:")
		for _, o := range v.Objects {
			mark := actionMarks[o.Action]
			if mark == "" {
				mark = " "
			}
			if o.Validity != "" {
				line("  %s %s (%s)", mark, o.Object, o.Validity)
			} else {
				line("  %s %s", mark, o.Object)
			}
		}
		line(" ")
	}
	v.describeChanges(line)
	if len(v.Findings) > 0 {
		line("Findings:")
		for _, f := range v.Findings {
			message := f.Message
			if f.Field != "" {
				message = f.Field + ": " + message
			}
			if f.Action == diff.Added && f.Remedy != "" {
				message += ": " + f.Remedy
			}
			line("  %s %s: %s: %s", actionMarks[f.Action], f.Severity, f.Object, message)
		}
		line(" ")
	}
	switch {
	case len(v.Changes) > 0 || len(v.Findings) > 0 || len(v.Resources) > 0:
		v.describeResources(line)
	case v.Without():
		line("no change: the mesh does the same with these edits")
	default:
		line("nothing changes in Envoy; the edits act later, for example on the next step of a TrafficShift")
	}
}

func (v *Plan) describeChanges(line func(string, ...any)) {
	last := ""
	for _, c := range v.Changes {
		if where := place(c.Target, c.Port, c.Callers, c.Host); where != last {
			if last != "" {
				line(" ")
			}
			line("%s", where)
			last = where
		}
		what := c.Field
		if c.Object != "" {
			what = strings.TrimSuffix(fmt.Sprintf("%s %s: %s", c.Object, c.Rule, c.Field), ": ")
		}
		switch c.Action {
		case diff.Added:
			line("  + %s: %s", what, sourced(c.After, c.AfterFrom))
		case diff.Removed:
			line("  - %s: %s", what, sourced(c.Before, c.BeforeFrom))
		case diff.Changed:
			line("  ~ %s: %s -> %s", what, sourced(c.Before, c.BeforeFrom), sourced(c.After, c.AfterFrom))
		}
	}
	if last != "" {
		line(" ")
	}
}

func (v *Plan) describeResources(line func(string, ...any)) {
	counts := make(map[diff.Action]int)
	bytes := 0
	for _, r := range v.Resources {
		counts[r.Action]++
		bytes += r.Bytes
	}
	line("Envoy resources: %d to add, %d to change, %d to remove (%d bytes)", counts[diff.Added], counts[diff.Changed], counts[diff.Removed], bytes)
	for _, r := range v.Resources {
		consequence := ""
		if r.Type == resource.Listener.String() && r.Action == diff.Changed {
			consequence = ": its open connections close, websockets too"
		}
		line("  %s %s %s, for %s%s", actionMarks[r.Action], r.Type, r.Name, r.SeenBy, consequence)
	}
	if v.Connected == 0 {
		return
	}
	n := 0
	for _, p := range v.Proxies {
		n += p.Proxies
	}
	line("Proxies: %d of %d would be sent something", n, v.Connected)
	for _, p := range v.Proxies {
		of := p.Role + " of namespace " + p.Namespace
		if p.Gateway != "" {
			of = "of Gateway " + p.Gateway
		}
		zone := p.Zone
		if zone == "" {
			zone = "an unknown zone"
		}
		line("  %d %s in %s: %d resources, %d bytes each", p.Proxies, of, zone, p.Resources, p.Bytes)
	}
}

func place(target string, port uint16, callers, host string) string {
	if port != 0 {
		target += fmt.Sprintf(" port %d", port)
	}
	if callers != "" {
		target += ", callers of namespace " + callers
	}
	if listener, domain, ok := strings.Cut(host, "/"); ok {
		target += fmt.Sprintf(", listener %s, host %s", listener, domain)
	} else if host != "" {
		target += ", listener " + host
	}
	return target
}

func sourced(value, from string) string {
	if from == "" {
		return value
	}
	return value + " (" + from + ")"
}

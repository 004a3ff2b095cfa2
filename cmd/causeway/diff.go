package main

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/resolve"
	"github.com/causeway-mesh/causeway/xds/engine"
	"github.com/causeway-mesh/causeway/xds/resource"
	"github.com/causeway-mesh/causeway/xds/server"
	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// errChanges says that a comparison worked and found differences, which are printed already.
var errChanges = errors.New("there are changes")

// diffView is what `causeway diff` prints.
type diffView struct {
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

func diffCommand() *cobra.Command {
	var output outputFlag
	var admin adminFlag
	var against, prune string
	c := &cobra.Command{
		Use:   "diff DIR",
		Short: "What would change in the mesh if a directory became its state",
		Long: `Say what would change if the objects of a directory were applied: routes,
shares, homes, effective policies, hosts, objects that become invalid, Envoy
resources, and how many proxies would be sent something. Risky changes are
marked with "!". Nothing is changed.

Compared is with a running control plane, or with another directory:

  causeway diff config/ --admin 127.0.0.1:15080
  causeway diff config/ --against released/

Against a control plane, --prune says what becomes of objects that DIR lacks:
"namespaces" (the default) takes them as deleted in the namespaces that DIR has
objects in, "all" everywhere, "none" nowhere, as kubectl apply does. Services,
ConfigMaps and EndpointSlices are pruned only where DIR has any of the kind.
Instances, recorded homes and cluster IPs are always those of the control plane.

Exit status: 0 no change, or edits without effect, 2 changes, 1 it could not be
compared.`,
		Args: takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if against != "" && (cmd.Flags().Changed("admin") || cmd.Flags().Changed("prune")) {
				return errors.New("--against: it compares two directories, so --admin and --prune have no meaning: leave them out")
			}
			how := diff.PruneEverything
			if against == "" {
				var err error
				if how, err = diff.ParsePrune(prune); err != nil {
					return fmt.Errorf("--prune: %w", err)
				}
			}
			dir, err := loadWhole(args[0])
			if err != nil {
				return err
			}
			var now *catalog.Catalog
			var state diff.State
			var proxies []server.ProxyStatus
			if against != "" {
				now, err = loadWhole(against)
			} else if now, err = liveState(cmd, &admin, &state); err == nil {
				err = admin.do(cmd.Context(), http.MethodGet, "/v1/proxies", url.Values{}, &proxies)
			}
			if err != nil {
				return err
			}
			v, err := compareStates(now.Read(), dir.Read(), how, state.LastGood(), server.Views(proxies))
			if err != nil {
				return err
			}
			v.Connected, v.Freeze = len(proxies), state.Freeze
			if err := output.print(cmd, v, func(t *phrase.Table) { v.describe(t) }); err != nil {
				return err
			}
			if !v.Without() || len(v.Resources) > 0 {
				return errChanges
			}
			return nil
		},
	}
	c.Flags().StringVar(&against, "against", "", "directory to compare with instead of a control plane")
	c.Flags().StringVar(&prune, "prune", string(diff.PruneNamespaces), "where objects that DIR lacks are taken as deleted: namespaces, all or none")
	admin.add(c)
	output.add(c)
	return c
}

// liveState asks a control plane for its state.
func liveState(cmd *cobra.Command, admin *adminFlag, out *diff.State) (*catalog.Catalog, error) {
	if err := admin.do(cmd.Context(), http.MethodGet, "/v1/state", url.Values{}, out); err != nil {
		return nil, err
	}
	return out.Catalog()
}

// compareStates compares the present state with the one after a directory is
// applied.
func compareStates(now, dir catalog.Reader, prune diff.Prune, good resolve.LastGood, views []snapshot.View) (*diffView, error) {
	after, err := diff.Desired(now, dir, prune)
	if err != nil {
		return nil, err
	}
	changes := engine.NewPreview(good, views).Changes(now, after.Read())
	return &diffView{Diff: diff.Compare(now, after.Read(), good), Resources: changes, Proxies: engine.Audiences(changes, views)}, nil
}

// loadWhole reads a directory without mistakes. A file with a mistake is left
// out as a whole, and its objects would look deleted.
func loadWhole(dir string) (*catalog.Catalog, error) {
	cat := catalog.New()
	loaded, err := file.Load(dir, cat)
	if err != nil {
		return nil, err
	}
	if n := len(loaded.Problems); n > 0 {
		return nil, fmt.Errorf("%s has mistakes, so it cannot be compared: %w (%d in all: 'causeway validate %s' lists them)",
			dir, loaded.Problems[0], n, dir)
	}
	return cat, nil
}

var actionMarks = map[diff.Action]string{diff.Added: "+", diff.Removed: "-", diff.Changed: "~"}

// describe prints the plan, with the risks first.
func (v *diffView) describe(t *phrase.Table) {
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

func (v *diffView) describeChanges(line func(string, ...any)) {
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

func (v *diffView) describeResources(line func(string, ...any)) {
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

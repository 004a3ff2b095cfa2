// Bench measures the shipped control plane: its binary in a process of its own,
// a real kube-apiserver as its source, and simulated Envoys in another process
// that speak ADS to it over loopback. It prints a table and writes bench.json.
//
// docs/performance.md says what is measured, how, and what came out.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/causeway-mesh/causeway/test/harness"
)

type options struct {
	server    string
	source    string
	xds       string
	out       string
	services  int
	endpoints int
	clients   int
	viewers   int
	changes   int
	zones     int
	full      bool
	steps     string
	markdown  string
	gate      bool
}

func main() {
	runChild()
	var o options
	flag.StringVar(&o.server, "server", "bin/causeway", "the binary under test")
	flag.StringVar(&o.source, "source", "kubernetes", "where the server reads the mesh from: kubernetes or files")
	flag.StringVar(&o.xds, "xds", "delta", "what clients speak: delta or sotw (state of the world)")
	flag.StringVar(&o.out, "out", "bench.json", "where the figures go")
	flag.IntVar(&o.services, "services", goalServices, "Services in the mesh")
	flag.IntVar(&o.endpoints, "endpoints", goalEndpoints, "endpoints of each Service")
	flag.IntVar(&o.clients, "clients", goalClients, "simulated Envoys")
	flag.IntVar(&o.viewers, "viewers", 0, "people who look at the page meanwhile")
	flag.IntVar(&o.changes, "changes", 50, "changes that are timed")
	flag.IntVar(&o.zones, "zones", 3, "zones that endpoints and clients are spread over")
	flag.BoolVar(&o.full, "full", false, "also measure how costs grow with the mesh and its clients, and ten thousand idle streams")
	flag.StringVar(&o.steps, "steps", "", "only these steps, separated by commas: start (always), zones, core, clients, idle, services")
	flag.StringVar(&o.markdown, "markdown", "", "measure nothing: print this bench.json as a Markdown table")
	flag.BoolVar(&o.gate, "gate", false, "fail if a ratio to the floor is above its limit")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if o.markdown != "" {
		var r *report
		if r, err = readReport(o.markdown, os.Stdout); err == nil {
			err = r.markdown()
		}
	} else {
		err = measure(ctx, &o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench: "+err.Error())
		os.Exit(1)
	}
}

func measure(ctx context.Context, o *options) error {
	if o.xds != "delta" && o.xds != "sotw" {
		return fmt.Errorf("-xds: %q is neither delta nor sotw", o.xds)
	}
	r := newReport(os.Stdout, o.source, o.xds)
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	err := harness.Run(ctx, "bench", logf, func(ctx context.Context, t harness.TB) {
		b, err := newBench(ctx, t, o, r)
		if err == nil {
			err = b.run(ctx, o)
		}
		if err != nil {
			t.Fatalf("%v", err)
		}
	})
	// What was measured before a failure is worth keeping.
	if len(r.Rows) > 0 {
		fmt.Println()
		err = errors.Join(err, r.print(), r.write(o.out))
	}
	if missed := r.missed(); o.gate && len(missed) > 0 {
		err = errors.Join(err, fmt.Errorf("%d ratios to the floor are above their limit, the first is %s", len(missed), missed[0].Name))
	}
	return err
}

// newBench starts everything but the server under test.
func newBench(ctx context.Context, t harness.TB, o *options, r *report) (*bench, error) {
	b := &bench{
		mesh:   mesh{services: o.services, endpoints: o.endpoints, zones: o.zones},
		report: r, world: o.xds == "sotw", changes: o.changes, next: firstChanged,
	}
	binary, err := filepath.Abs(o.server)
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(binary); err != nil {
		return nil, fmt.Errorf("-server: %w: run `make build`", err)
	}
	switch o.source {
	case "kubernetes":
		if b.source, err = newKubeSource(t); err != nil {
			return nil, err
		}
	case "files":
		b.source = newFileSource(t.TempDir())
	default:
		return nil, fmt.Errorf("-source: %q is neither kubernetes nor files", o.source)
	}
	if b.fleet, err = startChild(t, "fleet"); err != nil {
		return nil, err
	}
	if b.floor, err = startChild(t, "floor"); err != nil {
		return nil, err
	}
	b.server = newControlPlane(t, binary, b.source.args())
	if err := b.source.load(ctx, b.mesh); err != nil {
		return nil, fmt.Errorf("making the mesh: %w", err)
	}
	return b, nil
}

// run measures. The larger mesh comes last, because it stays.
func (b *bench) run(ctx context.Context, o *options) error {
	steps := []struct {
		name string
		full bool // not part of a short run
		run  func() error
	}{
		{"start", false, b.coldStart},
		{"zones", false, func() error { return b.zoneBytes(ctx) }},
		{"core", false, func() error { return b.core(ctx, o.clients, o.viewers) }},
		{"clients", true, func() error { return b.growClients(ctx, o.clients/10) }},
		{"idle", true, func() error { return b.idle(10 * o.clients) }},
		{"services", true, func() error { return b.growServices(ctx, 10*o.services, o.clients/10) }},
	}
	only := strings.Split(o.steps, ",")
	for _, s := range steps {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if s.name != "start" && (o.steps != "" && !slices.Contains(only, s.name) || o.steps == "" && s.full && !o.full) {
			continue
		}
		if _, err := fmt.Fprintf(b.report.out, "%s\n", s.name); err != nil {
			return err
		}
		if err := s.run(); err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
	}
	return nil
}

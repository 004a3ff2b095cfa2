// Workload is what pods of tests run that are not PHP: "pause" holds a pod's namespaces, "serve"
// is an HTTP server that says who it is, "load" counts every answer that it gets, and "get"
// asks once; both go by http_proxy if that is set.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/causeway-mesh/causeway/test/harness"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	mode := "pause"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	var run func(context.Context, harness.TB)
	switch mode {
	case "pause":
		<-ctx.Done()
		return
	case "serve":
		run = serve
	case "load":
		run = load
	case "get":
		run = get
	default:
		fmt.Fprintf(os.Stderr, "workload: there is no %q\n", mode)
		os.Exit(2)
	}
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	if err := harness.Run(ctx, mode, logf, run); err != nil {
		logf("workload: %v", err)
		os.Exit(1)
	}
}

// serve answers at port 8080 until it is told to end; then it ends as a good server does.
func serve(ctx context.Context, t harness.TB) {
	w := harness.StartWorkload(t, harness.WorkloadOptions{
		Kind: harness.Go, Address: netip.IPv4Unspecified(), Port: 8080,
		Platform: "pods", ID: os.Getenv("HOSTNAME"), Zone: os.Getenv("WORKLOAD_ZONE"),
	})
	<-ctx.Done()
	w.Stop()
}

// load asks a URL, through the proxy that http_proxy names if it is set, until it is told to
// end. What it has counted is at port 8090, as JSON.
func load(ctx context.Context, t harness.TB) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	target := flags.String("url", "", "what to ask for")
	rate := flags.Float64("rate", 100, "requests per second")
	accept := flags.Int("accept", http.StatusOK, "a status, beside those below 400, that is the application's own answer and no failure")
	if err := flags.Parse(os.Args[2:]); err != nil {
		t.Fatalf("%v", err)
	}
	asked, err := url.Parse(*target)
	if err != nil {
		t.Fatalf("-url: %v", err)
	}
	o := harness.LoadOptions{URL: *target, Rate: *rate, Accept: func(status int) bool { return status < 400 || status == *accept }}
	if text := os.Getenv("http_proxy"); text != "" {
		proxy, err := url.Parse(text)
		if err != nil || proxy.Host == "" {
			t.Fatalf("http_proxy: %q is no URL", text)
		}
		o.URL, o.Host = proxy.Scheme+"://"+proxy.Host+asked.RequestURI(), asked.Host
	}
	l := harness.StartLoad(t, o)
	server := &http.Server{Addr: ":8090", ReadHeaderTimeout: time.Minute}
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(l.Report())
	})
	t.Cleanup(func() { _ = server.Close() })
	go func() { _ = server.ListenAndServe() }()
	<-ctx.Done()
	l.Stop()
}

// get prints the answer of the URL that is its argument.
func get(ctx context.Context, t harness.TB) {
	if len(os.Args) != 3 {
		t.Fatalf("get takes a URL")
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, os.Args[2], http.NoBody)
	if err != nil {
		t.Fatalf("%v", err)
	}
	text, err := harness.ReadBody(http.DefaultClient.Do(request))
	if err != nil {
		t.Fatalf("%v", err)
	}
	_, _ = os.Stdout.Write(text)
}

package agent

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/bootstrap"
	"github.com/causeway-mesh/causeway/xds/resource"
)

func TestParseLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		line            string
		level           slog.Level
		logger, message string
	}{
		{"info|upstream|cds: 1 cluster|s", slog.LevelInfo, "upstream", "cds: 1 cluster|s"},
		{"warning|config|x", slog.LevelWarn, "config", "x"},
		{"critical|main|x", slog.LevelError, "main", "x"},
		{"debug|main|x", slog.LevelDebug, "main", "x"},
		{"Caught Segmentation fault, suspect faulting address 0x0", slog.LevelInfo, "", "Caught Segmentation fault, suspect faulting address 0x0"},
		{"a|b|c", slog.LevelInfo, "", "a|b|c"},
	} {
		level, logger, message := parseLine(c.line)
		require.Equal(t, c.level, level, c.line)
		require.Equal(t, c.logger, logger, c.line)
		require.Equal(t, c.message, message, c.line)
	}
}

func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Bootstrap: bootstrap.Options{
			Role: resource.Sidecar, Namespace: "web", Workload: "cron", Instance: "i-1", Servers: []string{"127.0.0.1:18000"},
			HTTPListen: "127.0.0.1:15001", AdminListen: "127.0.0.1:15000",
		},
		Dir: t.TempDir(), Listen: "127.0.0.1:0", Wait: time.Second, Logger: slog.New(slog.DiscardHandler),
	}
}

// A mistake names its flag.
func TestOptions(t *testing.T) {
	t.Parallel()
	for want, change := range map[string]func(*Options){
		"--admin-listen: the agent asks Envoy":    func(o *Options) { o.Bootstrap.AdminListen = "" },
		"--admin-listen: \"0.0.0.0:1\" is not a":  func(o *Options) { o.Bootstrap.AdminListen = "0.0.0.0:1" },
		"--wait: 0s is no time":                   func(o *Options) { o.Wait = 0 },
		"--health-wait: -1s":                      func(o *Options) { o.HealthWait = -time.Second },
		"--drain-timeout: -1s":                    func(o *Options) { o.DrainTimeout = -time.Second },
		"--state-dir: the agent needs":            func(o *Options) { o.Dir = "" },
		"--application-metrics: \"foo\" is not":   func(o *Options) { o.ApplicationMetrics = "foo" },
		"--application-health: \"foo\" is":        func(o *Options) { o.ApplicationHealth = "foo" },
		"--dns-listen: without --captured":        func(o *Options) { o.DNS.Listen = []string{"127.0.0.1:15053"} },
		"--server: give at least one":             func(o *Options) { o.Bootstrap.Servers = nil },
		"--namespace: ":                           func(o *Options) { o.Bootstrap.Namespace = "" },
		"--tls-ca, --tls-server-name, --tls-cert": func(o *Options) { o.Bootstrap.TLS = &bootstrap.TLS{CA: "ca.crt"} },
		"longer than the 107 bytes":               func(o *Options) { o.Dir = filepath.Join(t.TempDir(), strings.Repeat("x", 108)) },
	} {
		o := options(t)
		change(&o)
		_, err := New(o)
		require.ErrorContains(t, err, want)
	}
	_, err := New(options(t))
	require.NoError(t, err)
}

// A program that is not there is an error at once, and not one that is tried again and again.
func TestNoEnvoy(t *testing.T) {
	t.Parallel()
	o := options(t)
	o.Envoy = filepath.Join(t.TempDir(), "envoy")
	// An Envoy of this machine may have the usual ports.
	o.Bootstrap.AdminListen, o.Bootstrap.HTTPListen = harness.FreeAddress(t), harness.FreeAddress(t)
	a, err := New(o)
	require.NoError(t, err)
	require.EqualError(t, a.Run(t.Context()), "start Envoy: fork/exec "+o.Envoy+
		": no such file or directory: install Envoy there, or name its program with --envoy")
}

// A program that ends by itself is started again, however it ends, the first time too.
func TestEnvoyThatEndsIsStartedAgain(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "envoy")
	require.NoError(t, os.WriteFile(path, []byte("#!/bin/sh\nprintf '%01000d\\n' 0\nexit 0\n"), 0o700)) //nolint:gosec // a program
	ctx, cancel := context.WithCancel(t.Context())
	var ends []string
	e := &envoy{path: path, log: slog.New(slog.DiscardHandler), running: func(bool) {}, ended: func(err error, _ time.Duration) {
		if ends = append(ends, err.Error()); len(ends) == 2 {
			cancel()
		}
	}}
	require.NoError(t, e.run(ctx))
	require.Len(t, ends, 2)
	require.Regexp(t, `/envoy ends at once: exit status 0 after \d+m?s; its last lines: 000`, ends[0])
	require.Less(t, len(ends[0]), 400+len(path))
}

// A program that is no Envoy says nothing that would help: the agent does.
func TestHowEnvoyHasEnded(t *testing.T) {
	t.Parallel()
	e := &envoy{path: "/bin/true"}
	for want, end := range map[string]error{
		"/bin/true ends at once: exit status 0 after 3ms, and says nothing: is it Envoy? --envoy names its program": e.end(nil, 3*time.Millisecond, ""),
		"/bin/true ends at once: exit status 1 after 20ms; its last lines: no such option":                          e.end(errors.New("exit status 1"), 20*time.Millisecond, "no such option"),
		"signal: killed after 1h0m0s": e.end(errors.New("signal: killed"), time.Hour, ""),
	} {
		require.EqualError(t, end, want)
	}
	a, err := New(options(t))
	require.NoError(t, err)
	a.envoy().ended(e.end(nil, 0, ""), time.Second)
	require.Contains(t, a.Status(t.Context()).Why, "Envoy does not run: /bin/true ends at once")
}

// An agent whose Envoy does not run is not ready, whoever answers at Envoy's admin address.
func TestAnothersEnvoy(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer other.Close()
	o := options(t)
	o.Bootstrap.AdminListen, o.Bootstrap.HTTPListen = strings.TrimPrefix(other.URL, "http://"), ""
	a, err := New(o)
	require.NoError(t, err)
	require.Equal(t, "Envoy does not run", a.Status(t.Context()).Why)
	a.drain(t.Context())
	require.Zero(t, asked.Load(), "the other one is neither asked nor drained")
}

// An agent does not start where another Envoy listens, or the agent itself.
func TestAddressesAreFree(t *testing.T) {
	t.Parallel()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	taken := l.Addr().String()
	for flag, change := range map[string]func(*bootstrap.Options){
		"--admin-listen":   func(o *bootstrap.Options) { o.AdminListen = taken },
		"--http-listen":    func(o *bootstrap.Options) { o.HTTPListen = taken },
		"--tcp-listen":     func(o *bootstrap.Options) { o.TCPListen = []string{taken + "=data/mysql:3306"} },
		"--gateway-listen": func(o *bootstrap.Options) { o.GatewayListen = []string{"127.0.0.1", taken + "=80"} },
		"--health-listen":  func(o *bootstrap.Options) { o.HealthListen = taken },
	} {
		a := &Agent{opts: Options{}}
		change(&a.opts.Bootstrap)
		ended, end := context.WithCancel(t.Context())
		end() // it does not wait for who listens to go
		require.ErrorContains(t, a.addressesFree(ended), flag+": something listens at "+taken+" already")
	}
	a := &Agent{opts: Options{Bootstrap: bootstrap.Options{AdminListen: taken}}}
	go func() { _ = l.Close() }()
	require.NoError(t, a.addressesFree(t.Context()), "an Envoy of before may take a moment to go")
}

// A second agent with the same directory leaves the first one's socket alone.
func TestStateDirIsOneAgents(t *testing.T) {
	t.Parallel()
	o := options(t)
	first, err := New(o)
	require.NoError(t, err)
	locked, err := first.lock()
	require.NoError(t, err)
	socket := filepath.Join(o.Dir, socketFile)
	require.NoError(t, os.WriteFile(socket, nil, 0o600))
	second, err := New(o)
	require.NoError(t, err)
	require.ErrorContains(t, second.Run(t.Context()), "--state-dir: another agent uses "+o.Dir)
	require.FileExists(t, socket)

	require.NoError(t, locked.Close())
	again, err := first.lock()
	require.NoError(t, err)
	require.NoError(t, again.Close())
}

// What stands there already is not written again.
func TestBootstrapIsWritten(t *testing.T) {
	t.Parallel()
	o := options(t)
	a, err := New(o)
	require.NoError(t, err)
	require.NoError(t, a.writeBootstrap())
	file := filepath.Join(o.Dir, bootstrap.File)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), socketFile)
	before, err := os.Stat(file)
	require.NoError(t, err)
	require.NoError(t, a.writeBootstrap())
	after, err := os.Stat(file)
	require.NoError(t, err)
	require.Equal(t, before.ModTime(), after.ModTime())
	require.NoError(t, os.Remove(file))
	require.NoError(t, os.Mkdir(file, 0o700))
	require.Contains(t, a.envoy().args, "-c")
	require.NoError(t, a.writeBootstrap(), "one that cannot be written is an argument")
	require.Contains(t, a.envoy().args, "--config-yaml")
	require.Contains(t, a.envoy().args, string(text))
}

// systemd hears when Envoy is ready; without it nobody is told.
func TestNotify(t *testing.T) {
	require.NoError(t, notify("READY=1"))
	path := filepath.Join(t.TempDir(), "notify")
	socket, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	require.NoError(t, err)
	defer socket.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	require.NoError(t, notify("READY=1", "STATUS=Envoy serves"))
	text := make([]byte, 100)
	require.NoError(t, socket.SetReadDeadline(time.Now().Add(time.Second)))
	n, err := socket.Read(text)
	require.NoError(t, err)
	require.Equal(t, "READY=1\nSTATUS=Envoy serves", string(text[:n]))

	t.Setenv("WATCHDOG_USEC", "20000000")
	require.Equal(t, 10*time.Second, watchdog())
	t.Setenv("WATCHDOG_PID", "1")
	require.Zero(t, watchdog(), "it is meant for another process")
}

package harness

import (
	"bufio"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// Backend is what the workloads answer on every path but /healthz: who answers,
// and what it was asked. /slow?ms= answers late, /status?code= with that status,
// and /healthz "ok", or 503 after [Workload.SetHealthy] has said so. Those in Go
// take websockets on /websocket; see [DialWebsocket].
type Backend struct {
	Platform string            `json:"platform"`
	ID       string            `json:"id"`
	Zone     string            `json:"zone"`
	PID      int               `json:"pid"`
	Runtime  string            `json:"runtime"`
	Remote   string            `json:"remote"` // whom it takes for its client: an IP address
	Method   string            `json:"method"`
	Path     string            `json:"path"`
	Body     int               `json:"body"` // its length
	Headers  map[string]string `json:"headers"`
}

// WorkloadKind says what a [Workload] is made of.
type WorkloadKind int

const (
	// PHP is `php -S`, the light one.
	PHP WorkloadKind = iota
	// FPM is nginx with php-fpm behind it, as on the instances that Causeway is for.
	FPM
	// Go is an HTTP server in this process.
	Go
	// GoProcess is the same in a process of its own, which can be killed. The
	// program calls [Main] or [RunChild].
	GoProcess
)

// WorkloadOptions of [StartWorkload].
type WorkloadOptions struct {
	Kind WorkloadKind
	// Address and Port to listen on: 127.0.0.1 and a free port if not set.
	Address netip.Addr
	Port    int
	// Platform, ID and Zone are what it says of itself.
	Platform, ID, Zone string
	// Workers is how many requests PHP works on at a time; 4 if zero. (nginx
	// takes as many as come and queues them for php-fpm; `php -S` does not queue.)
	Workers int
	// RealIPFrom are the ranges (CIDR) whose X-Forwarded-For nginx believes
	// (set_real_ip_from), so that PHP's REMOTE_ADDR is the first address before them.
	RealIPFrom []string
	// KeepAlive is how long nginx keeps an idle connection: its own default, 75 s,
	// if zero.
	KeepAlive time.Duration
}

// Workload is an HTTP server that says who it is.
type Workload struct {
	o         WorkloadOptions
	dir       string
	address   string
	processes []*Process
	server    *http.Server
	sick      atomic.Bool
	served    atomic.Int64
	conns     sync.Map // of a server in this process
}

//go:embed workload.php
var workloadPHP []byte

// StartWorkload starts a workload and waits until it answers.
func StartWorkload(t TB, o WorkloadOptions) *Workload {
	t.Helper()
	if !o.Address.IsValid() {
		o.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if o.Port == 0 {
		o.Port = FreePort(t)
	}
	if o.Workers == 0 {
		o.Workers = 4
	}
	w := &Workload{o: o, dir: t.TempDir(), address: net.JoinHostPort(o.Address.String(), strconv.Itoa(o.Port))}
	switch o.Kind {
	case PHP:
		w.startPHP(t)
	case FPM:
		w.startFPM(t)
	case Go:
		w.startGo(t)
	case GoProcess:
		w.startGoProcess(t)
	default:
		t.Fatalf("there is no workload of kind %d", o.Kind)
	}
	client := &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	ready := func() error {
		_, err := ReadBody(client.Get("http://" + w.address + "/healthz")) //nolint:noctx // the client has a time limit
		return err
	}
	if len(w.processes) == 0 {
		Eventually(t, 10*time.Second, "workload "+o.ID, ready)
	} else {
		w.processes[0].Await(t, 20*time.Second, "workload "+o.ID, ready)
	}
	return w
}

// Address is the workload's "host:port".
func (w *Workload) Address() string { return w.address }

// Addr is the workload's IP address.
func (w *Workload) Addr() netip.Addr { return w.o.Address }

// Port is the workload's port.
func (w *Workload) Port() int { return w.o.Port }

// ID is the id that the workload answers with.
func (w *Workload) ID() string { return w.o.ID }

// PIDs are the process ids of the workload's processes, the front one first;
// none for one in this process.
func (w *Workload) PIDs() []int {
	var pids []int
	for _, p := range w.processes {
		pids = append(pids, p.PID())
	}
	return pids
}

// Kill ends the workload at once (SIGKILL), with the requests it is working on.
// Connections to one in this process are reset.
func (w *Workload) Kill() {
	for _, p := range w.processes {
		p.Kill()
	}
	if w.server != nil {
		w.conns.Range(func(c, _ any) bool {
			if conn, ok := c.(net.Conn); ok {
				reset(conn)
			}
			return true
		})
		_ = w.server.Close()
	}
}

// Stop ends the workload as its init system would: it answers what it has
// accepted, and takes no more.
func (w *Workload) Stop() {
	for _, p := range w.processes {
		if p.name == "nginx" || p.name == "php-fpm" {
			p.Signal(syscall.SIGQUIT) // their graceful end
			select {
			case <-p.exited:
			case <-time.After(10 * time.Second):
			}
		}
		p.Stop()
	}
	if w.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = w.server.Shutdown(ctx)
	}
}

// Pause stops the workload's processes (SIGSTOP); Resume lets them go on.
func (w *Workload) Pause() {
	for _, p := range w.processes {
		p.Pause()
	}
}

// Resume lets a paused workload go on.
func (w *Workload) Resume() {
	for _, p := range w.processes {
		p.Resume()
	}
}

// SetHealthy says what /healthz answers from now on.
func (w *Workload) SetHealthy(t TB, healthy bool) {
	t.Helper()
	w.sick.Store(!healthy)
	file := filepath.Join(w.dir, "unhealthy")
	err := os.Remove(file)
	if !healthy {
		err = os.WriteFile(file, nil, 0o600)
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("%v", err)
	}
}

// Fault is what is wrong with a workload.
type Fault struct {
	// Percent of the requests that it befalls.
	Percent float64 `json:"percent"`
	// Code is the status that they are answered with; 0 leaves it as it is.
	Code int `json:"code"`
	// MS is by how many milliseconds their answers are late.
	MS int `json:"ms"`
	// Path that it befalls, "" for all.
	Path string `json:"path"`
}

// SetFault makes a workload do wrong from now on; the zero value makes it
// well again. Its health check does not notice.
func (w *Workload) SetFault(t TB, f Fault) {
	t.Helper()
	text, err := json.Marshal(f)
	if err != nil {
		t.Fatalf("%v", err)
	}
	// Renamed, so that nobody reads half of it.
	file := w.write(t, "fault.new", text)
	if err := os.Rename(file, filepath.Join(w.dir, "fault")); err != nil {
		t.Fatalf("%v", err)
	}
}

// fault returns what is wrong, as its file says.
func (w *Workload) fault() (f Fault) {
	text, err := os.ReadFile(filepath.Join(w.dir, "fault"))
	if err == nil {
		_ = json.Unmarshal(text, &f) // it was made by SetFault
	}
	return f
}

func (w *Workload) environment() []string {
	return []string{
		"WORKLOAD_PLATFORM=" + w.o.Platform, "WORKLOAD_ID=" + w.o.ID, "WORKLOAD_ZONE=" + w.o.Zone, "WORKLOAD_DIR=" + w.dir,
	}
}

func (w *Workload) write(t TB, name string, text []byte) string {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

func (w *Workload) startPHP(t TB) {
	t.Helper()
	script := w.write(t, "index.php", workloadPHP)
	w.processes = []*Process{Start(t, Command{
		Name: "php-" + w.o.ID, Path: Tool(t, "php"), Args: []string{"-S", w.address, script}, Dir: w.dir,
		Env: append(w.environment(), "PHP_CLI_SERVER_WORKERS="+strconv.Itoa(w.o.Workers)),
		// PHP's workers get it from their master.
		DeathSignal: syscall.SIGTERM,
	})}
}

func (w *Workload) startFPM(t TB) {
	t.Helper()
	script := w.write(t, "index.php", workloadPHP)
	socket := socketPath(t)
	user := ""
	if os.Geteuid() == 0 {
		user = "user = root\ngroup = root\n"
	}
	fpm := w.write(t, "fpm.conf", []byte(fmt.Sprintf(`[global]
error_log = /proc/self/fd/2
daemonize = no
[www]
%slisten = %s
listen.backlog = 511
pm = static
pm.max_children = %d
clear_env = no
catch_workers_output = yes
`, user, socket, w.o.Workers)))
	keepAlive := w.o.KeepAlive
	if keepAlive == 0 {
		keepAlive = 75 * time.Second
	}
	listen, realIP := w.address, ""
	for _, from := range w.o.RealIPFrom {
		realIP += "set_real_ip_from " + from + "; "
	}
	if realIP != "" {
		realIP += "real_ip_header X-Forwarded-For; real_ip_recursive on;"
	}
	nginx := w.write(t, "nginx.conf", []byte(fmt.Sprintf(`daemon off;
worker_processes 1;
pid %[1]s/nginx.pid;
error_log stderr warn;
%[5]s
events { worker_connections 1024; }
http {
  access_log off;
  keepalive_timeout %[4]dms;
  keepalive_requests 100000;
  client_body_temp_path %[1]s/body;
  fastcgi_temp_path %[1]s/fastcgi;
  proxy_temp_path %[1]s/proxy;
  scgi_temp_path %[1]s/scgi;
  uwsgi_temp_path %[1]s/uwsgi;
  %[7]s
  server {
    listen %[2]s;
    location / {
      fastcgi_pass unix:%[3]s;
      fastcgi_read_timeout 300s;
      fastcgi_param SCRIPT_FILENAME %[6]s;
      fastcgi_param REQUEST_METHOD $request_method;
      fastcgi_param REQUEST_URI $request_uri;
      fastcgi_param QUERY_STRING $query_string;
      fastcgi_param CONTENT_TYPE $content_type;
      fastcgi_param CONTENT_LENGTH $content_length;
      fastcgi_param SERVER_PROTOCOL $server_protocol;
      fastcgi_param REMOTE_ADDR $remote_addr;
    }
  }
}
`, w.dir, listen, socket, keepAlive.Milliseconds(), nginxUser(), script, realIP)))

	// Both masters end their workers when they are asked to end, not when they are killed.
	php := Start(t, Command{
		Name: "php-fpm", Path: Tool(t, "php-fpm"), Args: []string{"-R", "-F", "-y", fpm},
		Dir: w.dir, Env: w.environment(), DeathSignal: syscall.SIGTERM,
	})
	php.Await(t, 10*time.Second, "php-fpm", func() error {
		_, err := os.Stat(socket)
		return err
	})
	front := Start(t, Command{
		Name: "nginx", Path: Tool(t, "nginx"), Args: []string{"-e", "stderr", "-p", w.dir, "-c", nginx},
		Dir: w.dir, DeathSignal: syscall.SIGTERM,
	})
	w.processes = []*Process{front, php}
}

func nginxUser() string {
	if os.Geteuid() == 0 {
		return "user root;"
	}
	return ""
}

// socketPath is a short path: a unix socket's may have at most 107 bytes, and a
// test's temporary folder carries the test's name.
func socketPath(t TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "fpm")
	if err != nil {
		t.Fatalf("%v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "s")
}

// httpChildVariable holds the configuration of a Go workload in its own process.
const httpChildVariable = "CAUSEWAY_HTTP_WORKLOAD"

type httpChild struct {
	Address, Platform, ID, Zone, Dir string
}

func (w *Workload) startGoProcess(t TB) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatalf("%v", err)
	}
	config, err := json.Marshal(httpChild{Address: w.address, Platform: w.o.Platform, ID: w.o.ID, Zone: w.o.Zone, Dir: w.dir})
	if err != nil {
		t.Fatalf("%v", err)
	}
	w.processes = []*Process{Start(t, Command{
		Name: "http-" + w.o.ID, Path: self, Env: []string{httpChildVariable + "=" + string(config)},
	})}
}

// runHTTPChild is the whole life of a Go workload's process.
func runHTTPChild(config string) int {
	var c httpChild
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", c.Address)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	w := &Workload{dir: c.Dir, o: WorkloadOptions{Platform: c.Platform, ID: c.ID, Zone: c.Zone}}
	server := &http.Server{Handler: w, ReadHeaderTimeout: time.Minute}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	go func() { _ = server.Serve(l) }()
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.Background(), 9*time.Second)
	defer cancel()
	_ = server.Shutdown(end)
	return 0
}

func (w *Workload) startGo(t TB) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", w.address)
	if err != nil {
		t.Fatalf("workload %s: %v", w.o.ID, err)
	}
	w.server = &http.Server{
		Handler: w, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0),
		ConnState: func(c net.Conn, state http.ConnState) {
			switch state {
			case http.StateNew:
				w.conns.Store(c, true)
			case http.StateClosed, http.StateHijacked:
				w.conns.Delete(c)
			}
		},
	}
	server := w.server
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() { _ = server.Close() })
}

// Served is how many requests, health checks aside, a workload in this process
// has answered.
func (w *Workload) Served() int64 { return w.served.Load() }

// ServeHTTP answers as workload.php does.
func (w *Workload) ServeHTTP(out http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/healthz" {
		_, err := os.Stat(filepath.Join(w.dir, "unhealthy"))
		if w.sick.Load() || err == nil {
			http.Error(out, "unhealthy", http.StatusServiceUnavailable)
			return
		}
		_, _ = io.WriteString(out, "ok\n")
		return
	}
	if r.URL.Path == websocketPath && strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.serveWebsocket(out, r)
		return
	}
	body, _ := io.Copy(io.Discard, r.Body)
	number := func(name string, otherwise int) int {
		if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
			return n
		}
		return otherwise
	}
	headers := map[string]string{"host": r.Host}
	for name, values := range r.Header {
		headers[strings.ToLower(name)] = strings.Join(values, ", ")
	}
	out.Header().Set("Content-Type", "application/json")
	if f := w.fault(); rand.Float64()*100 < f.Percent && (f.Path == "" || f.Path == r.URL.Path) {
		TakeTime(time.Duration(f.MS) * time.Millisecond)
		if f.Code != 0 {
			out.WriteHeader(f.Code)
		}
	}
	switch r.URL.Path {
	case "/slow":
		select {
		case <-time.After(time.Duration(number("ms", 0)) * time.Millisecond):
		case <-r.Context().Done():
			return
		}
	case "/status":
		out.WriteHeader(min(max(number("code", 200), 200), 599))
	}
	remote, _, _ := net.SplitHostPort(r.RemoteAddr)
	w.served.Add(1)
	_ = json.NewEncoder(out).Encode(Backend{
		Platform: w.o.Platform, ID: w.o.ID, Zone: w.o.Zone, PID: os.Getpid(), Runtime: runtime.Version(),
		Remote: remote, Method: r.Method, Path: r.URL.Path, Body: int(body), Headers: headers,
	})
}

// Echo is a TCP server that greets each connection with a line, its id, and then
// sends back what it gets.
type Echo struct {
	listener net.Listener
	id       string

	mu    sync.Mutex
	conns map[net.Conn]bool
}

// StartEcho starts an echo server; an address that is not valid means a free
// loopback one, and port 0 a free port.
func StartEcho(t TB, id string, address netip.Addr, port int) *Echo {
	t.Helper()
	if !address.IsValid() {
		address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if port == 0 {
		port = FreePort(t)
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(address.String(), strconv.Itoa(port)))
	if err != nil {
		t.Fatalf("echo server: %v", err)
	}
	e := &Echo{listener: l, id: id, conns: map[net.Conn]bool{}}
	go e.serve()
	t.Cleanup(e.Kill)
	return e
}

// Address is the server's "host:port".
func (e *Echo) Address() string { return e.listener.Addr().String() }

// Kill closes the server and resets its connections.
func (e *Echo) Kill() {
	_ = e.listener.Close()
	e.mu.Lock()
	defer e.mu.Unlock()
	for c := range e.conns {
		reset(c)
	}
}

// Conns is the number of connections that are open.
func (e *Echo) Conns() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.conns)
}

func (e *Echo) serve() {
	for {
		c, err := e.listener.Accept()
		if err != nil {
			return
		}
		e.mu.Lock()
		e.conns[c] = true
		e.mu.Unlock()
		go func() {
			defer func() {
				_ = c.Close()
				e.mu.Lock()
				defer e.mu.Unlock()
				delete(e.conns, c)
			}()
			if _, err := io.WriteString(c, e.id+"\n"); err == nil {
				_, _ = io.Copy(c, bufio.NewReader(c))
			}
		}()
	}
}

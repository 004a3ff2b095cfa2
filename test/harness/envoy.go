package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"sigs.k8s.io/yaml"
)

// EnvoyOptions of [StartEnvoy]; the zero value will do.
type EnvoyOptions struct {
	// Name of the process in messages and logs; "envoy" if empty.
	Name string
	// LogLevel is Envoy's, with components if wanted ("info", "warning,upstream:debug");
	// "info" if empty.
	LogLevel string
	// Concurrency is the number of worker threads; 1 if zero.
	Concurrency int
	// Args are added to Envoy's command line.
	Args []string
	// NoWait returns as soon as the admin interface answers, even if Envoy still
	// waits for its control plane.
	NoWait bool
}

// Envoy is a running Envoy proxy.
type Envoy struct {
	*Process

	address string
	client  *http.Client
}

// StartEnvoy starts the real Envoy with a bootstrap in YAML or JSON and waits
// until it serves. A bootstrap without an admin interface is given one on a free
// loopback port, and so is one whose admin port is 0.
func StartEnvoy(t TB, bootstrap []byte, o EnvoyOptions) *Envoy {
	t.Helper()
	config, err := withAdmin(bootstrap)
	if err != nil {
		t.Fatalf("bootstrap: %v", err)
	}
	dir := t.TempDir()
	file, adminFile := filepath.Join(dir, "envoy.json"), filepath.Join(dir, "admin")
	if err := os.WriteFile(file, config, 0o600); err != nil {
		t.Fatalf("bootstrap: %v", err)
	}
	if o.Name == "" {
		o.Name = "envoy"
	}
	component, level := "", o.LogLevel
	if l, c, ok := strings.Cut(o.LogLevel, ","); ok {
		level, component = l, c
	}
	if level == "" {
		level = "info"
	}
	args := []string{
		"-c", file, "--admin-address-path", adminFile, "--log-level", level,
		// No two proxies share memory, so no base id can collide.
		"--disable-hot-restart",
		"--concurrency", strconv.Itoa(max(1, o.Concurrency)),
		// Listeners that close do so in a test's time, not in ten minutes.
		"--drain-time-s", "2", "--parent-shutdown-time-s", "3",
	}
	if component != "" {
		args = append(args, "--component-log-level", component)
	}
	e := &Envoy{
		Process: Start(t, Command{Name: o.Name, Path: Tool(t, "envoy"), Args: append(args, o.Args...), Dir: dir}),
		client:  &http.Client{Timeout: 10 * time.Second},
	}
	e.Await(t, 20*time.Second, o.Name+"'s admin interface", func() error {
		data, err := os.ReadFile(adminFile)
		if err != nil {
			return err
		}
		if _, _, err := net.SplitHostPort(string(data)); err != nil {
			return err
		}
		e.address = string(data)
		return nil
	})
	if !o.NoWait {
		e.WaitReady(t, 20*time.Second)
	}
	return e
}

// withAdmin returns a bootstrap as JSON with an admin interface.
func withAdmin(bootstrap []byte) ([]byte, error) {
	var config map[string]any
	if err := yaml.Unmarshal(bootstrap, &config); err != nil {
		return nil, err
	}
	if config == nil {
		return nil, errors.New("it is empty")
	}
	admin, _ := config["admin"].(map[string]any)
	if admin == nil {
		admin = map[string]any{}
		config["admin"] = admin
	}
	if admin["address"] == nil {
		admin["address"] = map[string]any{
			"socket_address": map[string]any{"address": "127.0.0.1", "port_value": 0},
		}
	}
	return json.Marshal(config)
}

// AdminAddress is the "host:port" of the admin interface.
func (e *Envoy) AdminAddress() string { return e.address }

// WaitReady waits until Envoy says that it serves.
func (e *Envoy) WaitReady(t TB, limit time.Duration) {
	t.Helper()
	e.Await(t, limit, e.name+" to be ready", func() error {
		_, err := e.get("/ready")
		return err
	})
}

func (e *Envoy) get(path string) ([]byte, error) {
	return ReadBody(e.client.Get("http://" + e.address + path)) //nolint:noctx // the client has a time limit
}

// ReadBody returns the body of an answer of status 200; any other status is an error.
func ReadBody(r *http.Response, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	if err == nil && r.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", r.StatusCode, bytes.TrimSpace(body[:min(len(body), 500)]))
	}
	return body, err
}

// Admin returns what the admin interface answers to GET path.
func (e *Envoy) Admin(t TB, path string) []byte {
	t.Helper()
	body, err := e.get(path)
	if err != nil {
		t.Fatalf("%s: GET %s: %v", e.name, path, err)
	}
	return body
}

// AdminPost returns what the admin interface answers to POST path, which is what
// changes something ("/drain_listeners", "/logging?level=debug").
func (e *Envoy) AdminPost(t TB, path string) []byte {
	t.Helper()
	body, err := ReadBody(e.client.Post("http://"+e.address+path, "", nil)) //nolint:noctx // the client has a time limit
	if err != nil {
		t.Fatalf("%s: POST %s: %v", e.name, path, err)
	}
	return body
}

// Stats returns the counters and gauges whose names start with prefix.
func (e *Envoy) Stats(t TB, prefix string) map[string]uint64 {
	t.Helper()
	stats, err := e.stats(prefix)
	if err != nil {
		t.Fatalf("%s: stats: %v", e.name, err)
	}
	return stats
}

func (e *Envoy) stats(prefix string) (map[string]uint64, error) {
	body, err := e.get("/stats?filter=" + url.QueryEscape("^"+regexp.QuoteMeta(prefix)))
	if err != nil {
		return nil, err
	}
	stats := map[string]uint64{}
	for line := range strings.Lines(string(body)) {
		name, text, ok := strings.Cut(strings.TrimSpace(line), ": ")
		if !ok || !strings.HasPrefix(name, prefix) {
			continue
		}
		if value, err := strconv.ParseUint(text, 10, 64); err == nil { // histograms and texts do not parse
			stats[name] = value
		}
	}
	return stats, nil
}

// WaitStat waits until a counter or gauge has at least the given value.
func (e *Envoy) WaitStat(t TB, limit time.Duration, name string, least uint64) {
	t.Helper()
	e.Await(t, limit, fmt.Sprintf("%s >= %d", name, least), func() error {
		stats, err := e.stats(name)
		if err == nil && stats[name] < least {
			err = fmt.Errorf("it is %d", stats[name])
		}
		return err
	})
}

// ConfigDump returns Envoy's whole configuration, endpoints included, as JSON.
func (e *Envoy) ConfigDump(t TB) []byte {
	t.Helper()
	return e.Admin(t, "/config_dump?include_eds")
}

// Clusters returns "/clusters?format=json": each cluster's hosts with their
// health and statistics.
func (e *Envoy) Clusters(t TB) []byte {
	t.Helper()
	return e.Admin(t, "/clusters?format=json")
}

// Hosts returns the "address:port" of a cluster's hosts with the health that
// Envoy gives them, in the words of "/clusters": "healthy", or the flags that
// say why not, such as "/failed_active_hc". A cluster that Envoy does not have
// has no hosts.
func (e *Envoy) Hosts(t TB, cluster string) map[string]string {
	t.Helper()
	hosts := map[string]string{}
	for line := range strings.Lines(string(e.Admin(t, "/clusters?filter=^"+escapeRegexp(cluster)+"$"))) {
		rest, ok := strings.CutPrefix(strings.TrimSpace(line), cluster+"::")
		if !ok {
			continue
		}
		if host, health, ok := strings.Cut(rest, "::health_flags::"); ok {
			hosts[host] = health
		}
	}
	return hosts
}

// Listener waits for the listener of that name and returns its "host:port", also
// where the configuration leaves the port to the kernel.
func (e *Envoy) Listener(t TB, limit time.Duration, name string) string {
	t.Helper()
	var address string
	e.Await(t, limit, "listener "+name, func() error {
		body, err := e.get("/listeners?format=json")
		if err != nil {
			return err
		}
		var answer struct {
			ListenerStatuses []struct {
				Name         string
				LocalAddress struct {
					SocketAddress struct {
						Address   string
						PortValue int `json:"port_value"`
					} `json:"socket_address"`
				} `json:"local_address"`
			} `json:"listener_statuses"`
		}
		if err := json.Unmarshal(body, &answer); err != nil {
			return err
		}
		var names []string
		for _, l := range answer.ListenerStatuses {
			if l.Name == name {
				a := l.LocalAddress.SocketAddress
				address = net.JoinHostPort(a.Address, strconv.Itoa(a.PortValue))
				return nil
			}
			names = append(names, l.Name)
		}
		return fmt.Errorf("it has %q", names)
	})
	return address
}

// ValidateEnvoy has the real Envoy check a bootstrap in YAML or JSON and fails
// the test with what it says of one that it would not start with.
func ValidateEnvoy(t TB, bootstrap []byte) {
	t.Helper()
	if err := CheckEnvoyConfig(bootstrap); err != nil {
		t.Fatalf("%v", err)
	}
}

// CheckEnvoyConfig returns what the real Envoy says of a bootstrap in YAML or
// JSON that it would not start with.
func CheckEnvoyConfig(bootstrap []byte) error {
	envoy, err := FindTool("envoy")
	if err != nil {
		return err
	}
	config, err := yaml.YAMLToJSON(bootstrap)
	if err != nil {
		return err
	}
	file, err := os.CreateTemp("", "causeway-*.json")
	if err != nil {
		return err
	}
	defer os.Remove(file.Name())
	_, err = file.Write(config)
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	check := exec.Command(envoy, "--mode", "validate", "--log-level", "warning", "--disable-hot-restart", "-c", file.Name()) //nolint:noctx // ends by itself
	var out bytes.Buffer
	check.Stdout, check.Stderr = &out, &out
	check.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err = spawn(check.Start); err == nil {
		err = check.Wait()
	}
	if err != nil {
		return fmt.Errorf("envoy --mode validate: %w\n%s", err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// escapeRegexp quotes what Envoy's filter parameter and a URL take as special.
func escapeRegexp(s string) string {
	var b strings.Builder
	for _, r := range []byte(s) {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '_':
			b.WriteByte(r)
		default:
			fmt.Fprintf(&b, "%%5C%%%02X", r)
		}
	}
	return b.String()
}

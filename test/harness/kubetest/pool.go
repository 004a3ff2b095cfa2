package kubetest

import (
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/causeway-mesh/causeway/test/harness"
)

// Pool keeps the API servers of a package's tests. A test takes one for itself
// alone, with what Prepare installed and nothing else. When it ends, what it
// made is deleted, and the next test takes the same server: starting one costs
// several seconds of a core. The zero value with a Prepare will do.
type Pool struct {
	// Prepare installs what every test finds.
	Prepare func(t harness.TB, k *Kube)
	// Most is how many servers there are at once at most, 0 for as many as tests ask for. A test
	// that finds none waits: tests wait most of the time, and each further server costs more than that.
	Most int

	mu   sync.Mutex
	t    harness.TB
	free []*pooled
	// taken has a value for each server that a test has.
	taken chan struct{}
}

// pooled is an API server and what etcd held after Prepare.
type pooled struct {
	*Kube
	base map[string]string
}

// Main is the body of a TestMain whose tests take servers from pools. Servers
// of all pools end with it.
func Main(m interface{ Run() int }, pools ...*Pool) {
	harness.Main(&main{m, pools})
}

type main struct {
	tests interface{ Run() int }
	pools []*Pool
}

// testsAtOnce is how many tests run side by side: they mostly wait for what the
// control plane does now and then, so that there may be more than cores.
const testsAtOnce = 4

func (m *main) Run() int {
	harness.Parallel(testsAtOnce)
	code := 1
	logf := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	err := harness.Run(context.Background(), "kubetest", logf, func(_ context.Context, t harness.TB) {
		for _, p := range m.pools {
			p.t = t
		}
		code = m.tests.Run()
	})
	if err != nil {
		logf("%v", err)
		return 1
	}
	return code
}

// Take returns a server that is the test's until it ends.
func (p *Pool) Take(t harness.TB) *Kube {
	t.Helper()
	if taken := p.atOnce(); taken != nil {
		taken <- struct{}{}
		t.Cleanup(func() { <-taken })
	}
	k := p.take()
	if k == nil {
		k = p.start(t)
	}
	k.t = &lent{TB: p.t, taker: t}
	t.Cleanup(func() {
		k.t = p.t
		// A server that the test ended or started again belongs to the test.
		if t.Failed() || !k.Server().Running() {
			k.Server().Stop()
			k.Etcd().Stop()
			return
		}
		if err := k.reset(); err != nil {
			t.Logf("the API server is not used again: %v", err)
			k.Server().Stop()
			k.Etcd().Stop()
			return
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free = append(p.free, k)
	})
	return k.Kube
}

// start starts a server for a test. If that fails, the test fails and nothing stays.
func (p *Pool) start(t harness.TB) *pooled {
	t.Helper()
	l := &lent{TB: p.t, taker: t}
	started := false
	t.Cleanup(func() {
		if !started {
			l.stop()
		}
		l.over.Store(true)
	})
	k := &pooled{Kube: Start(l, Options{})}
	p.Prepare(l, k.Kube)
	base, err := k.keys()
	if err != nil {
		t.Fatalf("reading etcd: %v", err)
	}
	k.base, started = base, true
	return k
}

// lent is the TB of a server that a test has: what fails is the test, and what was started stays until the pool ends.
type lent struct {
	harness.TB
	taker harness.TB
	// over is true once the taker has ended: what a server says when the pool ends is no test's any more.
	over atomic.Bool

	ends []func()
}

func (l *lent) Helper() { l.taker.Helper() }
func (l *lent) Logf(format string, args ...any) {
	if l.over.Load() {
		l.TB.Logf(format, args...)
		return
	}
	l.taker.Logf(format, args...)
}

func (l *lent) Fatalf(format string, args ...any) { l.taker.Helper(); l.taker.Fatalf(format, args...) }
func (l *lent) Failed() bool                      { return l.taker.Failed() }

// Cleanup calls f once, when the pool ends or by stop.
func (l *lent) Cleanup(f func()) {
	f = sync.OnceFunc(f)
	l.ends = append(l.ends, f)
	l.TB.Cleanup(f)
}

func (l *lent) stop() {
	for _, end := range slices.Backward(l.ends) {
		end()
	}
}

// atOnce returns what has a value for each server that a test has, nil if there may be any number.
func (p *Pool) atOnce() chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.taken == nil && p.Most > 0 {
		p.taken = make(chan struct{}, p.Most)
	}
	return p.taken
}

func (p *Pool) take() *pooled {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return nil
	}
	last := p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return last
}

// ownKeys are prefixes of what the API server writes for itself.
var ownKeys = []string{"/registry/leases/kube-system/", "/registry/peerserverleases/", "/registry/ranges/", "/registry/apiregistration.k8s.io/"}

// keepKeys are prefixes of what cannot be taken from a running API server
// without a trace: it serves a kind for a while after its definition is gone.
var keepKeys = []string{"/registry/apiextensions.k8s.io/", "/registry/clusterroles/", "/registry/clusterrolebindings/", "/registry/namespaces/kube-"}

func hasPrefix(key string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(key, p) {
			return true
		}
	}
	return false
}

// reset deletes what a test made. It returns an error where that is not enough:
// the test changed or deleted what Prepare installed, or defined kinds or rights.
func (k *pooled) reset() error {
	now, err := k.keys()
	if err != nil {
		return err
	}
	var added []string
	for key, revision := range now {
		was, ok := k.base[key]
		switch {
		case hasPrefix(key, ownKeys) || was == revision:
		case ok || hasPrefix(key, keepKeys):
			return fmt.Errorf("%s is another one", key)
		default:
			added = append(added, key)
		}
	}
	for key := range k.base {
		if _, ok := now[key]; !ok && !hasPrefix(key, ownKeys) {
			return fmt.Errorf("%s is gone", key)
		}
	}
	for _, key := range added {
		body := map[string]any{"key": base64.StdEncoding.EncodeToString([]byte(key))}
		if err := k.etcdCall("/v3/kv/deleterange", body, &struct{}{}); err != nil {
			return err
		}
	}
	return nil
}

// keys returns the revision at which each of the API server's keys was written last.
func (k *Kube) keys() (map[string]string, error) {
	var answer struct {
		KVs []struct {
			Key      []byte `json:"key"`
			Revision string `json:"mod_revision"`
		} `json:"kvs"`
	}
	encode := base64.StdEncoding.EncodeToString
	err := k.etcdCall("/v3/kv/range", map[string]any{
		"key": encode([]byte("/registry/")), "range_end": encode([]byte("/registry0")), "keys_only": true,
	}, &answer)
	if err != nil {
		return nil, err
	}
	out := make(map[string]string, len(answer.KVs))
	for _, kv := range answer.KVs {
		out[string(kv.Key)] = kv.Revision
	}
	return out, nil
}

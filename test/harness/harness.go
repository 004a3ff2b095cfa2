// Package harness starts the real parts that Causeway is tested on: Envoy, PHP
// behind nginx, and the faults between them. Its packages kubetest and mototest
// start a Kubernetes API and an EC2 API: they need large libraries, which the
// tests without them do not compile. Every part listens on addresses of its own, keeps its log when the test
// fails, and is gone when the test is over, however that came about.
//
// The parts take a [TB], which *testing.T is; a program that is no test gets one
// from [Run]. Tests that need addresses off the loopback range (the Kubernetes
// API refuses loopback ones in EndpointSlices) call [Main] from TestMain.
package harness

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
)

// TB is what the harness needs of a *testing.T.
type TB interface {
	Helper()
	Name() string
	Logf(format string, args ...any)
	Fatalf(format string, args ...any)
	Failed() bool
	Cleanup(f func())
	TempDir() string
}

// Run calls f with a TB for a program that is no test. When f returns, fails, or
// ctx has ended by the time it returns, everything that it started is stopped.
// The error is what f failed with.
func Run(ctx context.Context, name string, logf func(format string, args ...any), f func(ctx context.Context, t TB)) error {
	r := &run{name: name, logf: logf}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			if p := recover(); p != nil {
				r.fail(fmt.Errorf("panic: %v", p))
			}
		}()
		f(ctx, r)
	}()
	<-done
	r.cleanUp()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// run is the TB of a program that is no test.
type run struct {
	name string
	logf func(string, ...any)

	mu       sync.Mutex
	cleanups []func()
	err      error
}

func (r *run) Helper() {}

func (r *run) Name() string { return r.name }

func (r *run) Logf(format string, args ...any) {
	if r.logf != nil {
		r.logf(format, args...)
	}
}

func (r *run) Fatalf(format string, args ...any) {
	r.fail(fmt.Errorf(format, args...))
	runtime.Goexit()
}

func (r *run) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err != nil
}

func (r *run) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

func (r *run) TempDir() string {
	dir, err := os.MkdirTemp("", "causeway-")
	if err != nil {
		r.Fatalf("temporary directory: %v", err)
	}
	r.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (r *run) fail(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
}

func (r *run) cleanUp() {
	for {
		r.mu.Lock()
		if len(r.cleanups) == 0 {
			r.mu.Unlock()
			return
		}
		last := r.cleanups[len(r.cleanups)-1]
		r.cleanups = r.cleanups[:len(r.cleanups)-1]
		r.mu.Unlock()

		done := make(chan struct{})
		go func() { // a cleanup may fail too, which ends its goroutine
			defer close(done)
			last()
		}()
		<-done
	}
}

// tools says where each program that the harness starts is found and which
// argument of test/tools/get brings it.
var tools = []struct{ name, path, get string }{
	{"etcd", "bin/etcd", "etcd"},
	{"kube-apiserver", "bin/kube-apiserver", "kube-apiserver"},
	{"helm", "bin/helm", "helm"},
	{"ec2-metadata-mock", "bin/ec2-metadata-mock", "ec2-metadata-mock"},
	{"nfpm", "bin/nfpm", "nfpm"},
	{"envoy", "venv/lib/python*/site-packages/envoy/_bin/envoy", "venv"},
	{"moto_server", "venv/bin/moto_server", "venv"},
	{"php", "/usr/bin/php8.2", "debian"},
	{"php-fpm", "/usr/sbin/php-fpm8.2", "debian"},
	{"nginx", "/usr/sbin/nginx", "debian"},
	{"redis-server", "/usr/bin/redis-server", "debian"},
	{"chromium", "/usr/bin/chromium", "browser"},
}

// FindTool returns the path of a program that the harness starts, or an error
// that says how to get it.
func FindTool(name string) (string, error) {
	i := slices.IndexFunc(tools, func(t struct{ name, path, get string }) bool { return t.name == name })
	if i < 0 {
		return "", fmt.Errorf("the harness knows no tool %q", name)
	}
	root, err := Root()
	if err != nil {
		return "", err
	}
	pattern := tools[i].path
	if !filepath.IsAbs(pattern) {
		dir := os.Getenv("CAUSEWAY_TOOLS")
		if dir == "" {
			dir = filepath.Join(root, ".tools")
		}
		pattern = filepath.Join(dir, pattern)
	}
	found, err := filepath.Glob(pattern)
	if err == nil && len(found) > 0 {
		return found[0], nil
	}
	if filepath.IsAbs(tools[i].path) { // another system's place for it
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not at %s: run `make tools`, or `test/tools/get %s` for it alone, in %s",
		name, pattern, tools[i].get, root)
}

// Tool is FindTool for a test, which fails where the tool is missing.
func Tool(t TB, name string) string {
	t.Helper()
	path, err := FindTool(name)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return path
}

// Root is the folder of the checkout: the first one, from the working directory
// upwards, that holds Causeway's go.mod.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		mod, err := os.ReadFile(filepath.Join(at, "go.mod"))
		if err == nil && strings.HasPrefix(string(mod), "module github.com/causeway-mesh/causeway\n") {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("%s is not inside a checkout of causeway", dir)
		}
	}
}

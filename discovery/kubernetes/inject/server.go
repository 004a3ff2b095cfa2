package inject

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// lingers is for how long a replica that is told to end goes on answering: until nobody sends to it any more.
const lingers = 5 * time.Second

// Options of a webhook.
type Options struct {
	// Rest reaches the cluster.
	Rest *rest.Config
	// File has the configuration; it is read again when it changes.
	File string
	// Namespace is the control plane's own, Version the program's.
	Namespace, Version string
	// Audience is for whom tokens of pods are where the configuration says nothing.
	Audience string
	// Wants is Handler's.
	Wants    func(namespace string)
	Log      *slog.Logger
	Registry prometheus.Registerer
}

// Webhook is the injection of one replica.
type Webhook struct {
	handler *Handler
	keeper  *keeper
	client  kubernetes.Interface
	log     *slog.Logger
}

// NewWebhook reads the configuration and returns a webhook. Errors name the flag of causeway serve at fault.
func NewWebhook(o Options) (*Webhook, error) {
	c := rest.CopyConfig(o.Rest)
	c.UserAgent, c.QPS = "causeway-inject", -1 // as many as pods are made
	client, err := kubernetes.NewForConfig(c)
	if err != nil {
		return nil, fmt.Errorf("kubernetes: %w", err)
	}
	w := &Webhook{client: client, log: o.Log, keeper: newKeeper(client, o.Namespace, o.Log, o.Registry)}
	file := &configFile{path: o.File, namespace: o.Namespace, version: o.Version, audience: o.Audience, log: o.Log}
	if err := file.load(); err != nil {
		return nil, err
	}
	server := &serverVersion{client: client}
	w.handler = NewHandler(func() *Config {
		config := *file.current()
		config.Kubernetes = server.get()
		return &config
	}, func(ctx context.Context, name string) (Namespace, error) {
		n, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return Namespace{}, err //nolint:wrapcheck // the caller says what it is for
		}
		return Namespace{n.Name, n.Labels, n.Annotations}, nil
	}, o.Log, o.Registry)
	w.handler.Wants = o.Wants
	return w, nil
}

// Serve answers API servers until a while after the context has ended, so that those who still send here are answered.
func (w *Webhook) Serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.Handle(Path, w.handler)
	srv := &http.Server{
		Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 15 * time.Second,
		IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 16 << 10,
		TLSConfig: &tls.Config{GetCertificate: w.keeper.certificate, MinVersion: tls.VersionTLS12},
		ErrorLog:  slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return w.keeper.run(ctx) })
	g.Go(func() error {
		if err := srv.ServeTLS(l, "", ""); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("injection: %w", err)
		}
		return nil
	})
	g.Go(func() error {
		<-ctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingers)
		defer cancel()
		<-end.Done()
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lingers)
		defer cancel()
		return errors.Join(srv.Shutdown(last), ctx.Err())
	})
	return g.Wait() //nolint:wrapcheck // the context's, or named
}

// serverVersion is the API server's version, asked for when a pod comes and known for an hour.
type serverVersion struct {
	client kubernetes.Interface
	mu     sync.Mutex
	text   string
	asked  time.Time
}

// get returns the version, "" if it is not known: then nothing is refused for its sake.
func (v *serverVersion) get() string {
	v.mu.Lock()
	defer v.mu.Unlock()
	if time.Since(v.asked) < time.Hour {
		return v.text
	}
	if info, err := v.client.Discovery().ServerVersion(); err == nil {
		v.text, v.asked = info.GitVersion, time.Now()
	}
	return v.text
}

// configFile is the configuration in a file. Each pod's is that of the file at the time: it is small.
type configFile struct {
	path, namespace, version, audience string
	log                                *slog.Logger

	mu     sync.Mutex
	text   []byte
	config *Config
	failed string
}

func (f *configFile) load() error {
	text, err := os.ReadFile(f.path)
	if err != nil {
		return fmt.Errorf("--inject-config: %w", err)
	}
	if f.config != nil && bytes.Equal(text, f.text) {
		return nil
	}
	config, err := ParseConfig(text, f.namespace, f.version)
	if err != nil {
		return fmt.Errorf("--inject-config: %s: %w", f.path, err)
	}
	if f.audience != "" && config.TokenAudience != f.audience {
		if bytes.Contains(text, []byte("tokenAudience")) {
			f.log.Warn("tokens of new pods are for another audience than --xds-token-audience, and are refused", "tokenAudience", config.TokenAudience, "taken", f.audience)
		} else {
			config.TokenAudience = f.audience
		}
	}
	if f.config != nil {
		f.log.Info("reloaded the configuration of injection", "file", f.path)
	}
	f.text, f.config = text, config
	return nil
}

// current returns the configuration. While the file is broken, that from before holds.
func (f *configFile) current() *Config {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch err := f.load(); {
	case err == nil:
		f.failed = ""
	case err.Error() != f.failed:
		f.failed = err.Error()
		f.log.Error("the changed configuration of injection is not usable; the one before holds", "error", err)
	}
	return f.config
}

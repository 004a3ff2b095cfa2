package page

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/api"
)

// DoorOf returns a Door of a function that says who a token belongs to.
func DoorOf[V Viewer](enter func(context.Context, string) (V, error)) Door { return doorOf[V](enter) }

type doorOf[V Viewer] func(context.Context, string) (V, error)

func (d doorOf[V]) Enter(ctx context.Context, token string) (Viewer, error) {
	v, err := d(ctx, token)
	if err != nil {
		return nil, err
	}
	return v, nil
}

// Listen is how the page is served beside the admin address: to people who are known. Its texts are the flags --ui-...
// of causeway serve.
type Listen struct {
	// Listen is an address, "" for none.
	Listen string
	// URL is where browsers reach the page, for example https://causeway.example.com.
	URL string
	// Tokens is a file with people and the digests of their tokens, without Kubernetes.
	Tokens string
	// Cert and Key are files with a certificate; without them Insecure admits plaintext beyond loopback.
	Cert, Key string
	Insecure  bool

	Reader api.Reader
	Door   Door
	Log    *slog.Logger
}

// Server serves the page to people who are known.
type Server struct {
	page    *Page
	log     *slog.Logger
	address string
	tls     *certificate
}

// NewServer checks how the page is to be served. It returns nil for no address.
func NewServer(o *Listen) (*Server, error) {
	var name string
	secure := o.Cert != ""
	if o.URL != "" {
		u, err := url.Parse(o.URL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.User != nil {
			return nil, fmt.Errorf("--ui-url: %q is not the address of a server: write it as https://causeway.example.com", o.URL)
		}
		name, secure = u.Hostname(), secure || u.Scheme == "https"
	}
	host, _, err := net.SplitHostPort(o.Listen)
	address, _ := netip.ParseAddr(host)
	near := err == nil && (host == "localhost" || address.IsLoopback())
	switch {
	case o.Listen == "":
		return nil, nil //nolint:nilnil // there is none
	case o.Door == nil:
		return nil, errors.New("--ui-listen: nobody is known: give --ui-tokens FILE; without it the page is at the admin address alone, on loopback")
	case (o.Cert == "") != (o.Key == ""):
		return nil, errors.New("--ui-tls-cert and --ui-tls-key go together")
	case !near && o.URL == "":
		return nil, fmt.Errorf("--ui-listen: %s is not loopback: give --ui-url, the address by which browsers reach the page; others are refused", o.Listen)
	case !near && o.Cert == "" && (!o.Insecure || !secure):
		return nil, fmt.Errorf("--ui-listen: %s is not loopback, and tokens must not go in the clear: give --ui-tls-cert and --ui-tls-key; or, where a proxy in front ends TLS, --ui-insecure and an https --ui-url", o.Listen)
	}
	s := &Server{log: o.Log, address: o.Listen}
	if o.Cert != "" {
		s.tls = &certificate{cert: o.Cert, key: o.Key, log: o.Log}
		if _, err := s.tls.get(nil); err != nil {
			return nil, err
		}
	}
	var names []string
	if name != "" {
		names = []string{name}
	}
	s.page = New(Options{Reader: o.Reader, Door: o.Door, Secure: secure, Log: o.Log, Host: func(host string) bool { return admin.IsHost(host, names) }})
	return s, nil
}

// Serve serves until the context ends.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if s.tls != nil {
		l = tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: s.tls.get, NextProtos: []string{"http/1.1"}})
	}
	return admin.Serve(ctx, l, s.page, s.log) //nolint:wrapcheck // the context's
}

// certificate is read again when its files change; while they are broken the last good one holds.
type certificate struct {
	cert, key string
	log       *slog.Logger

	mu     sync.Mutex
	looked time.Time
	last   *tls.Certificate
}

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	const every = 10 * time.Second
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.last != nil && time.Since(c.looked) < every {
		return c.last, nil
	}
	c.looked = time.Now()
	pair, err := tls.LoadX509KeyPair(c.cert, c.key)
	switch {
	case err == nil:
		c.last = &pair
	case c.last == nil:
		return nil, fmt.Errorf("--ui-tls-cert, --ui-tls-key: %w", err)
	default:
		c.log.Error("the page's renewed certificate is not usable; the one before stays in use", "error", err)
	}
	return c.last, nil
}

// Own serves the page on loopback to the one who has started it, until the context ends. It prints an address that has a
// key: other users of the host reach the port, and must not have this one's rights.
func Own(ctx context.Context, l net.Listener, reader api.Reader, viewer Viewer, out io.Writer) error {
	var raw [18]byte
	_, _ = rand.Read(raw[:]) // it never fails (crypto/rand)
	key := base64.RawURLEncoding.EncodeToString(raw[:])
	p := New(Options{
		Reader: reader, Host: func(host string) bool { return admin.IsHost(host, nil) }, Log: slog.New(slog.DiscardHandler),
		Door: DoorOf(func(_ context.Context, token string) (Viewer, error) {
			if subtle.ConstantTimeCompare([]byte(token), []byte(key)) != 1 {
				return nil, ErrUnknown
			}
			return viewer, nil
		}),
	})
	p.mux.HandleFunc("GET /open/{key}", p.open)
	fmt.Fprintf(out, "The page, for you (%s): http://%s/open/%s\nIt is served until you press Ctrl-C.\n", viewer.Name(), l.Addr(), key)
	return admin.Serve(ctx, l, p, p.opts.Log) //nolint:wrapcheck // the context's
}

// open begins a session by a key in the address.
func (p *Page) open(w http.ResponseWriter, r *http.Request) {
	if _, err := p.opts.Door.Enter(r.Context(), r.PathValue("key")); err != nil {
		http.Error(w, err.Error(), http.StatusForbidden)
		return
	}
	p.begin(w, r.PathValue("key"))
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// Package page shows the control plane in a browser: the mesh, a shift, a Service, a proxy, what becomes of a request,
// and what changed. It renders the views of package api on the server, renews what is looked at by server-sent events,
// and takes orders from those who may give them. It knows nothing of Kubernetes: who may do what is a Door's matter.
package page

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/sha256"
	_ "embed" // the style and the script
	"encoding/hex"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/xds/api"
)

// Options of a Page.
type Options struct {
	Reader api.Reader
	// Guest is who looks without a token, nil for nobody.
	Guest Viewer
	// Door lets people in by a token, nil where there are only guests.
	Door Door
	// Host reports whether a Host header is a name of this page.
	Host func(host string) bool
	// Secure is true where browsers reach the page by https: cookies then go no other way.
	Secure bool
	Log    *slog.Logger
}

// Page answers a browser.
type Page struct {
	opts     Options
	mux      *http.ServeMux
	live     *hub
	sessions *sessions
	key      [32]byte // of the tokens against forged forms
}

// New returns a Page.
func New(o Options) *Page {
	p := &Page{opts: o, mux: http.NewServeMux(), sessions: newSessions()}
	_, _ = rand.Read(p.key[:]) // it never fails (crypto/rand)
	p.live = newHub(p.document)
	for pattern := range p.views() {
		p.mux.HandleFunc("GET "+pattern, p.show)
	}
	p.mux.HandleFunc("GET /live/{path...}", p.follow)
	p.mux.HandleFunc("GET /act", p.confirm)
	p.mux.HandleFunc("POST /act", p.act)
	p.mux.HandleFunc("GET /login", p.login)
	p.mux.HandleFunc("POST /login", p.enter)
	p.mux.HandleFunc("POST /logout", p.leave)
	p.mux.HandleFunc("GET /assets/{name}", asset)
	p.mux.HandleFunc("POST "+api.Prefix+"/actions", p.order)
	p.mux.HandleFunc("GET "+api.Prefix+"/whoami", p.whoami)
	views := http.NewServeMux()
	api.Register(views, o.Reader)
	p.mux.HandleFunc("GET /api/", func(w http.ResponseWriter, r *http.Request) {
		if _, ok := p.mustKnow(w, r); ok {
			views.ServeHTTP(w, r)
		}
	})
	return p
}

//go:embed assets/style.css
var style []byte

//go:embed assets/live.js
var script []byte

//go:embed assets/icon.svg
var icon []byte

// digest makes the address of a file that of its content, so that browsers may keep it.
func digest(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:6])
}

func asset(w http.ResponseWriter, r *http.Request) {
	files := map[string]struct {
		kind string
		body []byte
	}{"style.css": {"text/css; charset=utf-8", style}, "live.js": {"text/javascript; charset=utf-8", script}, "icon.svg": {"image/svg+xml", icon}}
	f, ok := files[r.PathValue("name")]
	if !ok {
		http.NotFound(w, r)
		return
	}
	w.Header().Set("Content-Type", f.kind)
	w.Header().Set("Cache-Control", "public, max-age=31536000, immutable")
	_, _ = w.Write(f.body) // a client that went away
}

// policy is the content security policy: nothing but this server's own files, no frame around it, forms go here.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// ServeHTTP keeps other sites out before anything else. A browser reaches loopback, and the inside of a network, for any
// site: by a name of that site that leads here (DNS rebinding), in a frame, or by a form or a script of its pages.
func (p *Page) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "same-origin") // with no-referrer the forms of this page come with "Origin: null"
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	if p.opts.Secure {
		h.Set("Strict-Transport-Security", "max-age=31536000")
	}
	switch {
	case !p.opts.Host(r.Host):
		http.Error(w, "this is not the page's name: see --ui-url and --admin-host", http.StatusMisdirectedRequest)
	case r.Method != http.MethodGet && r.Method != http.MethodHead && r.Method != http.MethodPost:
		http.Error(w, "GET and POST alone", http.StatusMethodNotAllowed)
	case foreign(r):
		http.Error(w, "the page answers no page of another site", http.StatusForbidden)
	default:
		p.mux.ServeHTTP(w, r)
	}
}

// foreign reports whether another site's page has made a browser ask. That somebody follows a link from there is none of
// that: a page that is only looked at does nothing.
func foreign(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) {
			return true
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none":
		return false
	}
	return r.Method != http.MethodGet || r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
}

// view makes a page. A viewer of nil is one for whom there are no buttons.
type view func(p *Page, r *http.Request, v Viewer) (*doc, error)

// views are all pages to look at, by their pattern.
func (*Page) views() map[string]view {
	return map[string]view{
		"/{$}": func(p *Page, r *http.Request, v Viewer) (*doc, error) {
			o, err := p.opts.Reader.Overview(r.Context())
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return meshDoc(o, r.URL.Query().Get("q"), p.meshButtons(r, v, o)), nil
		},
		"/big": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			o, err := p.opts.Reader.Overview(r.Context())
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return bigDoc(o), nil
		},
		"/shifts/{namespace}/{name}": func(p *Page, r *http.Request, v Viewer) (*doc, error) {
			s, err := p.opts.Reader.Shift(r.Context(), keyOf(r))
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return shiftDoc(s, p.shiftButtons(r, v, s)), nil
		},
		"/services/{namespace}/{name}": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			s, err := p.opts.Reader.Service(r.Context(), keyOf(r))
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return serviceDoc(s), nil
		},
		"/proxies": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			list, err := p.opts.Reader.Proxies(r.Context())
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return proxiesDoc(list, r.URL.Query().Get("q")), nil
		},
		"/proxies/{id}": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			q := r.URL.Query()
			x, err := p.opts.Reader.Proxy(r.Context(), r.PathValue("id"), q.Get("type"), q.Get("name"))
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return proxyDoc(x, q.Get("type"), q.Get("name")), nil
		},
		"/explain": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			q := explain.QuestionOf(r.URL.Query())
			q.Method, q.Headers = cmp.Or(q.Method, http.MethodGet), lines(q.Headers)
			if q.URL == "" {
				return explainDoc(q, false, nil, nil), nil
			}
			e, err := p.opts.Reader.Explain(r.Context(), q)
			return explainDoc(q, true, e, err), nil
		},
		"/changes": func(p *Page, r *http.Request, _ Viewer) (*doc, error) {
			c, err := p.opts.Reader.Changes(r.Context())
			if err != nil {
				return nil, err //nolint:wrapcheck // it is shown as it is
			}
			return changesDoc(c), nil
		},
		"/objects/{kind}/{name}":             object,
		"/objects/{kind}/{namespace}/{name}": object,
	}
}

func object(p *Page, r *http.Request, _ Viewer) (*doc, error) {
	o, err := p.opts.Reader.Object(r.Context(), discovery.ObjectName{Kind: r.PathValue("kind"), Key: keyOf(r)})
	if err != nil {
		return nil, err //nolint:wrapcheck // it is shown as it is
	}
	return objectDoc(o), nil
}

// lines are the headers of a form, of which an empty one is none.
func lines(headers []string) []string {
	var out []string
	for _, h := range headers {
		if h != "" {
			out = append(out, h)
		}
	}
	return out
}

func keyOf(r *http.Request) discovery.Key {
	return discovery.Key{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
}

// document returns what a page to look at shows to everybody, for those who follow it.
func (p *Page) document(r *http.Request) (*doc, error) {
	mux := http.NewServeMux()
	var out *doc
	err := api.NotFound("there is no such page")
	for pattern, of := range p.views() {
		mux.HandleFunc("GET "+pattern, func(_ http.ResponseWriter, r *http.Request) { out, err = of(p, r, nil) })
	}
	mux.ServeHTTP(nowhere{}, r)
	return out, err
}

// nowhere takes an answer that nobody reads.
type nowhere struct{}

func (nowhere) Header() http.Header         { return http.Header{} }
func (nowhere) Write(b []byte) (int, error) { return len(b), nil }
func (nowhere) WriteHeader(int)             {}

// show answers with a page to look at.
func (p *Page) show(w http.ResponseWriter, r *http.Request) {
	v, ok := p.mustKnow(w, r)
	if !ok {
		return
	}
	of := p.views()[strings.TrimPrefix(r.Pattern, "GET ")]
	d, err := of(p, r, v)
	if err != nil {
		p.fail(w, r, v, err)
		return
	}
	p.write(w, r, v, http.StatusOK, d)
}

// fail answers with what went wrong.
func (p *Page) fail(w http.ResponseWriter, r *http.Request, v Viewer, err error) {
	p.write(w, r, v, api.StatusOf(err), &doc{title: "It did not work", head: []node{
		el("h1", http.StatusText(api.StatusOf(err))), el("p", class("banner bad"), err.Error()), el("p", link(here(), "To the mesh")),
	}})
}

// write writes a whole page.
func (p *Page) write(w http.ResponseWriter, r *http.Request, v Viewer, status int, d *doc) {
	var sections []node
	for i := range d.parts {
		sections = append(sections, d.parts[i].section())
	}
	live := attribute{}
	var note any
	if d.live {
		live = attr("data-live", "yes")
		note = el("p", attr("id", "live"), class("hint"), attr("role", "status"), "As of "+time.Now().UTC().Format(time.TimeOnly)+" UTC; reload for newer figures.")
	}
	body := []node{}
	if !d.bare {
		body = append(body, el("a", class("skip"), attribute{"href", "#main"}, "To the content"), p.top(r, v))
	}
	kind := class("page")
	if d.bare {
		kind = class("page big")
	}
	body = append(body, el("main", attr("id", "main"), live, d.head, sections, note))
	var b bytes.Buffer
	b.WriteString("<!doctype html>\n")
	write(&b, el("html", attr("lang", "en"),
		el("head", el("meta", attr("charset", "utf-8")), el("meta", attr("name", "viewport"), attr("content", "width=device-width, initial-scale=1")),
			el("meta", attr("name", "color-scheme"), attr("content", "light dark")), el("title", d.title+" – Causeway"),
			el("link", attr("rel", "stylesheet"), to("href", here("assets", "style.css").with(url.Values{"v": {digest(style)}}))),
			el("link", attr("rel", "icon"), to("href", here("assets", "icon.svg").with(url.Values{"v": {digest(icon)}}))),
			el("script", to("src", here("assets", "live.js").with(url.Values{"v": {digest(script)}})), flag("defer"))),
		el("body", kind, body)))
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_, _ = w.Write(b.Bytes()) // a client that went away
}

// top is the head of every page.
func (p *Page) top(r *http.Request, v Viewer) node {
	var links []node
	for _, l := range []struct {
		to   path
		name string
	}{{here(), "Mesh"}, {here("proxies"), "Proxies"}, {here("explain"), "Explain"}, {here("changes"), "Changes"}} {
		current := attribute{}
		if r.URL.Path == string(l.to) {
			current = attr("aria-current", "page")
		}
		links = append(links, el("li", el("a", to("href", l.to), current, l.name)))
	}
	var who any
	if v != nil {
		who = el("span", class("who"), v.Name())
		if _, ok := p.sessions.of(r); ok {
			who = el("form", class("who"), attr("method", "post"), to("action", here("logout")), p.token(r), v.Name(), " ", el("button", attr("type", "submit"), "Log out"))
		}
	}
	return el("header", el("nav", attr("aria-label", "Main"), el("strong", class("brand"), "Causeway"), el("ul", links)), who)
}

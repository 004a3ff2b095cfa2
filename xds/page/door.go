package page

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/api"
)

// Viewer is who looks at the page.
type Viewer interface {
	Name() string
	// May reports whether they may give an order.
	May(ctx context.Context, o *discovery.Order) bool
	// Do carries an order out, by the viewer's own rights, and returns the id of a shift's command, "" for others.
	Do(ctx context.Context, o *discovery.Order) (id string, err error)
}

// Door lets people in.
type Door interface {
	// Enter returns who a token belongs to. Its error is ErrUnknown for nobody who may look at the page.
	Enter(ctx context.Context, token string) (Viewer, error)
}

// ErrUnknown says that a token belongs to nobody who may look at the page.
var ErrUnknown = errors.New("this token is of nobody who may look at the page")

// Sessions of browsers. A token is sent once; then a cookie has a name for it that means something here alone.
const (
	cookieName  = "causeway-session"
	sessionLife = 12 * time.Hour
	maxSessions = 1000
	maxToken    = 16 << 10
)

type sessions struct {
	mu   sync.Mutex
	byID map[string]session
}

type session struct {
	token string
	until time.Time
}

func newSessions() *sessions { return &sessions{byID: make(map[string]session)} }

// begin returns the id of a new session.
func (s *sessions) begin(token string, now time.Time) string {
	var raw [24]byte
	_, _ = rand.Read(raw[:]) // it never fails (crypto/rand)
	id := base64.RawURLEncoding.EncodeToString(raw[:])
	s.mu.Lock()
	defer s.mu.Unlock()
	oldest := ""
	for have, x := range s.byID {
		if now.After(x.until) {
			delete(s.byID, have)
			continue
		}
		if oldest == "" || x.until.Before(s.byID[oldest].until) {
			oldest = have
		}
	}
	if len(s.byID) >= maxSessions {
		delete(s.byID, oldest)
	}
	s.byID[id] = session{token, now.Add(sessionLife)}
	return id
}

// of returns a request's session.
func (s *sessions) of(r *http.Request) (string, bool) {
	c, err := r.Cookie(cookieName)
	if err != nil {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	x, ok := s.byID[c.Value]
	return c.Value, ok && time.Now().Before(x.until)
}

func (s *sessions) token(id string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byID[id].token
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byID, id)
}

// viewer returns who asks: by the token of the request, by that of the browser's session, or as a guest.
func (p *Page) viewer(r *http.Request) (Viewer, error) {
	if p.opts.Door != nil {
		if token, ok := bearer(r); ok {
			return p.opts.Door.Enter(r.Context(), token) //nolint:wrapcheck // it says what is wrong
		}
		if id, ok := p.sessions.of(r); ok {
			return p.opts.Door.Enter(r.Context(), p.sessions.token(id)) //nolint:wrapcheck // it says what is wrong
		}
	}
	if p.opts.Guest != nil {
		return p.opts.Guest, nil
	}
	return nil, ErrUnknown
}

func bearer(r *http.Request) (string, bool) {
	kind, token, ok := strings.Cut(r.Header.Get("Authorization"), " ")
	return strings.TrimSpace(token), ok && strings.EqualFold(kind, "bearer")
}

// mustKnow returns who asks, or answers whom it does not know.
func (p *Page) mustKnow(w http.ResponseWriter, r *http.Request) (Viewer, bool) {
	v, err := p.viewer(r)
	switch {
	case err == nil:
		return v, true
	case strings.HasPrefix(r.URL.Path, "/api/"), strings.HasPrefix(r.URL.Path, "/live/"), r.Method != http.MethodGet:
		w.Header().Set("WWW-Authenticate", `Bearer realm="causeway"`)
		http.Error(w, err.Error()+": send Authorization: Bearer TOKEN", http.StatusUnauthorized)
	default:
		http.Redirect(w, r, string(here("login").with(url.Values{"next": {r.URL.RequestURI()}})), http.StatusSeeOther)
	}
	return nil, false
}

// login asks for a token.
func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	p.askToken(w, r, http.StatusOK, r.URL.Query().Get("next"), "")
}

func (p *Page) askToken(w http.ResponseWriter, r *http.Request, status int, next, problem string) {
	var said any
	if problem != "" {
		said = el("p", class("banner bad"), attr("role", "alert"), problem)
	}
	p.write(w, r, nil, status, &doc{title: "Log in", head: []node{
		el("h1", "Log in"), el("div", said),
		el("form", attr("method", "post"), to("action", here("login")), p.token(r), el("input", attr("type", "hidden"), attr("name", "next"), attr("value", next)),
			el("div", class("field"), el("label", attr("for", "token"), "Token"),
				el("input", attr("id", "token"), attr("name", "token"), attr("type", "password"), attr("autocomplete", "current-password"), flag("required"), flag("autofocus"))),
			el("button", attr("type", "submit"), "Log in")),
		el("p", class("hint"), "On Kubernetes: kubectl create token NAME, or causeway dashboard, which needs none. Without Kubernetes: the token that belongs to you in the file of --ui-tokens."),
	}})
}

// enter begins a session.
func (p *Page) enter(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxToken)
	if err := r.ParseForm(); err != nil || !p.authentic(r) {
		http.Error(w, "this form is not from here: open the page again", http.StatusForbidden)
		return
	}
	token, next := strings.TrimSpace(r.PostForm.Get("token")), r.PostForm.Get("next")
	if p.opts.Door == nil {
		http.Error(w, "nobody needs to log in here", http.StatusNotFound)
		return
	}
	if _, err := p.opts.Door.Enter(r.Context(), token); err != nil {
		p.askToken(w, r, http.StatusUnauthorized, next, err.Error())
		return
	}
	p.begin(w, token)
	http.Redirect(w, r, local(next), http.StatusSeeOther) //nolint:gosec // local lets addresses of this server pass alone
}

// begin gives a browser a session.
func (p *Page) begin(w http.ResponseWriter, token string) {
	http.SetCookie(w, &http.Cookie{ //nolint:gosec // Secure where there is https: on loopback there is none
		Name: cookieName, Value: p.sessions.begin(token, time.Now()), Path: "/", HttpOnly: true, Secure: p.opts.Secure, SameSite: http.SameSiteLaxMode,
		MaxAge: int(sessionLife.Seconds()),
	})
}

// local returns an address if it is one of this server, else that of the first page.
func local(next string) string {
	u, err := url.Parse(next)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(next, "/") || strings.HasPrefix(next, "//") || strings.ContainsAny(next, "\\\r\n\t") {
		return "/"
	}
	return next
}

// leave ends a session.
func (p *Page) leave(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxToken)
	if err := r.ParseForm(); err != nil || !p.authentic(r) {
		http.Error(w, "this form is not from here: open the page again", http.StatusForbidden)
		return
	}
	if id, ok := p.sessions.of(r); ok {
		p.sessions.end(id)
	}
	http.SetCookie(w, &http.Cookie{Name: cookieName, Path: "/", MaxAge: -1, HttpOnly: true, Secure: p.opts.Secure, SameSite: http.SameSiteLaxMode}) //nolint:gosec // it has no value
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// token is the hidden field that a form of this page has: another site cannot read it, and each session has its own.
func (p *Page) token(r *http.Request) node {
	return el("input", attr("type", "hidden"), attr("name", "csrf"), attr("value", p.csrf(r)))
}

func (p *Page) csrf(r *http.Request) string {
	id, _ := p.sessions.of(r)
	mac := hmac.New(sha256.New, p.key[:])
	_, _ = mac.Write([]byte("form\x00" + id + "\x00" + r.Host)) // a hash takes everything
	return hex.EncodeToString(mac.Sum(nil))
}

// authentic reports whether a form is one of this page's, of this session.
func (p *Page) authentic(r *http.Request) bool {
	return hmac.Equal([]byte(r.PostForm.Get("csrf")), []byte(p.csrf(r)))
}

// whoami tells who asks, and what they may do with everything.
func (p *Page) whoami(w http.ResponseWriter, r *http.Request) {
	v, ok := p.mustKnow(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	_ = json.NewEncoder(w).Encode(map[string]string{"name": v.Name(), "api": api.Version}) // a client that went away
}

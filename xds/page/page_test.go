package page

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/html"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/xds/api"
	"github.com/causeway-mesh/causeway/xds/status"
)

// fake answers with views all of whose texts are one text.
type fake struct {
	api.Lists // which the page does not ask

	text string
	// shift, if it is not nil, is what Shift returns.
	shift func() *api.Shift
}

// fill puts a text into every string of a value, and one element into every list and map.
func fill(v reflect.Value, text string, depth int) {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
	case reflect.Pointer:
		if depth > 8 {
			return
		}
		v.Set(reflect.New(v.Type().Elem()))
		fill(v.Elem(), text, depth+1)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)))
			return
		}
		for _, field := range v.Fields() {
			if field.CanSet() {
				fill(field, text, depth+1)
			}
		}
	case reflect.Slice:
		if depth > 8 {
			return
		}
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		fill(v.Index(0), text, depth+1)
		fill(v.Index(1), text, depth+1)
	case reflect.Map:
		v.Set(reflect.MakeMap(v.Type()))
		key, value := reflect.New(v.Type().Key()).Elem(), reflect.New(v.Type().Elem()).Elem()
		fill(key, text, depth+1)
		fill(value, text, depth+1)
		v.SetMapIndex(key, value)
	case reflect.Float64, reflect.Float32:
		v.SetFloat(12.5)
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Int, reflect.Int32, reflect.Int64:
		v.SetInt(3)
	case reflect.Uint16, reflect.Uint32, reflect.Uint64:
		v.SetUint(3)
	default:
	}
}

func filled[T any](text string) *T {
	var out T
	fill(reflect.ValueOf(&out).Elem(), text, 0)
	return &out
}

func (f *fake) Overview(context.Context) (*api.Overview, error) {
	return filled[api.Overview](f.text), nil
}

func (f *fake) Service(context.Context, discovery.Key) (*api.Service, error) {
	return filled[api.Service](f.text), nil
}

func (f *fake) Shift(_ context.Context, key discovery.Key) (*api.Shift, error) {
	if key.Name == "none" {
		return nil, api.NotFound("there is no TrafficShift " + f.text)
	}
	if f.shift != nil {
		return f.shift(), nil
	}
	s := filled[api.Shift](f.text)
	s.Actions = []string{"promote", "pause", "resume", "rollback"}
	return s, nil
}

func (f *fake) Proxies(context.Context) (*api.Proxies, error) {
	return filled[api.Proxies](f.text), nil
}

func (f *fake) Proxy(context.Context, string, string, string) (*api.Proxy, error) {
	return filled[api.Proxy](f.text), nil
}

func (f *fake) Explain(context.Context, *explain.Question) (*explain.Explanation, error) {
	return nil, errors.New(f.text)
}

func (f *fake) Object(context.Context, discovery.ObjectName) (*status.Object, error) {
	return filled[status.Object](f.text), nil
}

func (f *fake) Changes(context.Context) (*api.Changes, error) {
	return filled[api.Changes](f.text), nil
}

// somebody may do what their list has.
type somebody struct {
	name string
	may  []string

	mu   sync.Mutex
	done []discovery.Order
}

func (s *somebody) Name() string { return s.name }

func (s *somebody) May(_ context.Context, o *discovery.Order) bool {
	return slices.Contains(s.may, o.Action)
}

func (s *somebody) Do(_ context.Context, o *discovery.Order) (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done = append(s.done, *o)
	return "", nil
}

func (s *somebody) orders() []discovery.Order {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]discovery.Order(nil), s.done...)
}

// door knows people by their names as tokens.
type door map[string]*somebody

func (d door) Enter(_ context.Context, token string) (Viewer, error) {
	if s := d[token]; s != nil {
		return s, nil
	}
	return nil, ErrUnknown
}

var (
	stops = []string{"pause", "rollback", "freeze"}
	all   = []string{"pause", "rollback", "freeze", "resume", "promote", "unfreeze", "release"}
)

func newPage(reader api.Reader, guest Viewer, d Door) *Page {
	return New(Options{
		Reader: reader, Guest: guest, Door: d, Log: slog.New(slog.DiscardHandler),
		Host: func(host string) bool { return host == "causeway.test" },
	})
}

func ask(p http.Handler, method, target, body string, header ...string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, "http://causeway.test"+target, strings.NewReader(body))
	if body != "" {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for i := 0; i+1 < len(header); i += 2 {
		if header[i] == "Host" {
			r.Host = header[i+1]
			continue
		}
		r.Header.Set(header[i], header[i+1])
	}
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w
}

// bare is a request without a cookie.
func bare() *http.Request { return httptest.NewRequest(http.MethodGet, "http://causeway.test/", nil) }

// pages are one address of each view, with a text in the address too.
func pages(text string) []string {
	e := url.PathEscape(text)
	return []string{
		"/", "/?q=" + url.QueryEscape(text), "/big", "/shifts/web/" + e, "/services/web/" + e, "/proxies", "/proxies/" + e, "/proxies/a?type=CDS&name=" + url.QueryEscape(text),
		"/explain?url=" + url.QueryEscape(text) + "&from=" + url.QueryEscape(text), "/changes", "/objects/HTTPRoute/" + e, "/objects/HTTPRoute/web/" + e,
		"/act?action=rollback&name=web/" + url.QueryEscape(strings.ReplaceAll(text, "/", "")), "/act?action=freeze", "/act?action=" + url.QueryEscape(text), "/login?next=" + url.QueryEscape(text),
		"/shifts/web/none",
	}
}

// shapeOf returns the elements of a page with the names of their attributes, and fails for what may not be there.
func shapeOf(t *testing.T, page []byte) []string {
	t.Helper()
	tree, err := html.Parse(bytes.NewReader(page))
	require.NoError(t, err)
	var out []string
	for n := range tree.Descendants() {
		if n.Type == html.CommentNode {
			t.Fatalf("a comment: %s", n.Data)
		}
		if n.Type != html.ElementNode {
			continue
		}
		line := n.Data
		for _, a := range n.Attr {
			line += " " + a.Key
			require.False(t, strings.HasPrefix(a.Key, "on") || a.Key == "style", "%s of %s", a.Key, n.Data)
			if a.Key == "href" || a.Key == "src" || a.Key == "action" {
				require.Regexp(t, `^(/($|[^/\\])|#main$)`, a.Val, "%s of %s", a.Key, n.Data)
			}
		}
		if line != "a href" { // what is no name of an object leads nowhere
			out = append(out, line)
		}
	}
	return out
}

// hostile are texts that break out of something somewhere.
var hostile = []string{
	`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `javascript:alert(1)`, `</title><script>`, `--><svg onload=alert(1)>`,
	`//evil.example/x`, `/\evil.example`, "\x00<b>", "\u202egnp.exe", "a\r\nSet-Cookie: x=y", `{{7*7}}${7*7}`, `&lt;script&gt;&#x3c;`, "\xff\xfe<", `]]><x>`, `</textarea></pre><h1>`,
	`data:text/html,<script>alert(1)</script>`, "`onclick=alert(1)", `..%2f..%2f`, `%0d%0a`,
}

// No text that a user controls is anything but text: the page of a hostile one has the elements and attributes of a
// harmless one, whatever its names, reasons, paths and Envoy's words are.
func TestTextsAreTexts(t *testing.T) {
	t.Parallel()
	who := &somebody{name: "ada", may: all}
	for i := range pages("x") {
		harmless := ask(newPage(&fake{text: "x"}, who, nil), "GET", pages("x")[i], "")
		want := shapeOf(t, harmless.Body.Bytes())
		for _, text := range hostile {
			target := pages(text)[i]
			w := ask(newPage(&fake{text: text}, &somebody{name: text, may: all}, nil), "GET", target, "")
			if strings.Contains(target, "act?action="+url.QueryEscape(text)) || w.Code != harmless.Code {
				shapeOf(t, w.Body.Bytes()) // another answer
				continue
			}
			require.Equal(t, want, shapeOf(t, w.Body.Bytes()), "%s with %q", target, text)
		}
	}
}

// FuzzTexts looks for a text that is more than a text.
func FuzzTexts(f *testing.F) {
	for _, text := range hostile {
		f.Add(text)
	}
	who := &somebody{name: "ada", may: all}
	targets := []string{"/", "/shifts/web/x", "/services/web/x", "/proxies/x", "/changes", "/objects/HTTPRoute/web/x", "/act?action=rollback&name=web/x"}
	want := make([][]string, len(targets))
	f.Fuzz(func(t *testing.T, text string) {
		for i, target := range targets {
			if want[i] == nil {
				want[i] = shapeOf(t, ask(newPage(&fake{text: "x"}, who, nil), "GET", target, "").Body.Bytes())
			}
			page := ask(newPage(&fake{text: text}, who, nil), "GET", target, "").Body.Bytes()
			got := shapeOf(t, page)
			if text != "" && !strings.ContainsAny(text, "/ ") { // these make links of objects' names
				require.Equal(t, len(want[i]) > 0, len(got) > 0)
			}
		}
		var b bytes.Buffer
		escape(&b, text)
		require.NotContains(t, b.String(), "<")
		require.NotContains(t, b.String(), `"`)
		require.Regexp(t, `^/p/[^/]*\z`, string(here("p", text)), "a segment stays one")
	})
}

// A page has what keeps others out, and what a screen reader goes by.
func TestHeadersAndLandmarks(t *testing.T) {
	t.Parallel()
	p := newPage(&fake{text: "x"}, &somebody{name: "ada", may: all}, nil)
	for _, target := range pages("x") {
		w := ask(p, "GET", target, "")
		h := w.Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'")
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		body := w.Body.String()
		require.Equal(t, 1, strings.Count(body, "<main "), target)
		require.Equal(t, 1, strings.Count(body, "<h1>"), target)
		require.Contains(t, body, `<html lang="en">`)
		require.Equal(t, strings.Count(body, "<table "), strings.Count(body, "<caption "), target)
		require.NotContains(t, body, " style=", target)
	}
	require.Less(t, len(style)+len(script)+ask(p, "GET", "/shifts/web/x", "").Body.Len(), 200_000)
}

// Who is at another name, or asks from another site's page, is nobody.
func TestOtherSites(t *testing.T) {
	t.Parallel()
	who := &somebody{name: "ada", may: all}
	p := newPage(&fake{text: "x"}, who, nil)
	form := "action=rollback&name=web%2Fx&csrf=" + p.csrf(bare())
	for name, c := range map[string]struct {
		method, target string
		header         []string
		want           int
	}{
		"a name that leads here":       {"GET", "/", []string{"Host", "evil.example"}, http.StatusMisdirectedRequest},
		"the API by such a name":       {"GET", "/api/v1/overview", []string{"Host", "evil.example"}, http.StatusMisdirectedRequest},
		"a link in a chat":             {"GET", "/shifts/web/x", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "document"}, http.StatusOK},
		"a frame":                      {"GET", "/shifts/web/x", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "navigate", "Sec-Fetch-Dest", "iframe"}, http.StatusForbidden},
		"a script of another site":     {"GET", "/api/v1/overview", []string{"Sec-Fetch-Site", "cross-site", "Sec-Fetch-Mode", "cors", "Origin", "https://evil.example"}, http.StatusForbidden},
		"events to another site":       {"GET", "/live/", []string{"Sec-Fetch-Site", "same-site", "Sec-Fetch-Mode", "cors"}, http.StatusForbidden},
		"a form of another site":       {"POST", "/act", []string{"Origin", "https://evil.example"}, http.StatusForbidden},
		"a form of a sandbox":          {"POST", "/act", []string{"Origin", "null"}, http.StatusForbidden},
		"a form of a sister site":      {"POST", "/act", []string{"Sec-Fetch-Site", "same-site"}, http.StatusForbidden},
		"a method for nothing":         {"PUT", "/act", nil, http.StatusMethodNotAllowed},
		"an order as a form":           {"POST", "/api/v1/actions", nil, http.StatusUnsupportedMediaType},
		"a form of this site":          {"POST", "/act", []string{"Origin", "http://causeway.test", "Sec-Fetch-Site", "same-origin"}, http.StatusSeeOther},
		"a form that is cut in pieces": {"POST", "/act", []string{"Content-Type", "multipart/form-data"}, http.StatusForbidden},
	} {
		body := ""
		if c.method == "POST" {
			body = form
		}
		if c.target == "/live/" {
			require.Equal(t, c.want, ask(p, c.method, c.target, body, c.header...).Code, name)
			continue
		}
		require.Equal(t, c.want, ask(p, c.method, c.target, body, c.header...).Code, name)
	}
	require.Len(t, who.orders(), 1)
	require.Equal(t, http.StatusForbidden, ask(p, "POST", "/act", "action=rollback&name=web%2Fx").Code, "without the token of the form")
	require.Equal(t, http.StatusForbidden, ask(p, "POST", "/act", "action=rollback&name=web%2Fx&csrf=00").Code)
	require.Len(t, who.orders(), 1)
}

// begin logs somebody in and returns their cookie.
func begin(t *testing.T, p *Page, token string) string {
	t.Helper()
	w := ask(p, "POST", "/login", url.Values{"token": {token}, "next": {"/shifts/web/x"}, "csrf": {p.csrf(bare())}}.Encode())
	require.Equal(t, http.StatusSeeOther, w.Code, w.Body.String())
	require.Equal(t, "/shifts/web/x", w.Header().Get("Location"))
	cookie := w.Header().Get("Set-Cookie")
	require.Contains(t, cookie, "HttpOnly")
	require.Contains(t, cookie, "SameSite=Lax")
	require.NotContains(t, cookie, token, "the token is in no cookie")
	value, _, _ := strings.Cut(cookie, ";")
	return value
}

// Three kinds of people: what one may not do is not there, and is refused if it is asked for all the same.
func TestRights(t *testing.T) {
	t.Parallel()
	people := door{"v-token": {name: "vera"}, "s-token": {name: "stan", may: stops}, "o-token": {name: "ola", may: all}}
	p := newPage(&fake{text: "x"}, nil, people)

	require.Equal(t, http.StatusSeeOther, ask(p, "GET", "/shifts/web/x", "").Code)
	require.Equal(t, "/login?next=%2Fshifts%2Fweb%2Fx%3Fa%3Db", ask(p, "GET", "/shifts/web/x?a=b", "").Header().Get("Location"))
	require.Equal(t, http.StatusUnauthorized, ask(p, "GET", "/api/v1/overview", "").Code)
	require.Equal(t, http.StatusUnauthorized, ask(p, "GET", "/live/", "").Code)
	require.Equal(t, http.StatusUnauthorized, ask(p, "GET", "/api/v1/overview", "", "Authorization", "Bearer wrong").Code)
	require.Equal(t, http.StatusOK, ask(p, "GET", "/api/v1/overview", "", "Authorization", "Bearer v-token").Code)
	require.Equal(t, http.StatusUnauthorized, ask(p, "POST", "/login", "token=wrong&csrf="+p.csrf(bare())).Code)
	require.Equal(t, http.StatusForbidden, ask(p, "POST", "/login", "token=v-token").Code, "nobody is logged in by another site")

	for token, want := range map[string][]string{"v-token": nil, "s-token": {"rollback", "pause"}, "o-token": {"rollback", "pause", "resume", "promote"}} {
		cookie := begin(t, p, token)
		body := ask(p, "GET", "/shifts/web/x", "", "Cookie", cookie).Body.String()
		for _, action := range []string{"rollback", "pause", "resume", "promote"} {
			may := false
			for _, w := range want {
				may = may || w == action
			}
			require.Equal(t, may, strings.Contains(body, `name="action" value="`+action+`"`), "%s: %s", token, action)
			r := bare()
			r.Header.Set("Cookie", cookie)
			form := url.Values{"action": {action}, "name": {"web/x"}, "reason": {"a test"}, "step": {"2"}, "csrf": {p.csrf(r)}}.Encode()
			w := ask(p, "POST", "/act", form, "Cookie", cookie)
			forged := ask(p, "POST", "/api/v1/actions", `{"action":"`+action+`","namespace":"web","name":"x"}`, "Content-Type", "application/json", "Authorization", "Bearer "+token)
			if may {
				require.Equal(t, http.StatusSeeOther, w.Code, "%s: %s: %s", token, action, w.Body)
				require.Equal(t, "/shifts/web/x", w.Header().Get("Location"))
				require.Equal(t, http.StatusOK, forged.Code)
			} else {
				require.Equal(t, http.StatusForbidden, w.Code, "%s: %s", token, action)
				require.Equal(t, http.StatusForbidden, forged.Code)
				require.Equal(t, http.StatusForbidden, ask(p, "GET", "/act?action="+action+"&name=web/x", "", "Cookie", cookie).Code)
			}
		}
		require.Len(t, people[token].orders(), 2*len(want))
		// A form of another session is none of this one.
		other := begin(t, p, token)
		r := bare()
		r.Header.Set("Cookie", other)
		require.Equal(t, http.StatusForbidden, ask(p, "POST", "/act", "action=pause&name=web%2Fx&csrf="+p.csrf(r), "Cookie", cookie).Code)
		require.Equal(t, http.StatusUnauthorized, ask(p, "POST", "/api/v1/actions", `{"action":"pause","namespace":"web","name":"x"}`, "Content-Type", "application/json", "Cookie", cookie).Code)
		require.NotContains(t, ask(p, "GET", "/big", "", "Cookie", cookie).Body.String(), "<form", "there is nothing to press on a wall")
	}
	step := int32(2)
	require.Equal(t, discovery.Order{Action: "rollback", Key: discovery.Key{Namespace: "web", Name: "x"}, Step: &step, Reason: "a test"}, people["s-token"].orders()[0])
}

// What is wrong with an endpoint stands beside its name, and the words of a chart are round.
func TestWhatIsReadFirst(t *testing.T) {
	t.Parallel()
	m := &mesh{now: time.Date(2026, 12, 1, 3, 0, 0, 0, time.UTC)}
	p := newPage(m, &somebody{name: "ada"}, nil)
	require.Regexp(t, `i-0123456789abcdef0</th><td[^>]*><div><span class="badge warn">draining</span></div></td><td[^>]*><div>Spot: EC2`,
		ask(p, "GET", "/services/web/php-web", "").Body.String())
	shift := ask(p, "GET", "/shifts/web/php-web", "").Body.String()
	require.Contains(t, shift, ">97.5</text>")
	require.NotContains(t, shift, ">97.98</text>")
	require.Contains(t, ask(p, "GET", "/proxies/x", "").Body.String(), `<div><span class="badge bad">rejected</span></div></td></tr>`)
}

// After a log out the cookie means nothing.
func TestLogOut(t *testing.T) {
	t.Parallel()
	p := newPage(&fake{text: "x"}, nil, door{"a-token": {name: "ada"}})
	cookie := begin(t, p, "a-token")
	r := bare()
	r.Header.Set("Cookie", cookie)
	require.Equal(t, http.StatusOK, ask(p, "GET", "/", "", "Cookie", cookie).Code)
	require.Equal(t, http.StatusSeeOther, ask(p, "POST", "/logout", "csrf="+p.csrf(r), "Cookie", cookie).Code)
	require.Equal(t, http.StatusSeeOther, ask(p, "GET", "/", "", "Cookie", cookie).Code)
	for i := range 3 * maxSessions / 2 {
		p.sessions.begin(fmt.Sprint(i), time.Now())
	}
	require.LessOrEqual(t, len(p.sessions.byID), maxSessions)
}

// After a log in one comes back to this page, and nowhere else.
func TestLocal(t *testing.T) {
	t.Parallel()
	for next, want := range map[string]string{
		"/shifts/web/x?a=b": "/shifts/web/x?a=b", "": "/", "//evil.example": "/", "https://evil.example": "/", `/\evil.example`: "/", "/\tx": "/", "javascript:alert(1)": "/",
		"x": "/", "/a//b": "/a//b",
	} {
		require.Equal(t, want, local(next), "%q", next)
	}
}

// The question says what will happen to how much traffic.
func TestConsequences(t *testing.T) {
	t.Parallel()
	s := &api.Shift{
		ShiftRow: api.ShiftRow{From: "instances", To: "pods", Percent: 25, Phase: "Shifting"}, RequestsPerSecond: 1200, StepIndex: 1, Next: "50 %",
		Steps: []api.Step{{Shadow: 5}, {Percent: 25}, {Percent: 50}},
	}
	require.Equal(t, "All traffic goes back to the instances at once, in one push: 25\u00a0% of requests, about 300/s, leave the pods.", consequencesOf("rollback", s)[0])
	require.Equal(t, "The pods go from 25\u00a0% to 50\u00a0%: 25\u00a0% more of requests, about 300/s, move to them.", consequencesOf("promote", s)[0])
	s.StepIndex = 2
	require.Equal(t, "The last step ends: the pods become the Service's home.", consequencesOf("promote", s)[0])
	s.Phase = "RolledBack"
	require.Equal(t, "The shift begins anew with its first step.", consequencesOf("promote", s)[0])
}

// Those who look at a page are sent what changes of it, and nothing is rendered once nobody looks.
func TestLive(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	phase := "Shifting"
	reader := &fake{text: "x", shift: func() *api.Shift {
		mu.Lock()
		defer mu.Unlock()
		s := filled[api.Shift]("x")
		s.Phase, s.Verdict, s.Ended = phase, "Pass", false
		return s
	}}
	p := newPage(reader, &somebody{name: "ada", may: all}, nil)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Host = "causeway.test"
		p.ServeHTTP(w, r)
	}))
	defer server.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/live/shifts/web/x", nil)
	require.NoError(t, err)
	resp, err := server.Client().Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "text/event-stream", resp.Header.Get("Content-Type"))
	until := func(word string) string {
		var got strings.Builder
		buf := make([]byte, 4096)
		for !strings.Contains(got.String(), word) {
			n, err := resp.Body.Read(buf)
			got.Write(buf[:n])
			require.NoError(t, err)
		}
		return got.String()
	}
	first := until("No harm seen")
	require.Contains(t, first, `"share"`)
	require.NotContains(t, first, "csrf", "what is sent to all has nobody's buttons")
	mu.Lock()
	phase = "RolledBack"
	mu.Unlock()
	require.NotContains(t, until("Taken back"), `"share":`, "only what has changed")
	cancel()
	_, _ = io.Copy(io.Discard, resp.Body)
	require.Eventually(t, func() bool {
		p.live.mu.Lock()
		defer p.live.mu.Unlock()
		return len(p.live.topics) == 0 && p.live.viewers == 0
	}, 5*time.Second, 10*time.Millisecond)
	require.Equal(t, http.StatusServiceUnavailable, func() int {
		p.live.mu.Lock()
		p.live.viewers = maxViewers
		p.live.mu.Unlock()
		return ask(p, "GET", "/live/", "").Code
	}())
}

// BenchmarkMesh renders the first page of a mesh of a thousand Services.
func BenchmarkMesh(b *testing.B) {
	o := filled[api.Overview]("x")
	for i := range 1000 {
		o.Services = append(o.Services, api.ServiceRow{Namespace: "web", Name: fmt.Sprint("service-", i), Home: "pods", Backings: []api.BackingRow{{Name: "pods", Percent: 100, Usable: 10, Known: 10}}})
	}
	for b.Loop() {
		for i := range meshDoc(o, "", nil).parts {
			render(meshDoc(o, "", nil).parts[i].section())
		}
	}
}

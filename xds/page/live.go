package page

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Bounds of what is renewed. A page is rendered once for all who look at it, at most once a second, and so seldom
// that it takes a hundredth of a core; nothing is rendered while nobody looks.
const (
	renewEvery = time.Second
	renewCost  = 100
	maxTopics  = 200
	maxViewers = 2000
	// sendWithin is how long a viewer may take to read what is sent.
	sendWithin = 10 * time.Second
	// quietFor is how long nothing may be sent: what is between would think that nobody is there.
	quietFor = 20 * time.Second
)

// hub renews the pages that somebody looks at.
type hub struct {
	document func(*http.Request) (*doc, error)
	// turn lets one page be rendered at a time.
	turn    chan struct{}
	mu      sync.Mutex
	topics  map[string]*topic
	viewers int
}

// topic is one page that is looked at.
type topic struct {
	stop    context.CancelFunc
	viewers int

	mu      sync.Mutex
	version uint64
	parts   map[string]*rendered
	// news is closed with the next version.
	news chan struct{}
	gone string
}

// rendered is a part, and the version with which it came.
type rendered struct {
	html    string
	version uint64
}

func newHub(document func(*http.Request) (*doc, error)) *hub {
	return &hub{document: document, turn: make(chan struct{}, 1), topics: make(map[string]*topic)}
}

// join returns the topic of a page, and a function that ends the look at it; nil if too many look.
func (h *hub) join(r *http.Request) (t *topic, leave func()) {
	key := r.URL.RequestURI()
	h.mu.Lock()
	defer h.mu.Unlock()
	t = h.topics[key]
	if h.viewers >= maxViewers || t == nil && len(h.topics) >= maxTopics {
		return nil, nil
	}
	if t == nil {
		ctx, stop := context.WithCancel(context.WithoutCancel(r.Context()))
		t = &topic{stop: stop, parts: make(map[string]*rendered), news: make(chan struct{})}
		h.topics[key] = t
		go h.renew(t, r.Clone(ctx)) // until the last viewer leaves
	}
	t.viewers++
	h.viewers++
	return t, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.viewers--
		if t.viewers--; t.viewers == 0 {
			t.stop()
			delete(h.topics, key)
		}
	}
}

// renew renders a page until nobody looks at it any more.
func (h *hub) renew(t *topic, r *http.Request) {
	ctx := r.Context()
	for {
		select {
		case <-ctx.Done():
			return
		case h.turn <- struct{}{}:
		}
		begun := time.Now()
		d, err := h.document(r)
		t.put(d, err)
		took := time.Since(begun)
		<-h.turn
		timer := time.NewTimer(max(renewEvery, renewCost*took))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// put takes a page over, and tells the viewers if anything is new.
func (t *topic) put(d *doc, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	changed := false
	gone := ""
	if err != nil {
		gone = err.Error()
	}
	changed, t.gone = gone != t.gone, gone
	if d != nil {
		for i := range d.parts {
			html := string(render(d.parts[i].section()))
			if have := t.parts[d.parts[i].id]; have == nil || have.html != html {
				t.parts[d.parts[i].id] = &rendered{html, t.version + 1}
				changed = true
			}
		}
	}
	if changed {
		t.version++
		close(t.news)
		t.news = make(chan struct{})
	}
}

// message is what a viewer is sent.
type message struct {
	// Time of the server, as it is shown.
	Time string `json:"time"`
	// Parts that are new, as HTML by their id.
	Parts map[string]string `json:"parts"`
	// Gone says why the page cannot be renewed, "" if it can.
	Gone string `json:"gone,omitempty"`
}

// since returns what is new since a version, and a channel that is closed once there is more.
func (t *topic) since(version uint64) (*message, uint64, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	m := &message{Time: time.Now().UTC().Format(time.TimeOnly), Parts: make(map[string]string), Gone: t.gone}
	for id, p := range t.parts {
		if p.version > version {
			m.Parts[id] = p.html
		}
	}
	return m, t.version, t.news
}

// follow sends what is new of a page for as long as somebody looks at it.
func (p *Page) follow(w http.ResponseWriter, r *http.Request) {
	if _, ok := p.mustKnow(w, r); !ok {
		return
	}
	of := r.Clone(r.Context())
	of.URL.Path, of.URL.RawPath = "/"+r.PathValue("path"), ""
	if raw := r.URL.EscapedPath(); len(raw) > len("/live") {
		of.URL.RawPath = raw[len("/live"):]
	}
	of.Pattern = ""
	t, leave := p.live.join(of)
	if t == nil {
		http.Error(w, "too many look at too many pages: reload by hand", http.StatusServiceUnavailable)
		return
	}
	defer leave()
	control := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no")
	version := uint64(0)
	checked := time.Now()
	for {
		m, now, news := t.since(version)
		if now != version {
			version = now
			if !p.send(w, control, m) {
				return
			}
		}
		quiet := time.NewTimer(quietFor)
		select {
		case <-r.Context().Done():
			quiet.Stop()
			return
		case <-news:
			quiet.Stop()
		case <-quiet.C:
			if !p.send(w, control, nil) {
				return
			}
		}
		// Somebody whose rights ended must not go on looking.
		if time.Since(checked) > time.Minute {
			if _, err := p.viewer(r); err != nil {
				return
			}
			checked = time.Now()
		}
	}
}

// send writes a message, or a sign of life for nil.
func (p *Page) send(w http.ResponseWriter, control *http.ResponseController, m *message) bool {
	data := []byte(": on\n\n")
	if m != nil {
		text, err := json.Marshal(m)
		if err != nil {
			return false // strings can be written
		}
		data = append(append([]byte("data: "), text...), "\n\n"...)
	}
	if control.SetWriteDeadline(time.Now().Add(sendWithin)) != nil {
		return false
	}
	if _, err := w.Write(data); err != nil {
		return false
	}
	return control.Flush() == nil
}

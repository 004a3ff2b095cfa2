package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/golden"
)

func notice(event v1alpha1.ShiftEvent, step int32) Notice {
	return Notice{
		Notice: shift.Notice{Event: event, From: "1", To: "10", Step: step, Actor: "steps", Reason: "held for 10m0s; success rate 99.97 % of 12,004 requests"},
		Shift:  discovery.Key{Namespace: "web", Name: "php-web"}, UID: "0d8a", Service: "php-web",
		Direction: v1alpha1.InstancesToPods, Phase: v1alpha1.ShiftShifting, Time: time.Date(2026, 11, 23, 20, 15, 4, 123, time.FixedZone("JST", 9*3600)),
	}
}

// receiver is a webhook that answers as it is told to and keeps what it took.
type receiver struct {
	*httptest.Server

	mu       sync.Mutex
	answers  []int // statuses of the next answers; then 200
	header   http.Header
	bodies   []map[string]any
	requests []*http.Request
}

func receive(t *testing.T, answers ...int) *receiver {
	t.Helper()
	r := &receiver{answers: answers, header: make(http.Header)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		data, _ := io.ReadAll(request.Body)
		var body map[string]any
		_ = json.Unmarshal(data, &body)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.requests, r.bodies = append(r.requests, request), append(r.bodies, body)
		if len(r.answers) > 0 {
			for name := range r.header {
				w.Header().Set(name, r.header.Get(name))
			}
			w.WriteHeader(r.answers[0])
			_, _ = io.WriteString(w, "no, not with "+request.Header.Get("Authorization"))
			r.answers = r.answers[1:]
		}
	}))
	t.Cleanup(r.Close)
	return r
}

func (r *receiver) got() []map[string]any {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]map[string]any(nil), r.bodies...)
}

func (r *receiver) target(events ...v1alpha1.ShiftEvent) Target {
	return Target{Notification: &v1alpha1.ShiftNotification{Name: "chat", URL: r.URL, Events: events}}
}

type bench struct {
	*Sender

	log bytes.Buffer
}

// sender returns a Sender that waits next to nothing between attempts.
func sender(t *testing.T, backoff ...time.Duration) *bench {
	t.Helper()
	if backoff == nil {
		backoff = []time.Duration{time.Millisecond, time.Millisecond, time.Millisecond, time.Millisecond}
	}
	b := &bench{}
	b.Sender = New(Options{Log: slog.New(slog.NewTextHandler(&b.log, nil)), Registerer: prometheus.NewRegistry(), AllowLoopback: true, Backoff: backoff})
	return b
}

func (b *bench) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	b.Close(ctx)
	require.NoError(t, ctx.Err(), "everything was sent or given up")
}

func (b *bench) counts() string {
	var out []string
	for _, o := range []string{outcomeDelivered, outcomeRetried, outcomeFailed, outcomeDropped} {
		out = append(out, o+" "+strconv.Itoa(int(testutil.ToFloat64(b.sent.WithLabelValues(o)))))
	}
	return strings.Join(out, ", ")
}

func formats() []v1alpha1.NotificationFormat {
	return []v1alpha1.NotificationFormat{
		v1alpha1.FormatGeneric, v1alpha1.FormatSlack, v1alpha1.FormatDatadog, v1alpha1.FormatNewRelic, v1alpha1.FormatNewRelicEvent,
	}
}

// Bodies are what the documentation says. The format Generic must never change
// but for new fields.
func TestBodiesGolden(t *testing.T) {
	t.Parallel()
	hostile := notice(v1alpha1.EventRollBack, -1)
	hostile.Actor, hostile.Warning = "<@U123> *bold*", true
	hostile.Reason = "<!channel> 5 & 3 < 4 > `code` <https://example.org|click>" + strings.Repeat(" long", 1000)
	for name, n := range map[string]Notice{"step": notice(v1alpha1.EventStep, 3), "hostile": hostile} {
		for _, format := range formats() {
			data, err := formatOf(format).render(&n)
			require.NoError(t, err)
			var indented bytes.Buffer
			require.NoError(t, json.Indent(&indented, data, "", "  "))
			indented.WriteByte('\n')
			golden.Equal(t, filepath.Join("testdata", name+"-"+strings.ToLower(string(format))+".json"), indented.String())
			if format == v1alpha1.FormatSlack {
				require.NotContains(t, string(data), "<")
				require.NotContains(t, string(data), ">")
			}
		}
	}
}

// Slack takes at most 3,000 characters in a section and 2,000 in an element of a context.
func TestSlackBounds(t *testing.T) {
	t.Parallel()
	n := notice(v1alpha1.EventHold, 1)
	n.Reason, n.Actor = strings.Repeat("<", 5000), strings.Repeat("&", 5000)
	data, err := slack(&n)
	require.NoError(t, err)
	var body struct {
		Blocks []struct {
			Text     struct{ Text string }
			Elements []struct{ Text string }
		}
	}
	require.NoError(t, json.Unmarshal(data, &body))
	require.LessOrEqual(t, len([]rune(body.Blocks[0].Text.Text)), 3000)
	require.LessOrEqual(t, len([]rune(body.Blocks[1].Elements[0].Text)), 2000)
}

func TestEveryEventHasWords(t *testing.T) {
	t.Parallel()
	for _, e := range []v1alpha1.ShiftEvent{
		v1alpha1.EventStep, v1alpha1.EventHold, v1alpha1.EventAwaitingApproval, v1alpha1.EventRollBack,
		v1alpha1.EventCompleted, v1alpha1.EventCommand, v1alpha1.EventFailedOver,
	} {
		n := notice(e, 1)
		require.NotEqual(t, string(e), happened(&n))
	}
}

func TestID(t *testing.T) {
	t.Parallel()
	a, b := notice(v1alpha1.EventStep, 3), notice(v1alpha1.EventStep, 3)
	// As another leader reads it from the status, where the zone and parts of seconds are lost.
	b.Time, b.Reason = b.Time.UTC().Truncate(time.Second), "other figures"
	require.Equal(t, a.id(), b.id())
	for _, change := range []func(*Notice){
		func(n *Notice) { n.Step = 4 },
		func(n *Notice) { n.Event = v1alpha1.EventHold },
		func(n *Notice) { n.To = "50" },
		func(n *Notice) { n.UID = "another of the same name" },
		func(n *Notice) { n.Time = n.Time.Add(time.Second) },
	} {
		c := notice(v1alpha1.EventStep, 3)
		change(&c)
		require.NotEqual(t, a.id(), c.id())
	}
}

func TestSend(t *testing.T) {
	t.Parallel()
	s, r := sender(t), receive(t)
	target := r.target(v1alpha1.EventStep, v1alpha1.EventRollBack)
	target.Notification.URL = "http://192.0.2.1/unused"
	target.Credentials = map[string][]byte{"url": []byte(r.URL + "/secret\n"), "token": []byte("t0ken\n")}
	s.Send(notice(v1alpha1.EventHold, 1), target)
	s.Send(notice(v1alpha1.EventStep, 2), target)
	s.close(t)
	require.Equal(t, "delivered 1, retried 0, failed 0, dropped 0", s.counts())
	require.Len(t, r.requests, 1)
	require.Equal(t, "POST /secret", r.requests[0].Method+" "+r.requests[0].URL.Path)
	require.Equal(t, "Bearer t0ken", r.requests[0].Header.Get("Authorization"))
	require.Equal(t, "application/json", r.requests[0].Header.Get("Content-Type"))
	require.Equal(t, r.bodies[0]["id"], r.requests[0].Header.Get("Idempotency-Key"))
	s.Send(notice(v1alpha1.EventStep, 3), target)
	require.Equal(t, "delivered 1, retried 0, failed 0, dropped 1", s.counts(), "nothing is sent once it is closed")
}

// A receiver that fails is tried again with the same id, and what follows waits
// for it, so that a shift is told of in order. Other shifts do not wait.
func TestRetriesKeepOrder(t *testing.T) {
	t.Parallel()
	s, r := sender(t), receive(t, 500, 503, 429)
	for step := range int32(5) {
		s.Send(notice(v1alpha1.EventStep, step), r.target())
	}
	s.close(t)
	require.Equal(t, "delivered 5, retried 3, failed 0, dropped 0", s.counts())
	var steps []any
	for _, b := range r.got() {
		steps = append(steps, b["step"])
	}
	require.Equal(t, []any{0., 0., 0., 0., 1., 2., 3., 4.}, steps)
	require.Equal(t, r.bodies[0]["id"], r.bodies[3]["id"])
}

func TestGivesUp(t *testing.T) {
	t.Parallel()
	s, r := sender(t), receive(t, 500, 500, 500, 500, 500, 404, 302)
	target := r.target()
	target.Credentials = map[string][]byte{"url": []byte(r.URL + "/T000/B000/secret"), "token": []byte("t0ken")}
	for step := range int32(4) {
		s.Send(notice(v1alpha1.EventStep, step), target)
	}
	target.Notification = &v1alpha1.ShiftNotification{Name: "gone"}
	target.Credentials = map[string][]byte{"url": []byte("http://%zz/secret")}
	s.Send(notice(v1alpha1.EventStep, 1), target)
	s.close(t)
	require.Equal(t, "delivered 1, retried 4, failed 4, dropped 0", s.counts())
	log := s.log.String()
	require.Contains(t, log, "attempts=5")
	require.Contains(t, log, "refuses the notice (HTTP 404): no, not with Bearer [redacted]")
	require.Contains(t, log, "redirects (HTTP 302), which is not followed")
	require.Contains(t, log, "notification gone has no web address")
	require.NotContains(t, log, "secret")
	require.NotContains(t, log, "t0ken")
}

// What the receiver asks for counts if it is longer than the own backoff.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	s, r := sender(t), receive(t, 429)
	r.header.Set("Retry-After", "1")
	began := time.Now()
	s.Send(notice(v1alpha1.EventStep, 1), r.target())
	s.close(t)
	require.GreaterOrEqual(t, time.Since(began), time.Second)
	require.Equal(t, "delivered 1, retried 1, failed 0, dropped 0", s.counts())

	now := time.Date(2026, 11, 23, 11, 0, 0, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, "-1": 0, "soon": 0, "999999999": longestRetryAfter,
		"Mon, 23 Nov 2026 11:00:30 GMT": 30 * time.Second, "Mon, 23 Nov 2026 10:00:00 GMT": 0,
	} {
		require.Equal(t, want, retryAfter(value, now), value)
	}
}

// A receiver that hangs blocks neither the caller nor another shift; its queue is
// bounded, the newest stay, and closing does not wait for it for ever.
func TestHangingReceiver(t *testing.T) {
	t.Parallel()
	reached := make(chan struct{}, 100)
	hanging := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.ReadAll(r.Body) // the server notices an end of the connection only then
		reached <- struct{}{}
		<-r.Context().Done()
	}))
	t.Cleanup(hanging.Close)
	s, r := sender(t), receive(t)
	stuck := Target{Notification: &v1alpha1.ShiftNotification{Name: "chat", URL: hanging.URL}}
	s.Send(notice(v1alpha1.EventStep, 0), stuck)
	<-reached
	for step := range int32(2 * waiting) {
		s.Send(notice(v1alpha1.EventStep, step+1), stuck)
	}
	s.mu.Lock()
	queue := s.queues[line{discovery.Key{Namespace: "web", Name: "php-web"}, "chat"}]
	require.Len(t, queue, waiting)
	require.EqualValues(t, 0, queue[0].notice.Step, "the one that is under way stays")
	require.EqualValues(t, 2*waiting, queue[waiting-1].notice.Step)
	s.mu.Unlock()
	other := notice(v1alpha1.EventStep, 1)
	other.Shift.Name = "other"
	s.Send(other, r.target())
	// Once it is counted, and not only received: what is under way at the end is dropped.
	require.Eventually(t, func() bool { return strings.HasPrefix(s.counts(), "delivered 1,") }, 30*time.Second, time.Millisecond)
	require.Len(t, r.got(), 1)

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s.Close(ctx)
	require.Equal(t, "delivered 1, retried 0, failed 0, dropped 129", s.counts())
}

// Addresses that a control plane in a cluster must not reach are refused once, not tried again.
func TestRefusedAddresses(t *testing.T) {
	t.Parallel()
	r := receive(t)
	b := &bench{}
	b.Sender = New(Options{Log: slog.New(slog.NewTextHandler(&b.log, nil))})
	b.Send(notice(v1alpha1.EventStep, 1), r.target(),
		Target{Notification: &v1alpha1.ShiftNotification{Name: "metadata", URL: "http://169.254.169.254/latest/meta-data"}})
	b.close(t)
	require.Equal(t, "delivered 0, retried 0, failed 2, dropped 0", b.counts())
	require.Contains(t, b.log.String(), "is an address of the control plane itself")
	require.Contains(t, b.log.String(), "is a link-local address")
	require.Empty(t, r.got())
}

func TestDefaultBackoff(t *testing.T) {
	t.Parallel()
	b := DefaultBackoff()
	require.Len(t, b, 4)
	require.Equal(t, time.Second, b[0])
	require.Equal(t, time.Minute, b[3])
}

// Where the page is known, a notice links to its shift.
func TestNoticeLinks(t *testing.T) {
	t.Parallel()
	n := Notice{Shift: discovery.Key{Namespace: "web", Name: "php-web"}, Link: "https://causeway.example.com/shifts/web/php-web"}
	out, err := generic(&n)
	require.NoError(t, err)
	require.Contains(t, string(out), `"link":"https://causeway.example.com/shifts/web/php-web"`)
	out, err = slack(&n)
	require.NoError(t, err)
	require.Contains(t, string(out), "*<https://causeway.example.com/shifts/web/php-web|web/php-web>*")
	n.Link = ""
	out, err = generic(&n)
	require.NoError(t, err)
	require.NotContains(t, string(out), "link")
}

package ec2

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
)

func TestMain(m *testing.M) { harness.Main(m) }

var now = time.Date(2026, 11, 30, 20, 0, 0, 0, time.UTC)

// mock starts AWS' own mock of the metadata service, which answers to version 2 alone.
func mock(t *testing.T, command ...string) *Metadata {
	t.Helper()
	address := harness.FreeAddress(t)
	host, port, err := net.SplitHostPort(address)
	require.NoError(t, err)
	harness.Start(t, harness.Command{
		Name: "metadata", Path: harness.Tool(t, "ec2-metadata-mock"), Dir: t.TempDir(),
		Args: append(command, "--imdsv2", "--hostname", host, "--port", port), Env: []string{"HOME=" + t.TempDir()},
	})
	m := NewMetadata("http://" + address)
	harness.Eventually(t, 20*time.Second, "the metadata service", func() error {
		_, _, err := m.get(t.Context(), "instance-id")
		return err
	})
	return m
}

func TestIdentity(t *testing.T) {
	t.Parallel()
	m := mock(t)
	id, err := m.Identity(t.Context())
	require.NoError(t, err)
	require.Equal(t, "i-1234567890abcdef0", id.Instance)
	require.Equal(t, "us-east-1", id.Region)
	require.Equal(t, "us-east-1f", id.Zone)
	require.NotEmpty(t, id.ZoneID)
	require.NotEmpty(t, id.Account)
	require.NotEmpty(t, id.Address)
	require.Empty(t, id.Group, "its tags are not in its metadata")

	file := filepath.Join(t.TempDir(), "identity")
	require.NoError(t, id.Keep(file))
	again, err := Recall(file)
	require.NoError(t, err)
	require.Equal(t, id, again)
	require.NoError(t, os.WriteFile(file, []byte("{"), 0o600))
	_, err = Recall(file)
	require.ErrorContains(t, err, "is damaged")
	_, err = Recall(file + "-none")
	require.ErrorContains(t, err, "no earlier start knew it")
}

// Each notice comes as AWS' own mock writes it.
func TestNotices(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		command []string
		want    Notice
		text    string
	}{
		"spot":   {[]string{"spot", "--action", "stop"}, Notice{Reason: SpotInterruption, Drains: true}, "EC2 will stop it at "},
		"target": {[]string{"asglifecycle"}, Notice{Reason: AutoScalingTerminating, Drains: true, Action: true}, "takes it out, to Terminated"},
		"event":  {[]string{"events", "--code", "instance-stop", "--state", "active"}, Notice{Reason: ScheduledEvent, Drains: true}, "EC2 has scheduled instance-stop for "},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := mock(t, c.command...)
			var got []Notice
			harness.Eventually(t, 20*time.Second, "the notice", func() error {
				var err error
				got, err = m.Notices(t.Context(), time.Now(), false)
				for _, n := range got {
					if n.Reason == c.want.Reason && n.Drains == c.want.Drains && n.Action == c.want.Action && strings.Contains(n.Text, c.text) {
						return nil
					}
				}
				return fmt.Errorf("it has %+v, %w", got, err)
			})
		})
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	events := func(text string) ([]Notice, error) { return parseEvents(text, now) }
	rebalance := func(text string) ([]Notice, error) { return parseRebalance(text, false) }
	const event = `[{"Code": %q, "Description": "x", "EventId": "instance-event-1", "NotBefore": %q, "State": %q}]`
	for _, c := range []struct {
		parse  func(string) ([]Notice, error)
		text   string
		count  int
		drains bool
	}{
		{parseSpot, `{"action": "terminate", "time": "2026-11-30T20:02:00Z"}`, 1, true},
		{parseTarget, "InService", 0, false},
		{parseTarget, "Detached", 0, false},
		{parseTarget, "Terminated", 1, true},
		{parseTarget, "Warmed:Stopped", 1, true},
		{parseTarget, "Standby", 1, true},
		{events, "[]", 0, false},
		{events, fmt.Sprintf(event, "instance-stop", "30 Nov 2026 20:04:00 GMT", "active"), 1, true},
		{events, fmt.Sprintf(event, "instance-stop", "30 Nov 2026 20:06:00 GMT", "active"), 1, false},
		{events, fmt.Sprintf(event, "instance-stop", "30 Nov 2026 19:31:00 GMT", "active"), 1, true},
		{events, fmt.Sprintf(event, "instance-stop", "30 Nov 2026 19:29:00 GMT", "active"), 1, false},
		{events, fmt.Sprintf(event, "instance-stop", "30 Nov 2026 20:04:00 GMT", "canceled"), 0, false},
		{events, fmt.Sprintf(event, "system-maintenance", "30 Nov 2026 20:04:00 GMT", "active"), 1, false},
		{events, fmt.Sprintf(event, "system-reboot", "soon", "active"), 1, false},
		{rebalance, `{"noticeTime": "2026-11-30T20:00:00Z"}`, 1, false},
	} {
		got, err := c.parse(c.text)
		require.NoError(t, err, c.text)
		require.Len(t, got, c.count, c.text)
		if c.count > 0 {
			require.Equal(t, c.drains, got[0].Drains, c.text)
		}
	}
	got, err := parseRebalance(`{"noticeTime": "2026-11-30T20:00:00Z"}`, true)
	require.NoError(t, err)
	require.True(t, got[0].Drains)
}

// Whatever the service says, it is notices or an error.
func FuzzNotices(f *testing.F) {
	f.Add(`{"action": "terminate", "time": "2026-11-30T20:02:00Z"}`)
	f.Add(`[{"Code": "instance-stop", "NotBefore": "30 Nov 2026 20:04:00 GMT", "State": "active"}]`)
	f.Fuzz(func(t *testing.T, text string) {
		for _, parse := range []func(string) ([]Notice, error){
			parseSpot, parseTarget, func(s string) ([]Notice, error) { return parseEvents(s, now) }, func(s string) ([]Notice, error) { return parseRebalance(s, true) },
		} {
			if notices, err := parse(text); err == nil {
				for _, n := range notices {
					require.NotEmpty(t, n.Reason)
					require.NotEmpty(t, n.Text)
				}
			}
		}
	})
}

// service is a metadata service with faults: tests set what stands at each path, and whether it answers.
type service struct {
	mu    sync.Mutex
	paths map[string]string
	away  bool
}

func (s *service) set(away bool, paths map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.away, s.paths = away, paths
}

func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	text, ok := s.paths[strings.TrimPrefix(r.URL.Path, "/latest/")]
	switch {
	case s.away:
		http.Error(w, "away", http.StatusInternalServerError)
	case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
		w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds"))
		fmt.Fprint(w, "token")
	case r.Header.Get("X-Aws-Ec2-Metadata-Token") != "token":
		http.Error(w, "no token", http.StatusUnauthorized)
	case !ok:
		http.NotFound(w, r)
	default:
		fmt.Fprint(w, text)
	}
}

// While the service is away, what it said last holds, and that it is away is said once.
func TestAway(t *testing.T) {
	t.Parallel()
	s := &service{}
	server := httptest.NewServer(s)
	defer server.Close()
	log, changed := &harness.Log{}, make(chan struct{}, 10)
	w := NewWatcher(WatchOptions{
		Metadata: NewMetadata(server.URL), Every: 5 * time.Millisecond, Changed: func() { changed <- struct{}{} }, Logger: slog.New(slog.NewTextHandler(log, nil)),
	})
	s.set(false, map[string]string{"meta-data/autoscaling/target-lifecycle-state": "Terminated"})
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { w.Run(ctx) })
	defer running.Wait()
	defer cancel()
	<-changed
	require.Len(t, w.State().Notices, 1)
	reachable := func(yes bool) {
		t.Helper()
		harness.Eventually(t, 20*time.Second, "the state", func() error {
			if w.State().Reachable != yes {
				return fmt.Errorf("it says %+v", w.State())
			}
			return nil
		})
	}
	for range 2 {
		s.set(true, nil)
		reachable(false)
		require.Len(t, w.State().Notices, 1, "no news is no good news")
		require.Contains(t, w.State().Error, "the instance metadata service at "+server.URL)
		s.set(false, nil)
		reachable(true)
		s.set(false, map[string]string{"meta-data/autoscaling/target-lifecycle-state": "Terminated"})
		<-changed // it was over for a moment
		<-changed
	}
	require.Equal(t, 2, strings.Count(log.String(), "cannot be read"), log.String())
}

// What is usually wrong is told.
func TestExplain(t *testing.T) {
	t.Parallel()
	forbidden := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusForbidden) }))
	defer forbidden.Close()
	_, err := NewMetadata(forbidden.URL).Identity(t.Context())
	require.ErrorContains(t, err, "--http-endpoint enabled")

	unauthorized := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "", http.StatusUnauthorized) }))
	defer unauthorized.Close()
	_, err = NewMetadata(unauthorized.URL).Identity(t.Context())
	require.ErrorContains(t, err, "the instance metadata service at "+unauthorized.URL)
	require.ErrorContains(t, err, "401")

	hang := make(chan struct{})
	silent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-hang:
		case <-r.Context().Done():
		}
	}))
	defer silent.Close()
	defer close(hang)
	_, err = NewMetadata(silent.URL).Identity(t.Context())
	require.ErrorContains(t, err, "does not answer within 2s")
	require.ErrorContains(t, err, "hop-limit")
}

// Auto Scaling is told that the host may go, with the credentials of the instance's profile.
func TestLifecycle(t *testing.T) {
	t.Parallel()
	s := &service{}
	server := httptest.NewServer(s)
	defer server.Close()
	s.set(false, map[string]string{
		"meta-data/iam/security-credentials/":     "host",
		"meta-data/iam/security-credentials/host": `{"Code": "Success", "AccessKeyId": "AKIDHOST", "SecretAccessKey": "x", "Token": "t", "Expiration": "2046-11-30T20:00:00Z"}`,
	})
	answer := func(status int, body string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, r *http.Request) {
			require.Contains(t, r.Header.Get("Authorization"), "AKIDHOST")
			require.NoError(t, r.ParseForm())
			require.Equal(t, "CompleteLifecycleAction", r.Form.Get("Action"))
			require.Equal(t, []string{"web", "drain", "i-1", "CONTINUE"}, []string{
				r.Form.Get("AutoScalingGroupName"), r.Form.Get("LifecycleHookName"), r.Form.Get("InstanceId"), r.Form.Get("LifecycleActionResult"),
			})
			w.WriteHeader(status)
			fmt.Fprint(w, body)
		}
	}
	const refusal = `<ErrorResponse><Error><Type>Sender</Type><Code>%s</Code><Message>no</Message></Error></ErrorResponse>`
	for want, handle := range map[string]http.HandlerFunc{
		"": answer(200, `<CompleteLifecycleActionResponse xmlns="http://autoscaling.amazonaws.com/doc/2011-01-01/"><CompleteLifecycleActionResult/></CompleteLifecycleActionResponse>`),
		"the instance profile may not do autoscaling:CompleteLifecycleAction: allow it on the auto scaling group web": answer(403, fmt.Sprintf(refusal, "AccessDenied")),
		"no lifecycle action of the hook drain of the auto scaling group web waits for i-1":                           answer(400, fmt.Sprintf(refusal, "ValidationError")),
	} {
		api := httptest.NewServer(handle)
		l := &Lifecycle{
			Metadata: NewMetadata(server.URL), Identity: &Identity{Instance: "i-1", Region: "ap-northeast-1"}, Group: "web", Hook: "drain",
			Logger: slog.New(slog.DiscardHandler), endpoint: api.URL,
		}
		err := l.Complete(t.Context())
		api.Close()
		if want == "" {
			require.NoError(t, err)
			continue
		}
		require.ErrorContains(t, err, want)
	}
}

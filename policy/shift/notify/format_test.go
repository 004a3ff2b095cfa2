package notify

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// vendor answers as Datadog and New Relic do: with the right key, and where there is one, with errors in the body.
type vendor struct {
	*httptest.Server

	mu     sync.Mutex
	header string
	status int
	answer string
	bodies []string
}

func newVendor(t *testing.T, header string, status int, answer string) *vendor {
	t.Helper()
	v := &vendor{header: header, status: status, answer: answer}
	v.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		v.mu.Lock()
		defer v.mu.Unlock()
		if r.Header.Get(v.header) != "the-k3y-of-9" || v.header != "Authorization" && r.Header.Get("Authorization") != "" {
			w.WriteHeader(http.StatusForbidden)
			return
		}
		v.bodies = append(v.bodies, string(body))
		w.WriteHeader(v.status)
		_, _ = io.WriteString(w, v.answer)
	}))
	t.Cleanup(v.Close)
	return v
}

func (v *vendor) target(f v1alpha1.NotificationFormat, token string) Target {
	t := Target{Notification: &v1alpha1.ShiftNotification{Name: "marker", URL: v.URL, Format: f}}
	if token != "" {
		t.Credentials = map[string][]byte{"token": []byte(token + "\n")}
	}
	return t
}

// Each vendor gets its key in its own header, and what it answers is understood.
func TestVendors(t *testing.T) {
	t.Parallel()
	const made = `{"data":{"changeTrackingCreateEvent":{"changeTrackingEvent":{"changeTrackingId":"1"},"messages":[]}}}`
	for name, c := range map[string]struct {
		format         v1alpha1.NotificationFormat
		header         string
		status         int
		answer, token  string
		counts, logged string
	}{
		"Datadog":                     {v1alpha1.FormatDatadog, "Dd-Api-Key", 202, `{"status":"ok"}`, "the-k3y-of-9", "delivered 1, retried 0, failed 0, dropped 0", ""},
		"Datadog without a key":       {v1alpha1.FormatDatadog, "Dd-Api-Key", 202, "", "", "delivered 0, retried 0, failed 1, dropped 0", "the credentials of notification marker lack the key token, which is Datadog's API key"},
		"Datadog with a wrong key":    {v1alpha1.FormatDatadog, "Dd-Api-Key", 202, "", "other", "delivered 0, retried 0, failed 1, dropped 0", "HTTP 403"},
		"a change":                    {v1alpha1.FormatNewRelic, "Api-Key", 200, made, "the-k3y-of-9", "delivered 1, retried 0, failed 0, dropped 0", ""},
		"a change of nothing":         {v1alpha1.FormatNewRelic, "Api-Key", 200, `{"data":{"changeTrackingCreateEvent":null},"errors":[{"message":"no entity found for the-k3y-of-9"}]}`, "the-k3y-of-9", "delivered 0, retried 0, failed 1, dropped 0", "refuses the notice: no entity found for [redacted]"},
		"a change with a message":     {v1alpha1.FormatNewRelic, "Api-Key", 200, `{"data":{"changeTrackingCreateEvent":{"messages":["too many entities"]}}}`, "the-k3y-of-9", "delivered 0, retried 0, failed 1, dropped 0", "too many entities"},
		"a change that was not made":  {v1alpha1.FormatNewRelic, "Api-Key", 200, `{}`, "the-k3y-of-9", "delivered 0, retried 0, failed 1, dropped 0", "it made no event"},
		"a proxy's page":              {v1alpha1.FormatNewRelic, "Api-Key", 200, `<html>`, "the-k3y-of-9", "delivered 0, retried 0, failed 1, dropped 0", "its answer is no JSON"},
		"a change in overload":        {v1alpha1.FormatNewRelic, "Api-Key", 503, "", "the-k3y-of-9", "delivered 0, retried 4, failed 1, dropped 0", "HTTP 503"},
		"a custom event":              {v1alpha1.FormatNewRelicEvent, "Api-Key", 200, `{"success":true}`, "the-k3y-of-9", "delivered 1, retried 0, failed 0, dropped 0", ""},
		"a custom event without keys": {v1alpha1.FormatNewRelicEvent, "Api-Key", 200, "", "", "delivered 0, retried 0, failed 1, dropped 0", "New Relic's license key"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, v := sender(t), newVendor(t, c.header, c.status, c.answer)
			s.Send(notice(v1alpha1.EventStep, 3), v.target(c.format, c.token))
			s.close(t)
			require.Equal(t, c.counts, s.counts(), s.log.String())
			require.Contains(t, s.log.String(), c.logged)
			require.NotContains(t, s.log.String(), "the-k3y-of-9")
			for _, body := range v.bodies {
				require.True(t, json.Valid([]byte(body)), body)
			}
		})
	}
}

// Whatever people write into names and reasons, vendors' bounds are kept, nobody is called and nothing is a query.
func TestHostileReasons(t *testing.T) {
	t.Parallel()
	n := notice(v1alpha1.EventRollBack, 1)
	n.Actor, n.Link = `"}) { x } @all`, "https://causeway.example.com/shifts/web/php-web"
	n.Reason = "@pagerduty %%% [click](https://example.org) \" } mutation { evil }" + strings.Repeat(" äöü", 3000)
	data, err := datadog(&n)
	require.NoError(t, err)
	var event struct {
		Title, Text    string
		AlertType      string `json:"alert_type"`
		AggregationKey string `json:"aggregation_key"`
		Tags           []string
	}
	require.NoError(t, json.Unmarshal(data, &event))
	require.LessOrEqual(t, utf8.RuneCountInString(event.Title), datadogTitle)
	require.LessOrEqual(t, utf8.RuneCountInString(event.Text), datadogText)
	require.LessOrEqual(t, len(event.AggregationKey), 100)
	require.True(t, strings.HasSuffix(event.Text, "\n"+n.Link), "a long reason takes the link's place")
	require.NotContains(t, event.Text, "@pagerduty")
	require.NotContains(t, event.Text, "%%%")
	require.Equal(t, "error", event.AlertType)
	require.Contains(t, event.Tags, "traffic_shift:php-web")

	data, err = newRelicChange(&n)
	require.NoError(t, err)
	var change struct {
		Query     string
		Variables map[string]string
	}
	require.NoError(t, json.Unmarshal(data, &change))
	require.NotContains(t, change.Query, "evil")
	require.NotContains(t, change.Query, "@all")
	require.Equal(t, "name = 'php-web'", change.Variables["entity"])
	require.True(t, strings.HasSuffix(change.Variables["why"], "…\n"+n.Link))
	for name, v := range change.Variables {
		require.LessOrEqual(t, len(v), 4096, name)
		require.Contains(t, change.Query, "$"+name, name)
	}

	data, err = newRelicEvent(&n)
	require.NoError(t, err)
	var events []map[string]any
	require.NoError(t, json.Unmarshal(data, &events))
	require.Len(t, events, 1)
	require.Equal(t, n.Link, events[0]["link"])
	require.InDelta(t, 10, events[0]["toPercent"], 0)
	for name, v := range events[0] {
		if text, ok := v.(string); ok {
			require.LessOrEqual(t, len(text), 4096, name)
		}
	}
}

// All notices of a shift are one group, and those of another shift of its name are not in it.
func TestGroup(t *testing.T) {
	t.Parallel()
	a, b := notice(v1alpha1.EventStep, 1), notice(v1alpha1.EventRollBack, -1)
	require.Equal(t, a.group(), b.group())
	b.UID = "another"
	require.NotEqual(t, a.group(), b.group())
}

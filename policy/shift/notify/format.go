package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// format is how a receiver wants its notices.
type format struct {
	render func(*Notice) ([]byte, error)
	// header has the token of the credentials after prefix. vendor is whose key that token is, "" where a
	// notice needs none.
	header, prefix, vendor string
	// refused says why an answer is a refusal although its status is good, "" if it is none. nil: its status says all.
	refused func(answer []byte) string
}

func formatOf(f v1alpha1.NotificationFormat) format {
	switch f {
	case v1alpha1.FormatSlack:
		return format{render: slack, header: "Authorization", prefix: "Bearer "}
	case v1alpha1.FormatDatadog:
		return format{render: datadog, header: "Dd-Api-Key", vendor: "Datadog's API key"}
	case v1alpha1.FormatNewRelic:
		return format{render: newRelicChange, header: "Api-Key", vendor: "New Relic's user key", refused: graphQLErrors}
	case v1alpha1.FormatNewRelicEvent:
		return format{render: newRelicEvent, header: "Api-Key", vendor: "New Relic's license key"}
	case v1alpha1.FormatGeneric:
	}
	return format{render: generic, header: "Authorization", prefix: "Bearer "}
}

// Bounds of Datadog's events: of a title and of a text, in characters.
const (
	datadogTitle = 100
	datadogText  = 4000
)

// datadog returns a notice as an event of Datadog (Events API v1, "Post an event"). Its tags say which shift, and
// the aggregation key keeps the events of one together.
func datadog(n *Notice) ([]byte, error) {
	alert := "info"
	switch {
	case n.Event == v1alpha1.EventRollBack:
		alert = "error"
	case n.Event == v1alpha1.EventCompleted:
		alert = "success"
	case n.Warning:
		alert = "warning"
	}
	// A word that begins with @ would send the event to whoever has that name.
	quiet := strings.NewReplacer("@", "@\u200b", "%%%", "%\u200b%%").Replace
	text := n.Shift.String() + ": " + happened(n)
	if n.Reason != "" {
		text += "\n" + n.Reason
	}
	if n.Actor != "" {
		text += "\nby " + n.Actor
	}
	return marshal(n, map[string]any{
		"title":         cut(n.Service+": "+happened(n), datadogTitle),
		"text":          linked(quiet(text), quiet(n.Link), datadogText),
		"date_happened": n.Time.Unix(),
		"alert_type":    alert,
		"priority":      "normal",
		// All events of a shift.
		"aggregation_key": "causeway-" + n.group(),
		"tags": []string{
			"source:causeway", "service:" + n.Service, "kube_namespace:" + n.Shift.Namespace, "traffic_shift:" + n.Shift.Name,
			"shift_event:" + strings.ToLower(string(n.Event)), "shift_phase:" + strings.ToLower(string(n.Phase)),
		},
	})
}

// newRelicMutation marks a change at the entity of a Service (NerdGraph, changeTrackingCreateEvent). What people may
// have written is in variables, so that nothing of it is read as GraphQL. %d is the time, in milliseconds.
const newRelicMutation = `mutation($entity: String!, $version: String!, $user: String, $what: String, $why: String, $group: String) { changeTrackingCreateEvent(changeTrackingEvent: { categoryAndTypeData: { kind: { category: "DEPLOYMENT", type: "ROLLING" }, categoryFields: { deployment: { version: $version } } }, entitySearch: { query: $entity }, user: $user, shortDescription: $what, description: $why, groupId: $group, timestamp: %d }) { changeTrackingEvent { changeTrackingId } messages } }`

// newRelicChange returns a notice as a change of New Relic's change tracking, at the entity that is called as the
// Service is. New Relic shows it as a marker on that entity's charts.
func newRelicChange(n *Notice) ([]byte, error) {
	return marshal(n, map[string]any{
		"query": fmt.Sprintf(newRelicMutation, n.Time.UnixMilli()),
		"variables": map[string]string{
			"entity":  "name = '" + n.Service + "'", // a name has no quotes
			"version": fmt.Sprintf("%s %% %s", n.To, targetOf(n)),
			"user":    n.Actor,
			"what":    cut(n.Shift.String()+": "+happened(n), newRelicShort),
			"why":     linked(n.Reason, n.Link, newRelicLong),
			"group":   n.group(),
		},
	})
}

// Bounds of texts of New Relic: of what a marker shows, and of an attribute, in characters. An attribute may have
// 4 KiB, and a character up to four bytes.
const (
	newRelicShort = 250
	newRelicLong  = 1000
)

// newRelicEvent returns a notice as a custom event of New Relic (Event API), for NRQL: SELECT * FROM CausewayShift.
func newRelicEvent(n *Notice) ([]byte, error) {
	number := func(p v1alpha1.Percent) json.Number {
		if p == "" {
			return "0"
		}
		return json.Number(p)
	}
	return marshal(n, []any{map[string]any{
		"eventType": "CausewayShift", "timestamp": n.Time.Unix(), "noticeId": n.id(),
		"namespace": n.Shift.Namespace, "shift": n.Shift.Name, "service": n.Service, "direction": n.Direction,
		"event": n.Event, "phase": n.Phase, "warning": n.Warning, "step": n.Step, "fromPercent": number(n.From), "toPercent": number(n.To),
		"actor": cut(n.Actor, newRelicShort), "reason": cut(n.Reason, newRelicLong), "text": happened(n), "link": cut(n.Link, newRelicLong),
	}})
}

// graphQLErrors returns the errors of an answer of NerdGraph, which come with HTTP 200, "" for none.
func graphQLErrors(answer []byte) string {
	var a struct {
		Data struct {
			ChangeTrackingCreateEvent *struct{ Messages []string }
		}
		Errors []struct{ Message string }
	}
	if err := json.Unmarshal(answer, &a); err != nil {
		return "its answer is no JSON"
	}
	var said []string
	for _, e := range a.Errors {
		said = append(said, e.Message)
	}
	switch made := a.Data.ChangeTrackingCreateEvent; {
	case len(said) > 0:
	case made == nil:
		said = []string{"it made no event"}
	default:
		said = made.Messages
	}
	return strings.Join(said, "; ")
}

// group is the same for all notices of a shift, and for none of another of its name.
func (n *Notice) group() string {
	of := Notice{Shift: n.Shift, UID: n.UID, Time: time.Time{}}
	return of.id()
}

// linked returns a text and a link below it, so many characters at most. It is the text that is cut.
func linked(text, link string, most int) string {
	if link == "" {
		return cut(text, most)
	}
	return cut(text, max(most-1-utf8.RuneCountInString(link), 1)) + "\n" + cut(link, most-2)
}

// cut shortens a text to so many characters.
func cut(s string, most int) string {
	if r := []rune(s); len(r) > most {
		return string(r[:most-1]) + "…"
	}
	return s
}

func marshal(n *Notice, v any) ([]byte, error) {
	out, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("notice of %s cannot be written as JSON: %w", n.Shift, err)
	}
	return out, nil
}

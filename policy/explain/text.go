package explain

import (
	"fmt"
	"strconv"
	"strings"
)

// Outcome says what comes of the request.
func (e *Explanation) Outcome() string {
	switch {
	case e.Answer == nil && len(e.Backends) == 1:
		return "a backend answers"
	case e.Answer == nil:
		return fmt.Sprintf("one of %d backends answers", len(e.Backends))
	case e.Answer.Status == 0:
		return "the connection is closed without an answer"
	case e.Answer.Location != "":
		return fmt.Sprintf("the mesh answers %d with location %s", e.Answer.Status, e.Answer.Location)
	}
	return "the mesh answers " + e.Answer.Text()
}

// Text is the status, or that there is none.
func (a *Answer) Text() string {
	switch {
	case a.Status == 0:
		return "by closing the connection"
	case a.GRPCStatus != nil:
		return fmt.Sprintf("%d with grpc-status %d", a.Status, *a.GRPCStatus)
	}
	return strconv.Itoa(a.Status)
}

// Text lists what is changed.
func (e *HeaderEdits) Text() string {
	var parts []string
	for _, name := range e.Remove {
		parts = append(parts, "without "+name)
	}
	for _, h := range e.Set {
		parts = append(parts, fmt.Sprintf("%s = %q", h.Name, h.Value))
	}
	for _, h := range e.Add {
		parts = append(parts, fmt.Sprintf("%s + %q", h.Name, h.Value))
	}
	return strings.Join(parts, ", ")
}

// Text names the backend with its port.
func (b *Backend) Text() string {
	s := b.Kind + " " + b.Name
	if b.Port != 0 {
		s += ":" + strconv.Itoa(int(b.Port))
	}
	return s
}

// Text is the interval with its last number, as people count.
func (i Interval) Text() string {
	if i.Begin == i.End {
		return "nothing"
	}
	return fmt.Sprintf("%d-%d", i.Begin, i.End-1)
}

// Text names the listener with what it takes.
func (l *Listener) Text() string {
	s := fmt.Sprintf("%s, %s on port %d", l.Name, l.Protocol, l.Port)
	if l.Hostname != "" {
		s += " for " + l.Hostname
	}
	if l.Clients != "" {
		s += "; " + l.Clients
	}
	return s
}

// Note tells which backing stands in for the target or answers in its place, ""
// for none.
func (t *Target) Note() string {
	switch {
	case t.Answer != nil:
		return "answered " + t.Answer.Text() + ": " + t.Answer.Because
	case t.AnsweredBy == t.Standby && t.Standby != "":
		return "answered by " + t.Standby + ", because it has no usable endpoint itself"
	case t.Standby != "":
		return "stands in: " + t.Standby
	}
	return ""
}

// Text is the message in one line.
func (m *Message) Text() string {
	parts := []string{m.Method + " " + m.Path, "host " + m.Host}
	for _, h := range m.Headers {
		parts = append(parts, h.Name+": "+h.Value)
	}
	return strings.Join(parts, "  ")
}

// Text says which side of a shift the request is on, and by what.
func (c *Cohort) Text() string {
	switch {
	case c.Position != nil:
		return fmt.Sprintf("%s = %q, place %d of 1,000,000: %s on %s", c.Key, c.Value, *c.Position, c.Backend, c.Platform)
	case c.Value != "":
		return fmt.Sprintf("%s = %q", c.Key, c.Value)
	case c.Key != "":
		return c.Key + ": none in the request"
	}
	return "none"
}

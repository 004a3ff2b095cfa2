package notify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift/outbound"
)

// Bounds of an attempt.
const (
	attemptTimeout = 10 * time.Second
	longestAnswer  = 64 << 10
	// longestRetryAfter is how long a receiver may have its notices wait. One that asks for a day
	// would make them worthless.
	longestRetryAfter = 10 * time.Minute
)

// result is the outcome of an attempt.
type result struct {
	err error
	// again is true if another attempt may do better, after a time that the receiver asks for.
	again bool
	after time.Duration
}

// post makes one attempt.
func (s *Sender) post(ctx context.Context, m message) result {
	to := m.target.Notification
	address := to.URL
	if secret := strings.TrimSpace(string(m.target.Credentials["url"])); secret != "" {
		address = secret
	}
	// The text of the error would have the URL, which may be a secret.
	where, err := url.Parse(address)
	if err != nil || where.Host == "" || where.Scheme != "http" && where.Scheme != "https" {
		return result{err: fmt.Errorf("notification %s has no web address: give url, or credentials with the key url", to.Name)}
	}
	how := formatOf(to.Format)
	body, err := how.render(&m.notice)
	if err != nil {
		return result{err: err}
	}
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address, bytes.NewReader(body))
	if err != nil {
		return result{err: fmt.Errorf("notification %s has no web address: give url, or credentials with the key url", to.Name)}
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("User-Agent", "causeway")
	// As the draft of the IETF (httpapi) calls what tells a repeated request from a new one.
	request.Header.Set("Idempotency-Key", m.notice.id())
	token := strings.TrimSpace(string(m.target.Credentials["token"]))
	switch {
	case token != "":
		request.Header.Set(how.header, how.prefix+token)
	case how.vendor != "":
		return result{err: fmt.Errorf("the credentials of notification %s lack the key token, which is %s", to.Name, how.vendor)}
	}
	answer, err := outbound.Do(s.client, request, longestAnswer)
	if err != nil {
		refused := (*outbound.RefusedError)(nil)
		text := outbound.Redact(fmt.Sprintf("%s cannot be reached: %v", where.Host, err), m.target.Credentials)
		return result{err: errors.New(text), again: !errors.As(err, &refused)}
	}
	switch status := answer.Status; {
	case status >= 200 && status < 300:
		if how.refused == nil {
			return result{}
		}
		if said := how.refused(answer.Body); said != "" {
			return result{err: fmt.Errorf("%s refuses the notice: %s", where.Host, outbound.Redact(cut(said, 200), m.target.Credentials))}
		}
		return result{}
	case status == http.StatusTooManyRequests || status == http.StatusRequestTimeout || status == http.StatusTooEarly || status >= 500:
		return result{
			err: fmt.Errorf("%s answers HTTP %d", where.Host, status), again: true,
			after: retryAfter(answer.Header.Get("Retry-After"), time.Now()),
		}
	case status >= 300 && status < 400:
		return result{err: fmt.Errorf("%s redirects (HTTP %d), which is not followed: name the address that it redirects to", where.Host, status)}
	default:
		said := outbound.Redact(string(answer.Body[:min(len(answer.Body), 200)]), m.target.Credentials)
		return result{err: fmt.Errorf("%s refuses the notice (HTTP %d): %s", where.Host, status, said)}
	}
}

// retryAfter reads the header, seconds or a date (RFC 9110, 10.2.3); 0 for none.
func retryAfter(value string, now time.Time) time.Duration {
	after := time.Duration(0)
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		after = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		after = at.Sub(now)
	}
	return min(max(after, 0), longestRetryAfter)
}

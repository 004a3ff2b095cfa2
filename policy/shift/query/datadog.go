package query

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift/outbound"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// datadogSpan is how far back Datadog is asked. A series without a point since
// then says nothing about the current step.
const datadogSpan = 5 * time.Minute

// datadogAnswer is what Datadog's "query timeseries points" answers.
type datadogAnswer struct {
	Status   string
	Error    string
	Errors   []string
	Warnings []string
	Series   []datadogSeries
}

type datadogSeries struct {
	Scope string
	// Interval is for how many seconds a point stands.
	Interval  float64
	Pointlist [][]*float64
}

// datadogLate is how long what agents send takes to arrive.
const datadogLate = 10 * time.Second

// datadogSite reports whether a site is Datadog's: credentials go nowhere else.
func datadogSite(site string) bool {
	return slices.ContainsFunc([]string{"datadoghq.com", "datadoghq.eu", "ddog-gov.com"}, func(domain string) bool {
		label, found := strings.CutSuffix(site, "."+domain)
		return site == domain || found && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	})
}

// datadog asks for a timeseries and returns its newest point.
func (a *Asker) datadog(ctx context.Context, m *v1alpha1.DatadogMetric, credentials map[string][]byte) (value float64, of time.Time, err error) {
	site := m.Site
	if site == "" {
		site = "datadoghq.com"
	}
	if !datadogSite(site) {
		return 0, of, fmt.Errorf("%q is no site of Datadog: write one of those that its documentation lists, for example datadoghq.eu", site)
	}
	key, application := credential(credentials, "api-key"), credential(credentials, "application-key")
	if key == "" || application == "" {
		return 0, of, errors.New("the credentials for Datadog lack the key api-key or application-key")
	}
	address := a.endpoint
	if address == "" {
		address = "https://api." + site
	}
	now := a.now()
	address += "/api/v1/query?" + url.Values{
		"from":  {strconv.FormatInt(now.Add(-datadogSpan).Unix(), 10)},
		"to":    {strconv.FormatInt(now.Unix(), 10)},
		"query": {m.Query},
	}.Encode()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return 0, of, fmt.Errorf("%q is no site of Datadog: %w", site, err)
	}
	request.Header.Set("Dd-Api-Key", key)
	request.Header.Set("Dd-Application-Key", application)
	request.Header.Set("Accept", "application/json")
	answer, err := outbound.Do(a.client, request, longestAnswer)
	if err != nil {
		return 0, of, fmt.Errorf("Datadog cannot be asked: %w", err) //nolint:staticcheck // a name
	}
	var said datadogAnswer
	err = json.Unmarshal(answer.Body, &said)
	if answer.Status != http.StatusOK {
		return 0, of, refusal("Datadog", answer, strings.Join(said.Errors, "; "))
	}
	if err != nil {
		return 0, of, unreadable("Datadog", answer, err)
	}
	if said.Status != "ok" || said.Error != "" {
		if said.Error == "" {
			return 0, of, errors.New("Datadog answers an error without a text") //nolint:staticcheck // a name
		}
		return 0, of, fmt.Errorf("Datadog answers an error: %s", said.Error) //nolint:staticcheck // a name
	}
	if n := len(said.Series); n > 1 {
		return 0, of, fmt.Errorf("the query answers %d series: aggregate them to one, for example with sum: and without by", n)
	}
	if len(said.Warnings) > 0 {
		return 0, of, fmt.Errorf("Datadog warns that its answer may not be whole: %s", said.Warnings[0]) //nolint:staticcheck // a name
	}
	if len(said.Series) == 1 {
		if value, of, found := said.Series[0].finished(now); found {
			return value, of, nil
		}
	}
	return 0, of, fmt.Errorf("the query has no finished point in the last %d minutes: see that what it names exists, write default_zero() where nothing means 0, and a rollup of a minute or less",
		int(datadogSpan.Minutes()))
}

// finished returns the value of the newest point whose time is over, and when that began. A point is of
// the time that begins with it, and a sum over half of that is half of the sum.
func (s *datadogSeries) finished(now time.Time) (value float64, of time.Time, found bool) {
	length := s.length()
	for _, p := range s.Pointlist {
		if len(p) != 2 || p[0] == nil || p[1] == nil {
			continue
		}
		began := time.UnixMilli(int64(*p[0]))
		if began.Add(length+datadogLate).After(now) || found && !began.After(of) {
			continue
		}
		value, of, found = *p[1], began, true
	}
	return value, of, found
}

// length returns the length of the interval that a point covers: from the answer, or else the distance
// between points.
func (s *datadogSeries) length() time.Duration {
	if s.Interval > 0 {
		return time.Duration(s.Interval * float64(time.Second))
	}
	shortest := time.Minute
	for i := 1; i < len(s.Pointlist); i++ {
		a, b := s.Pointlist[i-1], s.Pointlist[i]
		if len(a) != 2 || len(b) != 2 || a[0] == nil || b[0] == nil {
			continue
		}
		if apart := time.Duration(*b[0]-*a[0]) * time.Millisecond; apart > 0 {
			shortest = min(shortest, apart)
		}
	}
	return shortest
}

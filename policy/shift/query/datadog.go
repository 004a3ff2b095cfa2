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

// datadogSpan is how far back Datadog is asked. What has no point since then
// says nothing of the step that is under way.
const datadogSpan = 5 * time.Minute

// datadogAnswer is what Datadog's "query timeseries points" answers.
type datadogAnswer struct {
	Status string
	Error  string
	Errors []string
	Series []struct {
		Scope     string
		Pointlist [][]*float64
	}
}

// datadogSite reports whether a site is Datadog's: credentials go nowhere else.
func datadogSite(site string) bool {
	return slices.ContainsFunc([]string{"datadoghq.com", "datadoghq.eu", "ddog-gov.com"}, func(domain string) bool {
		label, found := strings.CutSuffix(site, "."+domain)
		return site == domain || found && label != "" && strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789") == ""
	})
}

// datadog asks for a timeseries and returns its newest point.
func (a *Asker) datadog(ctx context.Context, m *v1alpha1.DatadogMetric, credentials map[string][]byte) (float64, error) {
	site := m.Site
	if site == "" {
		site = "datadoghq.com"
	}
	if !datadogSite(site) {
		return 0, fmt.Errorf("%q is no site of Datadog: write one of those that its documentation lists, for example datadoghq.eu", site)
	}
	key, application := credential(credentials, "api-key"), credential(credentials, "application-key")
	if key == "" || application == "" {
		return 0, errors.New("the credentials for Datadog lack the key api-key or application-key")
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
		return 0, fmt.Errorf("%q is no site of Datadog: %w", site, err)
	}
	request.Header.Set("Dd-Api-Key", key)
	request.Header.Set("Dd-Application-Key", application)
	request.Header.Set("Accept", "application/json")
	answer, err := outbound.Do(a.client, request, longestAnswer)
	if err != nil {
		return 0, fmt.Errorf("Datadog cannot be asked: %w", err) //nolint:staticcheck // a name
	}
	var said datadogAnswer
	err = json.Unmarshal(answer.Body, &said)
	if answer.Status != http.StatusOK {
		return 0, refusal("Datadog", answer, strings.Join(said.Errors, "; "))
	}
	if err != nil {
		return 0, unreadable("Datadog", answer, err)
	}
	if said.Status != "ok" || said.Error != "" {
		if said.Error == "" {
			return 0, errors.New("Datadog answers an error without a text") //nolint:staticcheck // a name
		}
		return 0, fmt.Errorf("Datadog answers an error: %s", said.Error) //nolint:staticcheck // a name
	}
	if n := len(said.Series); n > 1 {
		return 0, fmt.Errorf("the query answers %d series: aggregate them to one, for example with sum: and without by", n)
	}
	newest, value, found := 0.0, 0.0, false
	for _, series := range said.Series {
		for _, p := range series.Pointlist {
			if len(p) == 2 && p[0] != nil && p[1] != nil && (!found || *p[0] > newest) {
				newest, value, found = *p[0], *p[1], true
			}
		}
	}
	if !found {
		return 0, fmt.Errorf("the query has no point in the last %d minutes: see that what it names exists, and write default_zero() where nothing means 0", int(datadogSpan.Minutes()))
	}
	return value, nil
}

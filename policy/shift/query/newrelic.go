package query

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/policy/shift/outbound"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// nrqlQuery asks NerdGraph, New Relic's GraphQL API, for the results of a NRQL
// query. The query is a variable, so that nothing in it is read as GraphQL.
const nrqlQuery = `query($account: Int!, $nrql: Nrql!, $timeout: Seconds) { actor { account(id: $account) { nrql(query: $nrql, timeout: $timeout) { results metadata { messages } } } } }`

// Shortest timeout of NRQL queries that NerdGraph takes.
const nrqlShortest = 5 * time.Second

// newRelicAnswer is what NerdGraph answers. Errors come with HTTP 200.
type newRelicAnswer struct {
	Data struct {
		Actor struct {
			Account *struct {
				NRQL *struct {
					Results []map[string]any
					// Messages are there where the results are not all of the data.
					Metadata struct{ Messages []string }
				}
			}
		}
	}
	Errors []struct {
		Message    string
		Extensions struct{ ErrorClass string }
	}
	// Error is what its gateway answers before GraphQL is reached.
	Error any
}

func (n *newRelicAnswer) said() string {
	var out []string
	for _, e := range n.Errors {
		if e.Extensions.ErrorClass != "" {
			e.Message = e.Extensions.ErrorClass + ": " + e.Message
		}
		out = append(out, e.Message)
	}
	if text, ok := n.Error.(string); ok {
		out = append(out, text)
	}
	return strings.Join(out, "; ")
}

// newRelic asks for a NRQL query's only figure.
func (a *Asker) newRelic(ctx context.Context, m *v1alpha1.NewRelicMetric, timeout time.Duration, credentials map[string][]byte) (float64, error) {
	key := credential(credentials, "api-key")
	if key == "" {
		return 0, errors.New("the credentials for New Relic lack the key api-key, a user key")
	}
	address := a.endpoint
	switch {
	case address != "":
	case m.Region == "" || m.Region == "US":
		address = "https://api.newrelic.com"
	case m.Region == "EU":
		address = "https://api.eu.newrelic.com"
	default:
		return 0, fmt.Errorf("%q is no region of New Relic: write US or EU", m.Region)
	}
	body, err := json.Marshal(map[string]any{"query": nrqlQuery, "variables": map[string]any{
		"account": m.AccountID, "nrql": m.Query, "timeout": math.Ceil(max(timeout, nrqlShortest).Seconds()),
	}})
	if err != nil {
		return 0, fmt.Errorf("the query cannot be written as JSON: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, address+"/graphql", bytes.NewReader(body))
	if err != nil {
		return 0, fmt.Errorf("New Relic cannot be asked: %w", err) //nolint:staticcheck // a name
	}
	request.Header.Set("Api-Key", key)
	request.Header.Set("Content-Type", "application/json")
	answer, err := outbound.Do(a.client, request, longestAnswer)
	if err != nil {
		return 0, fmt.Errorf("New Relic cannot be asked: %w", err) //nolint:staticcheck // a name
	}
	var said newRelicAnswer
	err = json.Unmarshal(answer.Body, &said)
	if answer.Status != http.StatusOK {
		return 0, refusal("New Relic", answer, said.said())
	}
	if err != nil {
		return 0, unreadable("New Relic", answer, err)
	}
	if text := said.said(); text != "" {
		return 0, fmt.Errorf("New Relic answers an error: %s", text) //nolint:staticcheck // a name
	}
	account := said.Data.Actor.Account
	if account == nil || account.NRQL == nil {
		return 0, fmt.Errorf("New Relic answers nothing of account %d: see that the key may read it", m.AccountID) //nolint:staticcheck // a name
	}
	if messages := account.NRQL.Metadata.Messages; len(messages) > 0 {
		return 0, fmt.Errorf("New Relic says that its answer may not be whole: %s", messages[0]) //nolint:staticcheck // a name
	}
	return figure(account.NRQL.Results)
}

// figure returns the only number of NRQL results. A percentile's is one level
// deeper, under the percentile.
func figure(results []map[string]any) (float64, error) {
	switch len(results) {
	case 0:
		return 0, errors.New("the query answers nothing: see that what it names exists")
	case 1:
	default:
		return 0, fmt.Errorf("the query answers %d rows: write one without TIMESERIES, FACET and COMPARE WITH", len(results))
	}
	var names []string
	var value float64
	var visit func(prefix string, row map[string]any)
	visit = func(prefix string, row map[string]any) {
		for _, name := range slices.Sorted(maps.Keys(row)) {
			switch v := row[name].(type) {
			case float64:
				names, value = append(names, prefix+name), v
			case map[string]any:
				visit(prefix+name+".", v)
			}
		}
	}
	visit("", results[0])
	switch len(names) {
	case 0:
		return 0, errors.New("the query answers no number: see that there is data in its time, and that it asks for an aggregate such as average()")
	case 1:
		return value, nil
	default:
		return 0, fmt.Errorf("the query answers %d numbers (%s): select one", len(names), strings.Join(names, ", "))
	}
}

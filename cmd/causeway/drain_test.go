package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestDrainTellsOfMistakes(t *testing.T) {
	_, err := execute(t, "drain", "--wait", "-1s")
	require.ErrorContains(t, err, "--wait")
	_, err = execute(t, "drain", "--admin", "127.0.0.1:1")
	require.ErrorContains(t, err, "--admin: no Envoy answers at 127.0.0.1:1")
}

// In a Pod the signal that ends the container begins the drain.
func TestDrainOnSignal(t *testing.T) {
	var asked []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			asked = append(asked, r.URL.Path)
			return
		}
		_, _ = w.Write([]byte("{}")) // no listener, so no connection
	}))
	defer s.Close()
	ctx, signal := context.WithCancel(t.Context())
	c := drainCommand()
	c.SetOut(&strings.Builder{})
	c.SetArgs([]string{"--admin", strings.TrimPrefix(s.URL, "http://"), "--wait", "1ms", "--on-signal"})
	done := make(chan error, 1)
	go func() { done <- c.ExecuteContext(ctx) }()
	signal()
	require.NoError(t, <-done)
	require.Equal(t, []string{"/healthcheck/fail", "/drain_listeners"}, asked)
}

package main

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// Nothing of the admin API is answered under a name that is not its own, the profiles too.
func TestAdminAnswersNoOtherName(t *testing.T) {
	s := &serve{}
	for _, path := range []string{"/debug/pprof/", "/v1/state"} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, http.NoBody)
		r.Host = "attacker.example.com"
		w := httptest.NewRecorder()
		s.adminHandler().ServeHTTP(w, r)
		require.Equal(t, 421, w.Code, path)
	}
}

package admin

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

func tokenFile(t *testing.T, path, name, role, token string) {
	t.Helper()
	sum := sha256.Sum256([]byte(token))
	require.NoError(t, os.WriteFile(path, fmt.Appendf(nil, "people:\n- {name: %s, role: %s, sha256: %s}\n", name, role, hex.EncodeToString(sum[:])), 0o600))
}

// A token is its person's with the role that the file has now; a broken file changes nothing.
func TestTokens(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "tokens.yaml")
	tokenFile(t, path, "ada", "stopper", "secret")
	commands := &Commands{Here: true}
	tokens, err := NewTokens(path, func() *Commands { return commands }, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	ada, err := tokens.Enter("secret")
	require.NoError(t, err)
	require.Equal(t, "ada", ada.Name())
	for _, wrong := range []string{"", "Secret", "secret ", hex.EncodeToString(tokens.people[0].digest)} {
		_, err := tokens.Enter(wrong)
		require.ErrorIs(t, err, ErrNobody)
	}
	may := func(p *Person) string {
		out := ""
		for _, action := range []string{discovery.OrderPause, discovery.OrderRollback, discovery.OrderFreeze, discovery.OrderResume, discovery.OrderPromote, discovery.OrderUnfreeze, discovery.OrderRelease, "x"} {
			if p.May(t.Context(), &discovery.Order{Action: action}) {
				out += action + " "
			}
		}
		return out
	}
	require.Equal(t, "pause rollback freeze ", may(ada))
	_, err = ada.Do(t.Context(), &discovery.Order{Action: discovery.OrderPromote})
	require.EqualError(t, err, "ada may not promote")
	require.Empty(t, may(&Person{Who: "v", Role: RoleViewer, Commands: commands}))
	require.Empty(t, may(&Person{Who: "v", Role: "root", Commands: commands}))
	require.Empty(t, may(&Person{Who: "o", Role: RoleOperator, Commands: &Commands{}}), "where Kubernetes knows who may do it")
	require.Equal(t, "release ", may(&Person{Who: "o", Role: RoleOperator, Commands: &Commands{Here: true, ShiftsFrom: "other"}}))

	require.NoError(t, os.WriteFile(path, []byte("people: 7"), 0o600))
	tokens.looked = time.Time{}
	_, err = tokens.Enter("secret")
	require.NoError(t, err, "the last good one holds")
	tokenFile(t, path, "bob", "viewer", "other")
	tokens.looked = time.Time{}
	_, err = tokens.Enter("secret")
	require.ErrorIs(t, err, ErrNobody)
	bob, err := tokens.Enter("other")
	require.NoError(t, err)
	require.Equal(t, RoleViewer, bob.Role)

	digest := hex.EncodeToString(make([]byte, sha256.Size))
	for text, want := range map[string]string{
		"people: [{name: a, role: admin, sha256: " + digest + "}]":   `people[0].role: "admin" is not viewer, stopper or operator`,
		"people: [{name: '', role: viewer, sha256: " + digest + "}]": `people[0].name: "" is empty, or another one has it`,
		"people: [{name: a, role: viewer, sha256: secret}]":          "people[0].sha256: it is no SHA-256 in hex: printf %s TOKEN | sha256sum",
		"persons: []": "it is no list of people",
	} {
		_, err := parseTokens([]byte(text))
		require.ErrorContains(t, err, want)
	}
}

// FuzzTokens reads files of tokens: whatever is in them, nobody comes in without a whole digest.
func FuzzTokens(f *testing.F) {
	f.Add([]byte("people:\n- {name: ada, role: operator, sha256: 00}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		people, err := parseTokens(text)
		if err != nil {
			return
		}
		for i := range people {
			require.Len(t, people[i].digest, sha256.Size)
			require.NotEmpty(t, people[i].Name)
		}
	})
}

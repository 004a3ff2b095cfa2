package e2e

import (
	"crypto/sha256"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/test/harness"
)

// A real shift on the page, in a real browser: share, chart and verdict move without a reload, each of three people has what they
// may press and nothing else, what is forged is refused, and what the guard takes back is told.
func TestPageOverAShift(t *testing.T) {
	beside(t, 0.5, time.Minute)
	tokens := filepath.Join(t.TempDir(), "people.yaml")
	people := "people:\n"
	for name, role := range map[string]string{"vera": "viewer", "stan": "stopper", "ada": "operator"} {
		people += fmt.Sprintf("- {name: %s, role: %s, sha256: %x}\n", name, role, sha256.Sum256([]byte(name+"-has-a-long-token")))
	}
	require.NoError(t, os.WriteFile(tokens, []byte(people), 0o600))
	ui := harness.FreeAddress(t)
	g := startGuardedBy(t, `[{percent: "20", hold: 3s}, {percent: "50", approval: Required}, {percent: "60", hold: 1h}]`, `successRate: {atLeast: "99"}`, nil,
		"--ui-listen", ui, "--ui-tokens", tokens)
	b := harness.StartBrowser(t)
	b.Size(1280, 1000)
	const shift = "/shifts/web/php"
	login := func(name string) {
		b.Open("http://" + ui + "/login?next=" + url.QueryEscape(shift))
		b.Eval(fmt.Sprintf("document.getElementById('token').value = %q", name+"-has-a-long-token"))
		b.Click("main button")
		require.Equal(t, shift, b.Eval("location.pathname"))
	}
	const buttons = `Array.from(document.querySelectorAll("main .actions button")).map(e => e.textContent).join()`
	share := func(percent string) string {
		return fmt.Sprintf(`(document.querySelector("#sides .card .large")?.textContent ?? "").replace(/\s/g, "") === %q`, percent+"%")
	}

	// Who looks sees it move, and has nothing to press.
	login("vera")
	require.Empty(t, b.Eval(buttons))
	b.Eval(`window.kept = document.querySelector("h1"); window.drawn = document.querySelector("#share polygon").getAttribute("points")`)
	b.Await(share("50"))
	b.Await(`document.querySelector("#share polygon").getAttribute("points") !== window.drawn`)
	require.Equal(t, "true", b.Eval(`window.kept === document.querySelector("h1")`), "the page was loaded again")
	require.Equal(t, "AwaitingApproval", string(g.wait("it waits", func(s *v1alpha1.TrafficShiftStatus) bool { return s.Phase == v1alpha1.ShiftAwaitingApproval }).Phase))
	require.Equal(t, http.StatusUnauthorized, forge(t, ui, "mallory", "rollback"))
	for _, name := range []string{"vera", "stan"} {
		require.Equal(t, http.StatusForbidden, forge(t, ui, name, "promote"), "%s promotes", name)
	}
	require.Equal(t, http.StatusForbidden, forge(t, ui, "vera", "rollback"))
	b.Click("header button")

	// Who may stop has that, and nothing that goes on.
	login("stan")
	require.Equal(t, "Roll back,Pause", b.Eval(buttons))
	b.Click("header button")

	// Who may promote is told what that does, and does it.
	login("ada")
	require.Contains(t, b.Eval(buttons), "Promote")
	b.Eval(`Array.from(document.querySelectorAll("main .actions button")).find(e => e.textContent === "Promote").click()`)
	b.Await(`location.pathname === "/act" && document.getElementById("reason")`)
	b.Eval(`document.getElementById("reason").value = "looks well, CHG-12"`)
	b.Eval(`document.querySelector("main form button").click()`)
	b.Await(`location.pathname === "` + shift + `" && ` + share("60"))
	require.Contains(t, b.Eval(`document.getElementById("history").textContent`), "looks well, CHG-12")
	require.Contains(t, b.Eval(`document.getElementById("history").textContent`), "ada")

	// A bad release is taken back before anybody looks away from the page.
	b.Eval(`window.kept = document.querySelector("h1")`)
	for _, w := range g.pods {
		w.SetFault(t, harness.Fault{Percent: 40, Code: http.StatusInternalServerError})
	}
	b.Await(`document.getElementById("verdict").textContent.includes("Taken back by the guard")`)
	b.Await(share("0"))
	require.Equal(t, "true", b.Eval(`window.kept === document.querySelector("h1")`))
	require.Contains(t, b.Eval(`document.getElementById("history").textContent`), "RollBack")
	root, err := harness.Root()
	require.NoError(t, err)
	b.Screenshot(filepath.Join(root, "bin", "screenshots", "real-shift-1280.png"))

	// Who calls the Service stands on its page, by the proxies' load reports.
	b.Open("http://" + ui + "/services/web/php")
	b.Await(`document.getElementById("traffic").textContent.includes("web/caller")`)
	require.Empty(t, b.Complaints())
	g.load.Stop().RequireNoFailures(t)
}

// forge orders something with somebody's token, past the buttons, and returns the answer's status.
func forge(t *testing.T, ui, name, action string) int {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+ui+"/api/v1/actions", strings.NewReader(
		fmt.Sprintf(`{"action": %q, "namespace": "web", "name": "php", "reason": "forged"}`, action)))
	require.NoError(t, err)
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("Authorization", "Bearer "+name+"-has-a-long-token")
	answer, err := (&http.Client{Timeout: 20 * time.Second}).Do(r)
	require.NoError(t, err)
	require.NoError(t, answer.Body.Close())
	return answer.StatusCode
}

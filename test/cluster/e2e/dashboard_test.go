package e2e_test

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"net/http/cookiejar"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// dashboard opens the page by `causeway dashboard`, through the API server's port-forward, and looks at it as a browser would.
func (c *onCluster) dashboard(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := c.Command(ctx, filepath.Join(c.root(t), "bin", "causeway"), "dashboard", "--kubeconfig", c.Kubeconfig())
	stdout, err := cmd.StdoutPipe()
	require.NoError(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	require.NoError(t, c.Start(cmd))
	defer func() {
		require.NoError(t, cmd.Process.Signal(syscall.SIGTERM))
		_ = cmd.Wait() // it was told to end
	}()
	said := ""
	for lines := bufio.NewScanner(stdout); lines.Scan(); {
		said += lines.Text() + "\n"
		if strings.Contains(said, "/open/") {
			break
		}
	}
	address := regexp.MustCompile(`http://127\.0\.0\.1:\d+/open/\S+`).FindString(said)
	require.NotEmpty(t, address, "%s%s", said, stderr.String())
	require.Contains(t, said, "for you (admin)", "it says whose rights it has")

	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := c.http()
	browser.Jar, browser.Timeout = jar, 30*time.Second
	ask := func(address string) (int, string) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
		require.NoError(t, err)
		answer, err := browser.Do(request)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body)
	}
	root, _, _ := strings.Cut(address, "/open/")
	_, body := ask(root + "/")
	require.NotContains(t, body, "web/users", "without its key the page is nobody's")
	status, body := ask(address)
	require.Equal(t, http.StatusOK, status, body)
	for path, want := range map[string]string{"/": "web/users", "/services/web/users": "Endpoints", "/proxies": "Part of a node id", "/api/v1/overview": `"serving":true`, "/changes": "Changes"} {
		status, body = ask(root + path)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
		require.Contains(t, body, want, path)
	}
}

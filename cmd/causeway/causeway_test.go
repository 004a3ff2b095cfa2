package main

import (
	"bytes"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// nothingSaid is a line with a heading whose value is missing.
var nothingSaid = regexp.MustCompile(`(?m)^\s*From:(.*namespace)?\s*$|cluster IPs:\s*(->\s*.*|)$|cluster IPs:.*->\s*$`)

func TestNothingSaid(t *testing.T) {
	for _, bad := range []string{"From:", "From:     ", "From:     namespace ", "From:   web/php, namespace ", "  cluster IPs: ", "cluster IPs:  -> 10.0.0.1", "cluster IPs: 10.0.0.1 -> "} {
		require.Regexp(t, nothingSaid, "Request:  GET /\n"+bad+"\nmore")
	}
	for _, good := range []string{"From:     web/php, namespace web", "From:   namespace web", "cluster IPs: 10.0.0.1", "cluster IPs: 10.0.0.1 -> 10.0.0.2"} {
		require.NotRegexp(t, nothingSaid, good+"\nmore")
	}
}

// execute runs a command line and returns what it printed and its error. Whatever
// it prints has no heading without its value.
func execute(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := root()
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.ExecuteContext(t.Context())
	require.NotRegexp(t, nothingSaid, out.String(), "causeway %s", strings.Join(args, " "))
	return out.String(), err
}

// Wrong flags are refused with the flag and the remedy.
func TestWrongFlags(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"xDS beyond loopback without TLS": {[]string{"serve", "--config", "x", "--xds-listen", ":18000"}, "--xds-listen: :18000 is not loopback and has no TLS: give --xds-tls-cert"},
		"half of TLS":                     {[]string{"serve", "--config", "x", "--xds-tls-cert", "a"}, "go together"},
		"admin beyond loopback":           {[]string{"serve", "--config", "x", "--admin-listen", "0.0.0.0:1"}, "--admin-listen: 0.0.0.0:1 is not a loopback address"},
		"log level":                       {[]string{"serve", "--config", "x", "--log-level", "loud"}, `--log-level: "loud" is not debug, info, warn or error`},
		"bootstrap without a name":        {[]string{"bootstrap"}, "--namespace: it is empty"},
		"bootstrap with a public admin":   {[]string{"bootstrap", "--namespace", "a", "--workload", "b", "--id", "c", "--admin-listen", "0.0.0.0:1"}, "--admin-listen"},
		"an output that there is not":     {[]string{"version", "-o", "xml"}, `--output" flag: "xml" is not table, wide, json or yaml`},
		"a directory that there is not":   {[]string{"validate", "/does/not/exist"}, "no such file"},
		"no control plane":                {[]string{"proxies", "--admin", "127.0.0.1:1"}, "no control plane answers at 127.0.0.1:1: start 'causeway serve'"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := execute(t, c.args...)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// validate says what is wrong where, and its exit status tells a pipeline.
func TestValidate(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "web.yaml")
	write := func(text string) { require.NoError(t, os.WriteFile(file, []byte(text), 0o600)) }
	write("apiVersion: v1\nkind: Service\nmetadata: {name: php-web, namespace: web}\nspec:\n  ports:\n  - {name: http, port: 80}\n")
	out, err := execute(t, "validate", dir)
	require.NoError(t, err)
	require.Equal(t, "1 object in 1 file: 0 errors, 0 warnings, 0 notes\n", out)
	require.Equal(t, exitOK, exitCode(err))

	write("apiVersion: v1\nkind: Service\nmetadata: {name: php-web, namespace: web}\nspec:\n  ports:\n  - {name: http, prot: 80}\n")
	out, err = execute(t, "validate", dir)
	require.ErrorIs(t, err, errFindings)
	require.Equal(t, exitFindings, exitCode(err))
	require.Contains(t, out, "web.yaml:6")
	require.Contains(t, out, "1 object, of which 1 cannot be read, in 1 file: 1 error,")
	require.Contains(t, out, "prot")

	out, err = execute(t, "validate", dir, "-o", "json")
	require.ErrorIs(t, err, errFindings)
	require.Contains(t, out, `"severity": "error"`)
}

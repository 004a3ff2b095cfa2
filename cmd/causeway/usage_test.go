package main

import (
	"net"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/spf13/cobra"
	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
)

// A command that is written wrongly says how to write it, and ends 1.
func TestWrongUsage(t *testing.T) {
	for line, want := range map[string]string{
		"proxys":                          "there is no command 'causeway proxys': did you mean 'causeway proxies'? ('causeway --help' says more)",
		"zzz":                             "there is no command 'causeway zzz': write one of agent, bootstrap, ",
		"proxys --wide":                   "did you mean 'causeway proxies'?",
		"shift statsu":                    "there is no command 'causeway shift statsu': did you mean 'causeway shift status'?",
		"shift statsu web/php -o json":    "did you mean 'causeway shift status'?",
		"help shft":                       "there is no command 'causeway shft': did you mean 'causeway shift'?",
		"help shift wach":                 "there is no command 'causeway shift wach': did you mean 'causeway shift watch'?",
		"completion bsh":                  "there is no command 'causeway completion bsh': did you mean 'causeway completion bash'?",
		"agent rn":                        "there is no command 'causeway agent rn': did you mean 'causeway agent run'?",
		"shift wach web/php":              "there is no command 'causeway shift wach': did you mean 'causeway shift watch'?",
		"agent run":                       "agent run: it is not told who it is: give --config FILE, such as /etc/causeway/agent.yaml (docs/hosts.md), or --namespace, --workload and, on an EC2 instance, --ec2",
		"agent run --config /no/file":     "--config: open /no/file: no such file or directory: name a YAML file with settings that can be read",
		"explain requst GET http://a/":    "did you mean 'causeway explain request'?",
		"guard relase web/php":            "did you mean 'causeway guard release'?",
		"validate --strickt x":            "validate has no flag --strickt: did you mean --strict? ('causeway validate --help' says more)",
		"serve --nope":                    "serve has no flag --nope: 'causeway serve --help' says more",
		"serve -x":                        "serve has no flag 'x' in -x: ",
		"diff":                            "diff takes 1 argument and got none: write 'causeway diff DIR' ('causeway diff --help' says more)",
		"diff a b":                        "diff takes 1 argument and got a b: write 'causeway diff DIR'",
		"endpoints a b":                   "endpoints takes at most 1 argument and got a b: write 'causeway endpoints [NAMESPACE/SERVICE]'",
		"shift promote":                   "shift promote takes 1 argument and got none: write 'causeway shift promote NAMESPACE/NAME'",
		"bootstrap x":                     "bootstrap takes no arguments and got x: write 'causeway bootstrap'",
		"version x":                       "version takes no arguments and got x",
		"validate x -o xml":               `"xml" is not table, wide, json or yaml`,
		"diff x -o xml":                   `"xml" is not table, wide, json or yaml`,
		"explain request --from a/b":      "give a method and a URL",
		"explain object":                  "give one object as KIND/NAME",
		"serve --ec2-interval 5":          "'causeway serve --help' says more",
		"status --context a --nope":       "status has no flag --nope",
		"explain request --from a GET /x": "it names no host: write http://",
	} {
		out, err := execute(t, strings.Fields(line)...)
		require.ErrorContains(t, err, want, line)
		require.Equal(t, exitError, exitCode(err), line)
		require.Empty(t, out, line)
	}
	for _, group := range []string{"", "shift", "explain", "guard"} {
		out, err := execute(t, strings.Fields(group)...)
		require.NoError(t, err, group)
		require.Contains(t, out, "Available Commands:", group)
	}
}

// A listener that cannot be opened says which flag to change.
func TestCannotListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { require.NoError(t, taken.Close()) }()
	for address, want := range map[string]string{
		taken.Addr().String(): "is in use, perhaps by another 'causeway serve' ('ss -ltnp' names the process): end that process, or give another address: --http-listen HOST:PORT",
		"192.0.2.1:80":        "192.0.2.1:80 is no address of this host",
		"nowhere":             `"nowhere" cannot be listened on`,
	} {
		l, err := net.Listen("tcp", address)
		if err == nil {
			require.NoError(t, l.Close())
		}
		require.ErrorContains(t, cannotListen("--http-listen", address, err), want)
	}
}

// Help fits a terminal of 80 columns.
func TestHelpFitsTheTerminal(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.Fields(c.CommandPath())[1:]
		out, err := execute(t, append(path, "--help")...)
		require.NoError(t, err)
		for line := range strings.Lines(out) {
			require.LessOrEqual(t, utf8.RuneCountInString(strings.TrimRight(line, "\n")), helpWidth, "%s: %s", c.CommandPath(), line)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(root())
}

func TestMeant(t *testing.T) {
	among := namedKeys([]string{"shop/web", "web/php", "web/php-web", "web/cron", "api/php"})
	for name, want := range map[string]string{
		"web/phpp": "did you mean web/php?", "web/croon": "did you mean web/cron?", "shop/php": "did you mean api/php?", "wbe/cron": "did you mean web/cron?",
		"web/mysql": "look", "web/php-wbe": "did you mean web/php-web?",
	} {
		require.Equal(t, want, meant(namedKeys([]string{name})[0], among, "look"), name)
	}
	require.Equal(t, discovery.Key{}, discovery.Meant(discovery.Key{Namespace: "a", Name: "b"}, nil))
}

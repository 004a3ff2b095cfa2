package settings

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"
)

type flags struct {
	*pflag.FlagSet
	namespace string
	drain     time.Duration
	ec2       bool
	servers   []string
	captured  []string
}

func newFlags() *flags {
	f := &flags{FlagSet: pflag.NewFlagSet("run", pflag.ContinueOnError)}
	f.StringVar(&f.namespace, "namespace", "", "")
	f.DurationVar(&f.drain, "drain-timeout", time.Minute, "")
	f.BoolVar(&f.ec2, "ec2", false, "")
	f.StringSliceVar(&f.servers, "server", []string{"127.0.0.1:18000"}, "")
	f.StringArrayVar(&f.captured, "captured-listen", nil, "")
	f.String("config", "", "")
	return f
}

func write(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "agent.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// A file sets flags, in all ways to write a list, and the command line wins.
func TestApply(t *testing.T) {
	t.Parallel()
	f := newFlags()
	require.NoError(t, f.Parse([]string{"--namespace", "web"}))
	require.NoError(t, Apply([]string{write(t, `# five lines
namespace: other
server: [a:18000, b:18000]
ec2: true
drain-timeout: 90s
captured-listen:
- 127.0.0.1:15002=240.0.0.0/4,198.51.100.0/24
`)}, f.FlagSet))
	require.Equal(t, "web", f.namespace)
	require.Equal(t, []string{"a:18000", "b:18000"}, f.servers)
	require.True(t, f.ec2)
	require.Equal(t, 90*time.Second, f.drain)
	require.Equal(t, []string{"127.0.0.1:15002=240.0.0.0/4,198.51.100.0/24"}, f.captured)
	require.True(t, f.Changed("server"), "it is said, as on the command line")

	f = newFlags()
	require.NoError(t, Apply([]string{write(t, "server: a:18000,b:18000\ncaptured-listen: [127.0.0.1:15002=240.0.0.0/4, '[::1]:15002=fdca:5e0a:7a1e::/48']\n")}, f.FlagSet))
	require.Equal(t, []string{"a:18000", "b:18000"}, f.servers)
	require.Len(t, f.captured, 2)
	require.NoError(t, Apply(nil, f.FlagSet))

	f = newFlags()
	require.NoError(t, Apply([]string{write(t, "namespace: default\ndrain-timeout: 90s\nserver: [a:1, b:1]\n"), write(t, "namespace: web\nserver: c:1\n")}, f.FlagSet))
	require.Equal(t, "web", f.namespace, "a later file wins")
	require.Equal(t, []string{"c:1"}, f.servers)
	require.Equal(t, 90*time.Second, f.drain)
	require.NoError(t, Apply([]string{write(t, "")}, f.FlagSet))
	require.NoError(t, Apply([]string{write(t, "# nothing yet\n")}, f.FlagSet))
}

// A mistake is told with its file, line, setting and remedy.
func TestMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"namespace: web\nnamespce: web\n":       "line 2: namespce: there is no such setting: did you mean namespace?",
		"zzzzzzzzzzz: 1\n":                      "line 1: zzzzzzzzzzz: there is no such setting: the names are those of the flags, without --",
		"config: x\n":                           "line 1: config: there is no such setting",
		"namespace: a\nec2: true\nnamespace: b": "line 3: namespace: it stands in line 1 too: leave out one of the two",
		"\n\ndrain-timeout: soon\n":             `line 3: drain-timeout: "soon" is not of the type duration (`,
		"drain-timeout: 60\n":                   ": write, for example, 60s",
		"ec2: perhaps\n":                        ": write true or false",
		"namespace: [a, b]\n":                   "line 1: namespace: it takes one value",
		"namespace: {a: b}\n":                   "line 1: namespace: write text, a number, or a list of these",
		"namespace:\n":                          "line 1: namespace: it has no value: write one, or leave the line out",
		"server: [a:1, ]\nnamespace: &x web\n#": "",
		"namespace: &x web\nserver: *x\n":       "line 2: server: *x: write the value itself",
		"- namespace\n":                         "line 1: write settings, each in a line of its own: NAME: VALUE",
		"{a: b}: c\n":                           "line 1: write settings",
		"namespace: web\n---\nnamespace: web\n": "it has more than one document",
		"namespace: web\n\tserver: x\n":         "line 2: found a tab character that violates indentation: it is not YAML",
	} {
		file := write(t, text)
		err := Apply([]string{file}, newFlags().FlagSet)
		if want == "" {
			require.NoError(t, err, text)
			continue
		}
		require.ErrorContains(t, err, want, text)
		require.ErrorContains(t, err, "--config: "+file+": ", text)
	}
	require.ErrorContains(t, Apply([]string{filepath.Join(t.TempDir(), "none")}, newFlags().FlagSet), "no such file")
	require.ErrorContains(t, Apply([]string{write(t, string(make([]byte, maxFile+1)))}, newFlags().FlagSet), "it is no file of settings")
}

// Whatever stands in a file, it is settings or an error, and what was taken is of a known name.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"namespace: web\nserver: [a, b]\n", "{namespace: web}", "namespace: *x", "- a", "a: &a [*a]", "\t", "? {a: b}\n: c", "server: !!binary aGk="} {
		f.Add(seed)
	}
	known := []string{"namespace", "server"}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := Parse([]byte(text), known)
		if err != nil {
			require.NotEmpty(t, err.Error())
			return
		}
		for _, s := range got {
			require.Contains(t, known, s.Name)
			require.Positive(t, s.Line)
		}
	})
}

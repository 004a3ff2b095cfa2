package lint

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy"
	"github.com/causeway-mesh/causeway/policy/diff"
	"github.com/causeway-mesh/causeway/policy/resolve"
)

// world is a directory of right objects, of which one at a time is spoiled.
type world struct {
	name    string
	objects []Object
	rows    []objects.Rows
	// known are the findings about the objects as they are.
	known map[policy.Finding]bool
}

func kindOf(name string) objects.Kind {
	kinds := objects.Kinds()
	return kinds[slices.IndexFunc(kinds, func(k objects.Kind) bool { return k.Name == name })]
}

func readWorld(t *testing.T, path string) *world {
	t.Helper()
	loaded, err := file.LoadAll([]string{path}, nil, catalog.New())
	require.NoError(t, err)
	require.Empty(t, loaded.Problems)
	w := &world{name: filepath.Base(path), known: make(map[policy.Finding]bool)}
	for _, o := range loaded.Written() {
		w.objects = append(w.objects, Object{ObjectName: o.ObjectName, Value: o.Value})
		rows, mistakes := decoded(t, o.Kind, o.Value)
		require.Empty(t, mistakes)
		w.rows = append(w.rows, rows)
	}
	for _, f := range w.check(t, -1, Object{}, objects.Rows{}) {
		w.known[f] = true
	}
	return w
}

func decoded(t *testing.T, kind string, value map[string]any) (objects.Rows, []string) {
	t.Helper()
	data, err := json.Marshal(value)
	require.NoError(t, err)
	var rows objects.Rows
	var mistakes []string
	for _, e := range kindOf(kind).Decode(data, file.Scope, &rows) {
		mistakes = append(mistakes, e.Error())
		require.NotContains(t, e.Remedy, "^", "no regular expression is a remedy: %s", e.Error())
	}
	return rows, mistakes
}

// check returns what is found in the world with another object in place of one.
func (w *world) check(t *testing.T, at int, o Object, rows objects.Rows) []policy.Finding {
	t.Helper()
	all := slices.Clone(w.objects)
	cat := catalog.New()
	_, err := cat.Write(time.Time{}, func(tx *catalog.Tx) error {
		for i, r := range w.rows {
			if i == at {
				r, all[i] = rows, o
			}
			for _, s := range r.Services {
				catalog.Services.Put(tx, s)
			}
			for _, s := range r.Endpoints {
				catalog.Endpoints.Put(tx, s)
			}
			for _, o := range r.Objects {
				catalog.Objects.Put(tx, o)
			}
		}
		return nil
	})
	require.NoError(t, err)
	r := cat.Read()
	return Explain(r, slices.Concat(resolve.Validate(r), diff.Uncovered(r), Check(r, all)), func(discovery.ObjectName) string { return "" })
}

// mutant is an object with one mistake.
type mutant struct {
	// kind and path, without indexes, say what was spoiled, how says in which way.
	kind, path, how string
	// at is the path with indexes.
	at     string
	object Object
}

func (m *mutant) String() string { return m.kind + " " + m.path + " " + m.how }

// mutants returns the objects of a world with one mistake each: every field in
// every way that its value can be wrong, each once.
func (w *world) mutants(seen map[string]bool, f func(i int, m mutant)) {
	for i, o := range w.objects {
		var paths [][]string
		var collect func(path []string, v any)
		collect = func(path []string, v any) {
			if len(path) > 0 {
				paths = append(paths, path)
			}
			switch v := v.(type) {
			case map[string]any:
				for _, k := range slices.Sorted(maps.Keys(v)) {
					collect(append(slices.Clone(path), k), v[k])
				}
			case []any:
				for j := range v {
					collect(append(slices.Clone(path), fmt.Sprintf("[%d]", j)), v[j])
				}
			}
		}
		for key, v := range o.Value {
			if key != "apiVersion" && key != "kind" && key != "metadata" {
				collect([]string{key}, v)
			}
		}
		if annotations, ok := at(o.Value, "metadata", "annotations").(map[string]any); ok {
			for _, k := range slices.Sorted(maps.Keys(annotations)) {
				paths = append(paths, []string{"metadata", "annotations", k})
			}
		}
		slices.SortFunc(paths, slices.Compare)
		for _, path := range paths {
			for _, how := range ways {
				m := mutant{kind: o.Kind, at: strings.ReplaceAll(strings.Join(path, "."), ".[", "["), how: how.name}
				m.path = regexp.MustCompile(`\[\d+\]`).ReplaceAllString(m.at, "[]")
				if seen[m.String()] {
					continue
				}
				copied := clone(o.Value).(map[string]any)
				if spoil(copied, path, how) {
					seen[m.String()] = true
					m.object = Object{ObjectName: o.ObjectName, Value: copied}
					f(i, m)
				}
			}
		}
	}
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = clone(v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = clone(v[i])
		}
		return out
	}
	return v
}

// way is a way in which a value can be wrong.
type way struct {
	name string
	// key spoils the value's key, value the value; ok is false where the way makes no sense.
	key   func(string) (string, bool)
	value func(any) (any, bool)
}

func ofText(f func(string) (string, bool)) func(any) (any, bool) {
	return func(v any) (any, bool) {
		s, ok := v.(string)
		if !ok {
			return nil, false
		}
		out, ok := f(s)
		return out, ok && out != s
	}
}

func ofNumber(f func(float64) float64) func(any) (any, bool) {
	return func(v any) (any, bool) {
		n, ok := v.(float64)
		if !ok || f(n) == n {
			return nil, false
		}
		return f(n), true
	}
}

func isDuration(s string) bool { _, err := time.ParseDuration(s); return err == nil && s != "0" }

var decimal = regexp.MustCompile(`^-?[0-9]+(\.[0-9]+)?$`)

var ways = []way{
	{name: "misspelt", key: func(k string) (string, bool) {
		i := len(k) / 2
		if len(k) < 3 || k[i-1] == k[i] {
			return k + "s", true
		}
		return k[:i-1] + k[i:i+1] + k[i-1:i] + k[i+1:], true
	}},
	{name: "another type", value: func(v any) (any, bool) {
		if _, ok := v.(string); ok {
			return 7.0, true
		}
		return "seven", true
	}},
	{name: "empty", value: func(v any) (any, bool) {
		switch v := v.(type) {
		case string:
			return "", v != ""
		case []any:
			return []any{}, len(v) > 0
		case map[string]any:
			return map[string]any{}, len(v) > 0
		}
		return nil, false
	}},
	{name: "negative", value: ofNumber(func(n float64) float64 { return -1 })},
	{name: "zero", value: ofNumber(func(n float64) float64 { return 0 })},
	{name: "huge", value: ofNumber(func(n float64) float64 { return 2000000000 })},
	{name: "a thousand times", value: ofNumber(func(n float64) float64 { return n * 1000 })},
	{name: "another case", value: ofText(func(s string) (string, bool) {
		if isDuration(s) || decimal.MatchString(s) || !regexp.MustCompile("[A-Za-z]").MatchString(s) {
			return s, false
		}
		if strings.ToLower(s) != s {
			return strings.ToLower(s), true
		}
		return strings.ToUpper(s), true
	})},
	{name: "with a letter too many", value: ofText(func(s string) (string, bool) {
		return s + "x", !isDuration(s) && !decimal.MatchString(s)
	})},
	{name: "with a space", value: ofText(func(s string) (string, bool) { return s + " ", true })},
	{name: "with a star", value: ofText(func(s string) (string, bool) { return s + "*", true })},
	{name: "without unit", value: ofText(func(s string) (string, bool) { return strings.TrimRight(s, "hms"), isDuration(s) })},
	{name: "of another unit", value: ofText(func(s string) (string, bool) {
		return strings.TrimRight(s, "hms") + map[bool]string{true: "h", false: "ms"}[!strings.HasSuffix(s, "h")], isDuration(s)
	})},
	{name: "of minutes in full", value: ofText(func(s string) (string, bool) { return strings.TrimRight(s, "hms") + "min", isDuration(s) })},
	{name: "a negative time", value: ofText(func(s string) (string, bool) { return "-" + s, isDuration(s) })},
	{name: "a percent sign", value: ofText(func(s string) (string, bool) { return s + "%", decimal.MatchString(s) })},
	{name: "zero in quotes", value: ofText(func(s string) (string, bool) { return "0", decimal.MatchString(s) })},
	{name: "one thousandth", value: ofText(func(s string) (string, bool) { return "0.001", decimal.MatchString(s) })},
	{name: "huge in quotes", value: ofText(func(s string) (string, bool) { return "2000000000", decimal.MatchString(s) })},
	{name: "a negative number in quotes", value: ofText(func(s string) (string, bool) { return "-1", decimal.MatchString(s) })},
	{name: "twice", value: func(v any) (any, bool) {
		list, ok := v.([]any)
		if !ok || len(list) == 0 {
			return nil, false
		}
		return append(slices.Clone(list), clone(list[0])), true
	}},
	{name: "null in a list", value: func(v any) (any, bool) {
		list, ok := v.([]any)
		return append(slices.Clone(list), nil), ok
	}},
}

// spoil changes the value at a path, and reports whether that makes another object.
func spoil(v any, path []string, how way) bool {
	for _, step := range path[:len(path)-1] {
		v = child(v, step)
	}
	last := path[len(path)-1]
	if how.key != nil {
		m, ok := v.(map[string]any)
		if !ok {
			return false
		}
		name, ok := how.key(last)
		m[name] = m[last]
		delete(m, last)
		return ok
	}
	changed, ok := how.value(child(v, last))
	if !ok {
		return false
	}
	switch v := v.(type) {
	case map[string]any:
		v[last] = changed
	case []any:
		v[index(last)] = changed
	}
	return true
}

func index(step string) (i int) { _, _ = fmt.Sscanf(step, "[%d]", &i); return i }

func child(v any, step string) any {
	if list, ok := v.([]any); ok {
		return list[index(step)]
	}
	return v.(map[string]any)[step]
}

// told returns what is said of a mutant that names an object, a field and a
// remedy, "" if nothing is.
func (w *world) told(t *testing.T, i int, m *mutant) string {
	t.Helper()
	rows, mistakes := decoded(t, m.kind, m.object.Value)
	for _, text := range mistakes {
		if strings.Count(text, ": ") >= 2 || strings.HasPrefix(text, "metadata.") {
			return m.object.String() + ": " + text
		}
	}
	for _, f := range w.check(t, i, m.object, rows) {
		if !w.known[f] && f.Field != "" && f.Message != "" && f.Remedy != "" {
			return f.String()
		}
	}
	return ""
}

// Every field of every kind, wrong in every way that somebody may write it: a
// message names the object, the field and the remedy, or it is known why the
// object is right all the same.
func TestMutants(t *testing.T) {
	started := time.Now()
	seen := make(map[string]bool)
	told, right, silent := 0, 0, []string(nil)
	because := make(map[string]int)
	var results strings.Builder
	paths := worlds(t)
	if only := os.Getenv("WORLD"); only != "" {
		paths = slices.DeleteFunc(paths, func(p string) bool { return filepath.Base(p) != only })
	}
	type found struct {
		w *world
		i int
		mutant
		text string
	}
	var tried []found
	for _, path := range paths {
		w := readWorld(t, path)
		w.mutants(seen, func(i int, m mutant) { tried = append(tried, found{w: w, i: i, mutant: m}) })
	}
	var at atomic.Int64
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for n := int(at.Add(1)) - 1; n < len(tried); n = int(at.Add(1)) - 1 {
				f := &tried[n]
				f.text = f.w.told(t, f.i, &f.mutant)
			}
		})
	}
	wg.Wait()
	for n := range tried {
		w, m, text := tried[n].w, tried[n].mutant, tried[n].text
		reason := harmless(&m)
		fmt.Fprintf(&results, "%s\n\t%s\n", m.String(), text+" | "+reason)
		switch {
		case text != "":
			told++
		case reason != "":
			right++
			because[reason]++
		default:
			silent = append(silent, fmt.Sprintf("%-12s %s: %s = %v", w.name, m.object.ObjectName, m.String(), valueAt(m.object.Value, m.at)))
		}
	}
	if out := os.Getenv("VERDICTS"); out != "" {
		require.NoError(t, os.WriteFile(out, []byte(results.String()), 0o600))
	}
	all := told + right + len(silent)
	t.Logf("%d mutants in %s: %d told, %d harmless, %d silent", all, time.Since(started), told, right, len(silent))
	for _, r := range slices.Sorted(maps.Keys(because)) {
		t.Logf("harmless %4d: %s", because[r], r)
	}
	for _, s := range silent {
		t.Log(s)
	}
	require.Greater(t, all, 300)
	require.Empty(t, silent, "mistakes that are not told: write a rule, or say in rightAnyway why they are none")
}

func valueAt(v any, path string) any {
	for _, step := range strings.FieldsFunc(strings.ReplaceAll(path, "[", ".["), func(r rune) bool { return r == '.' }) {
		switch x := v.(type) {
		case map[string]any:
			v = x[step]
		case []any:
			v = x[index(step)]
		}
	}
	return v
}

func worlds(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../manifests/examples/*/*.yaml")
	require.NoError(t, err)
	var out []string
	for _, f := range files {
		out = append(out, filepath.Dir(f))
	}
	out = slices.Compact(out)
	more, err := filepath.Glob("testdata/worlds/*")
	require.NoError(t, err)
	return append(out, more...)
}

// harmless says why a mutant is right all the same, "" if it is a mistake.
func harmless(m *mutant) string {
	for _, h := range rightAnyway {
		if h.how.MatchString(m.how) && h.path.MatchString(m.kind+" "+m.path) {
			return h.because
		}
	}
	return ""
}

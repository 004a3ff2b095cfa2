// Package golden compares what the code makes with what files of testdata say that
// it makes. With -update, which `make golden` gives to every package that imports
// this one, the files are written anew. The tests that use it end in Golden.
package golden

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/tools/txtar"
)

var update = flag.Bool("update", false, "write the golden files anew")

// Updating reports whether the files are written anew.
func Updating() bool { return *update }

const hint = "run `make golden` and read the difference"

// Equal compares a text with the file that has it.
func Equal(tb testing.TB, file, got string) {
	tb.Helper()
	if *update {
		require.NoError(tb, os.WriteFile(file, []byte(got), 0o600))
	}
	want, err := os.ReadFile(file)
	require.NoError(tb, err)
	require.Equal(tb, string(want), got, "%s: "+hint, file)
}

// Cases are files of sections, in the txtar format. What stands before the first
// section says what a case is about.
type Cases struct {
	// Files is their pattern: "testdata/routes/*.txtar".
	Files string
	// Given are the sections that people write, and Made those that the code makes,
	// in the order of the files. One that is empty is not in the file.
	Given, Made []string
}

// Run gives each case's sections to a function and compares those that it makes.
func (c Cases) Run(t *testing.T, produce func(t *testing.T, given map[string]string) map[string]string) {
	t.Helper()
	for _, file := range c.files(t) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			archive, sections := read(t, file)
			got := produce(t, sections)
			for name := range got {
				require.Contains(t, c.Made, name)
			}
			if *update {
				archive.Files = slices.DeleteFunc(archive.Files, func(f txtar.File) bool { return !slices.Contains(c.Given, f.Name) })
				for _, name := range c.Made {
					if got[name] != "" {
						archive.Files = append(archive.Files, txtar.File{Name: name, Data: []byte(got[name])})
					}
				}
				require.NoError(t, os.WriteFile(file, txtar.Format(archive), 0o600))
				_, sections = read(t, file)
			}
			for name := range sections {
				require.True(t, slices.Contains(c.Given, name) || slices.Contains(c.Made, name), "%s has a section %s that nobody reads", file, name)
			}
			for _, name := range c.Made {
				require.Equal(t, sections[name], got[name], "%s of %s: "+hint, name, file)
			}
		})
	}
}

// Section returns a section of every case, by the case's name.
func (c Cases) Section(tb testing.TB, name string) map[string]string {
	tb.Helper()
	out := make(map[string]string)
	for _, file := range c.files(tb) {
		_, sections := read(tb, file)
		out[strings.TrimSuffix(filepath.Base(file), ".txtar")] = sections[name]
	}
	return out
}

func (c Cases) files(tb testing.TB) []string {
	tb.Helper()
	files, err := filepath.Glob(c.Files)
	require.NoError(tb, err)
	require.NotEmpty(tb, files, "no case is at %s", c.Files)
	return files
}

func read(tb testing.TB, file string) (*txtar.Archive, map[string]string) {
	tb.Helper()
	archive, err := txtar.ParseFile(file)
	require.NoError(tb, err)
	sections := make(map[string]string)
	for _, f := range archive.Files {
		require.NotContains(tb, sections, f.Name, "%s has it twice", file)
		sections[f.Name] = string(f.Data)
	}
	return archive, sections
}

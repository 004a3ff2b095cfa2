package manifests_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

// The README is short and narrow, and its map names every package.
func TestReadme(t *testing.T) {
	text := read(t, "README.md")
	require.LessOrEqual(t, strings.Count(text, "\n"), 150)
	for i, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") { // a row of a table cannot be broken
			require.LessOrEqualf(t, utf8.RuneCountInString(line), 110, "README.md:%d is too wide: %s", i+1, line)
		}
	}
	var lacks []string
	err := filepath.WalkDir(root(t), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		dir, err := filepath.Rel(root(t), path)
		if err != nil || strings.HasPrefix(d.Name(), ".") && dir != "." || d.Name() == "testdata" || dir == filepath.Join("test", "tools") {
			return fs.SkipDir
		}
		files, err := filepath.Glob(filepath.Join(path, "*.go"))
		named := strings.Contains(text, "`"+dir+"`") || strings.Contains(text, "`"+d.Name()+"`")
		if len(files) > 0 && !named && d.Name() != "observev1" && d.Name() != "membersv1" { // generated, and of the package above
			lacks = append(lacks, dir)
		}
		return err
	})
	require.NoError(t, err)
	require.Empty(t, lacks, "packages that the README's map lacks")
}

var link = regexp.MustCompile(`\]\(([A-Za-z0-9_./-]+)(#[^)]*)?\)`)

// Documents link to what is there, and the index has them all.
func TestDocumentLinks(t *testing.T) {
	documents, err := filepath.Glob(filepath.Join(root(t), "docs", "*.md"))
	require.NoError(t, err)
	index := read(t, "docs", "README.md")
	for _, path := range documents {
		name := filepath.Base(path)
		require.Truef(t, name == "README.md" || strings.Contains(index, "]("+name+")"), "docs/README.md lacks %s", name)
	}
	for _, name := range []string{"README.md", "CHANGELOG.md", "SECURITY.md"} {
		documents = append(documents, filepath.Join(root(t), name))
	}
	for _, path := range documents {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		for _, m := range link.FindAllStringSubmatch(string(text), -1) {
			_, err := os.Stat(filepath.Join(filepath.Dir(path), m[1]))
			require.NoErrorf(t, err, "%s links to %s", filepath.Base(path), m[1])
		}
	}
}

package cluster

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// entries reads a tar, with folders' names as the keys of empty texts.
func entries(t *testing.T, r io.Reader) map[string]string {
	t.Helper()
	all, archive := make(map[string]string), tar.NewReader(r)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		require.NoError(t, err)
		text, err := io.ReadAll(archive)
		require.NoError(t, err)
		require.NotContains(t, all, h.Name)
		all[h.Name] = string(text)
	}
}

func open(t *testing.T, file string) map[string]string {
	t.Helper()
	f, err := os.Open(file)
	require.NoError(t, err)
	defer f.Close()
	return entries(t, f)
}

// An image has its files, the folders above them and its programs' libraries.
func TestImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "image.tar")
	i := Image{Name: "example.com/a:v1", Entrypoint: []string{"/usr/bin/ls"}, User: "65532", StopSignal: "SIGQUIT", Files: []File{
		{Path: "/usr/bin/ls", From: "/bin/ls", Libraries: true}, {Path: "/etc/b", Text: "b"}, {Path: "/tmp", Folder: true},
	}}
	_, err := i.Build(t.Context(), file)
	require.NoError(t, err)
	archive := open(t, file)
	var manifest []struct {
		Config           string
		RepoTags, Layers []string
	}
	require.NoError(t, json.Unmarshal([]byte(archive["manifest.json"]), &manifest))
	require.Equal(t, []string{"example.com/a:v1"}, manifest[0].RepoTags)
	require.Contains(t, archive[manifest[0].Config], `"User":"65532"`)
	require.Contains(t, archive[manifest[0].Config], `"StopSignal":"SIGQUIT"`)
	layer := entries(t, strings.NewReader(archive[manifest[0].Layers[0]]))
	ls, err := os.ReadFile("/bin/ls")
	require.NoError(t, err)
	require.Equal(t, string(ls), layer["usr/bin/ls"])
	require.Equal(t, "b", layer["etc/b"])
	for _, folder := range []string{"usr/", "usr/bin/", "etc/", "tmp/"} {
		require.Contains(t, layer, folder)
	}
	libc := false
	for name := range layer {
		libc = libc || strings.HasSuffix(name, "/libc.so.6")
	}
	require.True(t, libc, "the program's libraries are there")
}

// The same files make the same bytes, which are not written again; another file makes another image.
func TestImageIsMadeOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	from := filepath.Join(dir, "from")
	require.NoError(t, os.WriteFile(from, []byte("one"), 0o600))
	i := Image{Name: "example.com/a:v1", Files: []File{{Path: "/a", From: from}}}
	build := func(name string) (digest, text string, made time.Time) {
		file := filepath.Join(dir, name)
		digest, err := i.Build(t.Context(), file)
		require.NoError(t, err)
		data, err := os.ReadFile(file)
		require.NoError(t, err)
		info, err := os.Stat(file)
		require.NoError(t, err)
		return digest, string(data), info.ModTime()
	}
	digest, text, made := build("image.tar")
	again, _, at := build("image.tar")
	require.Equal(t, digest, again)
	require.Equal(t, made, at, "it is not written again")
	_, elsewhere, _ := build("other.tar")
	require.Equal(t, text, elsewhere)

	require.NoError(t, os.WriteFile(from, []byte("two"), 0o600))
	changed, other, _ := build("image.tar")
	require.NotEqual(t, digest, changed)
	require.NotEqual(t, text, other)

	i.Files = append(i.Files, File{Path: "/a", Text: "twice"})
	_, err := i.Build(t.Context(), filepath.Join(dir, "image.tar"))
	require.ErrorContains(t, err, "image example.com/a:v1: /a is there twice")
}

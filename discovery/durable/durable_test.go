package durable

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReplace(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "file")
	require.NoError(t, Replace(path, []byte("old"), nil))
	require.NoError(t, Replace(path, []byte("new"), func() error {
		text, err := os.ReadFile(path)
		require.Equal(t, "old", string(text), "what was there stays until the new one is whole")
		return err
	}))
	refused := errors.New("refused")
	require.ErrorIs(t, Replace(path, []byte("newer"), func() error { return refused }), refused)
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "new", string(text))
	info, err := os.Stat(path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 1, "nothing is left beside it")
	for _, name := range []string{".file-123", ".file-", ".other-1", "file-1"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), nil, 0o600))
	}
	require.NoError(t, Sweep(path))
	entries, err = os.ReadDir(dir)
	require.NoError(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	require.Equal(t, []string{".other-1", "file", "file-1"}, names, "what a crash has left is removed, and nothing else")
	require.ErrorIs(t, Replace(filepath.Join(dir, "none", "file"), nil, nil), os.ErrNotExist)
}

func TestLock(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	first, err := Lock(path)
	require.NoError(t, err)
	_, err = Lock(path)
	held, ok := errors.AsType[*HeldError](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, os.Getpid(), held.Process)
	require.NoError(t, first.Close())
	again, err := Lock(path)
	require.NoError(t, err)
	require.NoError(t, again.Close())
	_, err = Lock(filepath.Join(path, "none"))
	require.Error(t, err)
}

func TestSeal(t *testing.T) {
	for _, body := range []string{"", "text"} {
		file := Seal("magic-1", []byte(body))
		got, err := Unseal("magic-1", file)
		require.NoError(t, err)
		require.Equal(t, body, string(got))
		_, err = Unseal("magic-2", file)
		require.ErrorContains(t, err, "of another format")
		_, err = Unseal("magic-1", append(file, 'x'))
		require.ErrorContains(t, err, "damaged")
		_, err = Unseal("magic-1", file[:8])
		require.Error(t, err)
	}
}

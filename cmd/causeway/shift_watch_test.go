package main

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
)

// shiftedDir has the TrafficShift web/cart.
func shiftedDir(t *testing.T) string {
	t.Helper()
	dir := explainedDir(t)
	require.NoError(t, os.WriteFile(filepath.Join(dir, "shift.yaml"), []byte(pinned), 0o600))
	return dir
}

// Who watches a shift that there is not is told at once, as by the commands that steer one.
func TestWatchOfNoShift(t *testing.T) {
	s, address := served(t, shiftedDir(t))
	for line, want := range map[string]string{
		"shift watch web/crat":              "there is no TrafficShift web/crat: did you mean web/cart?",
		"shift watch crat -n web":           "there is no TrafficShift web/crat: did you mean web/cart?",
		"shift watch web/nothing":           "there is no TrafficShift web/nothing: 'causeway shift status' lists them",
		"shift watch web/cart --interval 0": "--interval: give a duration such as 1s",
	} {
		out, err := execute(t, append(strings.Fields(line), "--admin", address)...)
		require.ErrorContains(t, err, want, line)
		require.Equal(t, exitError, exitCode(err), line)
		require.Empty(t, out, line)
	}
	_, err := execute(t, "shift", "watch", "web/cart", "--admin", "127.0.0.1:1")
	require.ErrorContains(t, err, "no control plane answers at 127.0.0.1:1")

	// What is not read yet is not said to be none.
	s.required = []string{"kubernetes"}
	_, err = execute(t, "shift", "watch", "web/nothing", "--admin", address)
	require.ErrorContains(t, err, "whether there is a TrafficShift web/nothing is not known yet: waiting for kubernetes")
}

// watching says when something is printed.
type watching struct {
	bytes.Buffer
	printed chan struct{}
}

func (w *watching) Write(p []byte) (int, error) {
	select {
	case w.printed <- struct{}{}:
	default:
	}
	return w.Buffer.Write(p)
}

// A shift that is deleted while it is watched ends the watching, and Ctrl-C ends it well.
func TestWatchEnds(t *testing.T) {
	s, address := served(t, shiftedDir(t))
	watch := func(then func(stop func())) error {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		out := &watching{printed: make(chan struct{}, 1)}
		c := root()
		c.SetOut(out)
		c.SetArgs([]string{"shift", "watch", "web/cart", "--admin", address, "--interval", "10ms"})
		ended := make(chan error, 1)
		go func() { ended <- c.ExecuteContext(ctx) }()
		select {
		case <-out.printed:
		case err := <-ended:
			return errors.Join(errors.New("it ended before it printed"), err)
		}
		then(cancel)
		select {
		case err := <-ended:
			return err
		case <-time.After(30 * time.Second):
			return errors.New("it watches on")
		}
	}
	require.NoError(t, watch(func(stop func()) { stop() }))
	err := watch(func(func()) {
		s.commit(t, func(tx *catalog.Tx) { catalog.Objects.Delete(tx, discovery.KindTrafficShift+" web/cart") })
	})
	require.ErrorContains(t, err, "TrafficShift web/cart was deleted")
	require.Equal(t, exitError, exitCode(err))
}

// A command that was interrupted has not worked; one that runs until it is told to end has.
func TestInterrupted(t *testing.T) {
	require.Equal(t, exitError, exitCode(context.Canceled))
	require.NoError(t, untilTold(context.Canceled))
	require.Error(t, untilTold(errors.New("no")))

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := root()
	c.SetOut(io.Discard)
	c.SetArgs([]string{"status", "--admin", "127.0.0.1:1"})
	require.Equal(t, exitError, exitCode(c.ExecuteContext(ctx)))
}

package main

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The first SIGTERM ends the context, and the second the process, which may drain for a minute.
func TestSecondSignalEndsTheProcess(t *testing.T) {
	if os.Getenv("CAUSEWAY_SIGNALLED") != "" {
		ctx := untilSignal()
		fmt.Println("up")
		<-ctx.Done()
		fmt.Println("first")
		select {}
	}
	c := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSecondSignalEndsTheProcess$")
	c.Env = append(os.Environ(), "CAUSEWAY_SIGNALLED=1")
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	lines := bufio.NewScanner(out)
	await := func(line string) {
		t.Helper()
		for lines.Scan() {
			if lines.Text() == line {
				return
			}
		}
		t.Fatalf("it has not said %q", line)
	}
	await("up")
	require.NoError(t, c.Process.Signal(syscall.SIGTERM))
	await("first")
	ended := make(chan error, 1)
	go func() { ended <- c.Wait() }()
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for {
		select {
		case err := <-ended:
			exit, ok := err.(*exec.ExitError) //nolint:errorlint // of this test
			require.True(t, ok, err)
			require.Equal(t, syscall.SIGTERM, exit.Sys().(syscall.WaitStatus).Signal())
			return
		case <-again.C:
			// The context ends a moment before the first signal is let go. Not as fast as can be: Go's runtime may
			// end by SIGSEGV if signals come one upon another while it lets go.
			_ = c.Process.Signal(syscall.SIGTERM)
		}
	}
}

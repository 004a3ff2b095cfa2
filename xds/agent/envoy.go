package agent

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Envoy is started again after a pause that doubles from firstPause to
// longestPause; an Envoy that has run for steady begins anew.
const (
	firstPause   = time.Second
	longestPause = 30 * time.Second
	steady       = time.Minute
)

// lastLines is how many of Envoy's last lines are said when it has ended by itself.
const lastLines = 5

// lastLine is how many bytes are said of each.
const lastLine = 300

// killAfter is how long Envoy may take to end once it is told to.
const killAfter = 10 * time.Second

// logFormat is level, logger and message, apart from each other.
const logFormat = "%l|%n|%v"

// envoy is a program that is kept running.
type envoy struct {
	path string
	args []string
	log  *slog.Logger
	// running is called when it has been started and when it has ended.
	running func(bool)
	// ended is called with how it has ended each time that nobody wanted it, and with the pause before it is started again.
	ended func(err error, pause time.Duration)
}

// atOnce is how long a program must have run to be more than one that cannot run at all.
const atOnce = 5 * time.Second

// run keeps Envoy running until the context ends, and returns when it has
// ended. Its only error is that of a program that cannot be started at all.
func (e *envoy) run(ctx context.Context) error {
	// A death signal is sent when the thread ends that has started the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	pause := firstPause
	for first := true; ; first = false {
		began := time.Now()
		started, err := e.once(ctx)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // its end was wanted
		}
		if first && !started {
			return fmt.Errorf("start Envoy: %w: install Envoy there, or name its program with --envoy", err)
		}
		if time.Since(began) >= steady {
			pause = firstPause
		}
		e.ended(err, pause)
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// once runs Envoy until it ends, and says whether it could be started, and how it ended; the end of the context ends it.
func (e *envoy) once(ctx context.Context) (started bool, err error) {
	cmd := exec.CommandContext(ctx, e.path, e.args...) //nolint:gosec // the operator's own
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = killAfter
	// It gets no signal that a terminal sends to the agent, and dies with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	said, write := io.Pipe()
	cmd.Stdout, cmd.Stderr = write, write
	words := &lastWords{}
	var reading sync.WaitGroup
	reading.Go(func() { e.repeat(said, words) })
	began := time.Now()
	if err = cmd.Start(); err == nil {
		began, started = time.Now(), true
		e.running(true)
		err = cmd.Wait()
		e.running(false)
	}
	_ = write.Close()
	reading.Wait()
	if started && ctx.Err() == nil {
		err = e.end(err, time.Since(began), words.String())
	}
	return started, err
}

// end says how the program has ended that ran for so long, and what to do if it has hardly run.
func (e *envoy) end(err error, ran time.Duration, words string) error {
	if err == nil {
		err = errors.New("exit status 0")
	}
	how := fmt.Errorf("%w after %s", err, ran.Round(time.Millisecond))
	if ran < atOnce {
		how = fmt.Errorf("%s ends at once: %w", e.path, how)
	}
	switch {
	case words != "":
		return fmt.Errorf("%w; its last lines: %s", how, words)
	case ran < atOnce:
		return fmt.Errorf("%w, and says nothing: is it Envoy? --envoy names its program", how)
	}
	return how
}

// repeat logs what Envoy says as the agent's own log.
func (e *envoy) repeat(said io.Reader, words *lastWords) {
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		words.add(lines.Text())
		level, logger, message := parseLine(lines.Text())
		e.log.Log(context.Background(), level, message, "envoy", logger) //nolint:sloglint // it is Envoy's
	}
	_, _ = io.Copy(io.Discard, said) // a line that is too long must not stop Envoy
}

// parseLine takes a line of logFormat apart; any other is a message of its own.
func parseLine(line string) (level slog.Level, logger, message string) {
	name, rest, ok := strings.Cut(line, "|")
	logger, message, ok2 := strings.Cut(rest, "|")
	if !ok || !ok2 {
		return slog.LevelInfo, "", line
	}
	switch name {
	case "trace", "debug":
		level = slog.LevelDebug
	case "info":
		level = slog.LevelInfo
	case "warning":
		level = slog.LevelWarn
	case "error", "critical":
		level = slog.LevelError
	default:
		return slog.LevelInfo, "", line
	}
	return level, logger, message
}

// lastWords are the last lines of a program.
type lastWords struct{ lines []string }

func (w *lastWords) add(line string) {
	if len(line) > lastLine {
		line = strings.ToValidUTF8(line[:lastLine], "") + "..."
	}
	w.lines = append(w.lines, line)
	if len(w.lines) > lastLines {
		w.lines = w.lines[1:]
	}
}

func (w *lastWords) String() string { return strings.Join(w.lines, "; ") }

package harness

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Command is a program for [Start].
type Command struct {
	// Name is what the log file and messages call the process; the base name of
	// Path if empty.
	Name string
	Path string
	Args []string
	// Env is added to the environment of the test.
	Env []string
	Dir string
	// DeathSignal is what the process gets when the test process dies; SIGKILL if
	// zero. Programs that have children of their own need one they can pass on.
	DeathSignal syscall.Signal
	// Stdout receives what the process prints there, instead of the log.
	Stdout io.Writer
	// Files are open in the program, from descriptor 3 on.
	Files []*os.File
}

// Process is a program that a test started. It leads a process group of its own:
// when it ends, for whatever reason, the rest of the group is killed.
type Process struct {
	name   string
	log    string
	cmd    *exec.Cmd
	exited chan struct{}
	err    error // of the exit; read after exited is closed
}

// spawn runs f on the one thread that starts processes. The kernel sends the
// death signal when the *thread* that started a process ends, so this one never does.
func spawn(f func() error) error {
	spawnerOnce.Do(func() {
		go func() {
			runtime.LockOSThread()
			for f := range spawner {
				f()
			}
		}()
	})
	result := make(chan error, 1)
	spawner <- func() { result <- f() }
	return <-result
}

var (
	spawnerOnce sync.Once
	spawner     = make(chan func())
)

// Start starts a program. It is stopped with the test; its log is kept, and its
// path and end printed, if the test fails.
func Start(t TB, c Command) *Process {
	t.Helper()
	p, err := start(t, c)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return p
}

func start(t TB, c Command) (*Process, error) {
	if c.Name == "" {
		c.Name = filepath.Base(c.Path)
	}
	p := &Process{name: c.Name, log: logFile(t, c.Name), exited: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	if c.DeathSignal == 0 {
		c.DeathSignal = syscall.SIGKILL
	}
	p.cmd = exec.Command(c.Path, c.Args...)
	p.cmd.Env = append(os.Environ(), c.Env...)
	p.cmd.Dir, p.cmd.ExtraFiles = c.Dir, c.Files
	p.cmd.Stdout, p.cmd.Stderr = out, out
	if c.Stdout != nil {
		p.cmd.Stdout = c.Stdout
	}
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: c.DeathSignal}
	if err := spawn(p.cmd.Start); err != nil {
		return nil, fmt.Errorf("starting %s: %w", c.Name, err)
	}
	go p.wait()
	t.Cleanup(func() { p.Stop() })
	return p, nil
}

// wait kills what is left of the group before the exit of its leader is
// collected: until then nobody else can have got the group's id.
func (p *Process) wait() {
	for {
		err := unix.Waitid(unix.P_PID, p.cmd.Process.Pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if err != unix.EINTR {
			break
		}
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	p.err = p.cmd.Wait()
	close(p.exited)
}

// PID is the process id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Name is what the log and messages call the process.
func (p *Process) Name() string { return p.name }

// LogFile is the path of the log; it exists as long as the test runs.
func (p *Process) LogFile() string { return p.log }

// Exited is closed when the process has ended.
func (p *Process) Exited() <-chan struct{} { return p.exited }

// Running says whether the process has not ended.
func (p *Process) Running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// Err is how the process ended, nil for status 0. It waits for the end.
func (p *Process) Err() error {
	<-p.exited
	return p.err
}

// Signal sends a signal to the process alone.
func (p *Process) Signal(s syscall.Signal) {
	if p.Running() {
		_ = p.cmd.Process.Signal(s)
	}
}

// Stop asks the process to end (SIGTERM), kills it and its group after ten
// seconds, and returns when it is gone. It is harmless on one that has ended.
func (p *Process) Stop() {
	p.Signal(syscall.SIGTERM)
	p.Signal(syscall.SIGCONT)
	select {
	case <-p.exited:
	case <-time.After(10 * time.Second):
		p.Kill()
	}
}

// Kill kills the process and its group (SIGKILL) and returns when it is gone.
func (p *Process) Kill() {
	if p.Running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	}
	<-p.exited
}

// Pause stops the process and its group (SIGSTOP) as if its machine hung. It
// returns when all their threads have stopped.
func (p *Process) Pause() {
	if !p.Running() {
		return
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGSTOP)
	_ = poll(5*time.Second, func() error {
		if p.Running() && !stopped(p.cmd.Process.Pid) {
			return errors.New("some thread runs")
		}
		return nil
	})
}

// stopped says whether all threads of a process group have stopped.
func stopped(group int) bool {
	processes, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range processes {
		if _, of := processState(file); of != group {
			continue
		}
		threads, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "task/*/stat"))
		for _, thread := range threads {
			if state, of := processState(thread); of == group && state != 'T' && state != 'Z' {
				return false
			}
		}
	}
	return true
}

// processState reads the state and the process group from a stat file of /proc.
func processState(file string) (state byte, group int) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, 0
	}
	fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // the name before may hold anything
	if len(fields) < 3 {
		return 0, 0
	}
	group, _ = strconv.Atoi(string(fields[2]))
	return fields[0][0], group
}

// Group returns the processes of a process group that are no zombies.
func Group(leader int) []int {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	var pids []int
	for _, file := range stats {
		if state, of := processState(file); of == leader && state != 'Z' {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
			pids = append(pids, pid)
		}
	}
	return pids
}

// RequireGone fails the test if a process group does not end.
func RequireGone(t TB, leader int) {
	t.Helper()
	Eventually(t, 5*time.Second, "the process group to be gone", func() error {
		if left := Group(leader); len(left) > 0 {
			return fmt.Errorf("processes %v are left", left)
		}
		return nil
	})
}

// Resume lets a paused process go on.
func (p *Process) Resume() {
	if p.Running() {
		_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGCONT)
	}
}

// died is an error that tells why the process ended, nil if it runs.
func (p *Process) died() error {
	if p.Running() {
		return nil
	}
	how := "with status 0"
	if p.err != nil {
		how = p.err.Error()
	}
	return fmt.Errorf("%s ended, %s; the end of its log:\n%s", p.name, how, tail(p.log, 20))
}

// Await polls check until it succeeds, the process dies, or the limit is over.
func (p *Process) Await(t TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	err := poll(limit, func() error {
		if p.Running() {
			return check()
		}
		return nil
	})
	died := p.died()
	switch {
	case died != nil:
		t.Fatalf("while waiting for %s: %v", what, died)
	case err != nil:
		t.Fatalf("waited %s for %s: %v; log: %s, its end:\n%s", limit, what, err, p.log, tail(p.log, 20))
	}
}

// logs are the folders of the tests that have one.
var logs = struct {
	sync.Mutex
	dirs map[TB]string
	used map[string]int
}{dirs: map[TB]string{}, used: map[string]int{}}

var unsafeInPath = regexp.MustCompile(`[^A-Za-z0-9._-]+`)

// LogDir is the folder that the logs of a test's processes go to. It lies in
// CAUSEWAY_LOGS, or else in the system's folder for temporary files, and is kept
// only if the test fails.
func LogDir(t TB) string {
	logs.Lock()
	defer logs.Unlock()
	if dir, ok := logs.dirs[t]; ok {
		return dir
	}
	parent := os.Getenv("CAUSEWAY_LOGS")
	if parent == "" {
		parent = filepath.Join(os.TempDir(), "causeway-logs")
	}
	err := os.MkdirAll(parent, 0o777)
	var dir string
	if err == nil {
		dir, err = os.MkdirTemp(parent, unsafeInPath.ReplaceAllString(t.Name(), "_")+"-")
	}
	if err != nil {
		t.Fatalf("folder for logs: %v", err)
	}
	logs.dirs[t] = dir
	t.Cleanup(func() {
		logs.Lock()
		delete(logs.dirs, t)
		logs.Unlock()
		if !t.Failed() {
			_ = os.RemoveAll(dir)
			return
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		for _, file := range files {
			t.Logf("log %s, its end:\n%s", file, tail(file, 8))
		}
	})
	return dir
}

func logFile(t TB, name string) string {
	dir := LogDir(t)
	logs.Lock()
	defer logs.Unlock()
	path := filepath.Join(dir, unsafeInPath.ReplaceAllString(name, "_"))
	logs.used[path]++
	if n := logs.used[path]; n > 1 {
		path = fmt.Sprintf("%s-%d", path, n)
	}
	return path + ".log"
}

// tail returns the last lines of a file.
func tail(file string, lines int) string {
	f, err := os.Open(file)
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	const most = 32 << 10
	if size, err := f.Seek(0, io.SeekEnd); err == nil {
		_, _ = f.Seek(max(0, size-most), io.SeekStart)
	}
	data, _ := io.ReadAll(f)
	all := strings.Split(string(bytes.TrimRight(data, "\n")), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}

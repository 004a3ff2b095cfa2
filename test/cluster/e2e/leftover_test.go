package e2e_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/cluster"
)

// machine is what a cluster could change of the machine.
func machine(t *testing.T) map[string]string {
	t.Helper()
	read := func(path string) string {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	is := map[string]string{"mounts": read("/proc/self/mounts")}
	links, err := net.Interfaces()
	require.NoError(t, err)
	for _, l := range links {
		is["interfaces"] += l.Name + "\n"
	}
	for what, command := range map[string][]string{
		"rules": {"/usr/sbin/nft", "list", "ruleset"}, "routes": {"/usr/sbin/ip", "route"}, "namespaces": {"/usr/sbin/ip", "netns"},
	} {
		out, err := exec.CommandContext(t.Context(), command[0], command[1:]...).Output()
		require.NoErrorf(t, err, "%s", command)
		is[what] = string(out)
	}
	for _, name := range []string{
		"net/ipv4/ip_forward", "vm/overcommit_memory", "vm/panic_on_oom", "kernel/panic", "kernel/panic_on_oops", "fs/inotify/max_user_instances",
	} {
		is[name] = read("/proc/sys/" + name)
	}
	for _, dir := range []string{"/run", "/var/lib", "/var/log", "/etc", "/opt"} {
		entries, err := os.ReadDir(dir)
		require.NoError(t, err)
		for _, e := range entries {
			is[dir] += e.Name() + "\n"
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/*", "/sys/fs/cgroup/*/*"} {
		groups, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, group := range groups {
			if strings.HasPrefix(filepath.Base(group), "causeway-") || strings.HasPrefix(filepath.Base(group), "kube") {
				is["control groups"] += group + "\n"
			}
		}
	}
	return is
}

// inNamespaces are the processes that are in one of some namespaces, but for dead ones that
// their parent has not collected.
func inNamespaces(t *testing.T, namespaces []string) (found []string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/ns/*")
	require.NoError(t, err)
	for _, link := range links {
		stat, _ := os.ReadFile(filepath.Join(filepath.Dir(link), "..", "stat"))
		if to, err := os.Readlink(link); err == nil && slices.Contains(namespaces, to) && !strings.Contains(string(stat), ") Z ") {
			found = append(found, link+" "+to)
		}
	}
	return found
}

// A cluster beside the first one changes nothing of the machine while it runs, and leaves nothing
// when it is ended: no process, mount, interface, rule, control group or file.
func TestNothingIsLeft(t *testing.T) {
	attach(t)
	dir := t.TempDir()
	before := machine(t)
	c, err := cluster.At(dir)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Down(context.Background())) })
	program := filepath.Join(dir, "images", "program")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "github.com/causeway-mesh/causeway/test/cluster/run")
	out, err := build.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	require.NoError(t, c.Up(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), program, nil))

	pid, began := c.PID(), time.Now()
	require.NoError(t, c.Up(t.Context(), slog.New(slog.NewTextHandler(t.Output(), nil)), program, nil))
	require.Equal(t, pid, c.PID(), "a second start leaves the cluster as it is")
	t.Logf("the second start took %s", time.Since(began).Round(10*time.Millisecond))

	during := machine(t)
	require.NotEqual(t, before["control groups"], during["control groups"])
	delete(during, "control groups")
	for what := range during {
		require.Equalf(t, before[what], during[what], "%s while it runs", what)
	}

	var namespaces []string
	for _, kind := range []string{"pid", "net", "mnt"} {
		link, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(pid), "ns", kind))
		require.NoError(t, err)
		namespaces = append(namespaces, link)
	}
	require.NotEmpty(t, inNamespaces(t, namespaces))
	require.NoError(t, c.Down(t.Context()))
	require.Zero(t, c.PID())
	require.Empty(t, inNamespaces(t, namespaces))
	for what, was := range before {
		require.Equalf(t, was, machine(t)[what], "%s after its end", what)
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1, "the images alone")
}

package cluster

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// hierarchies are where control groups are mounted: of version 1 one for each controller or
// several, of version 2 one, and on some machines both.
func hierarchies() (v1, v2 []string, err error) {
	mounts, err := os.Open("/proc/self/mounts")
	if err != nil {
		return nil, nil, err
	}
	defer mounts.Close()
	lines := bufio.NewScanner(mounts)
	for lines.Scan() {
		switch f := strings.Fields(lines.Text()); f[2] {
		case "cgroup":
			v1 = append(v1, f[1])
		case "cgroup2":
			v2 = append(v2, f[1])
		}
	}
	return v1, v2, lines.Err()
}

// joinCgroups makes a control group in each hierarchy and moves this process there. The
// kubelet puts pods below it. Of version 2, a group with groups below it has no processes,
// so this one goes to a group beside the pods.
func joinCgroups(name string) error {
	v1, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, at := range v1 {
		group := filepath.Join(at, name)
		if err := os.MkdirAll(group, 0o755); err != nil {
			return err
		}
		// A group of cpuset takes no process before it has processors and memory.
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			value, err := os.ReadFile(filepath.Join(at, file))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err == nil {
				err = os.WriteFile(filepath.Join(group, file), value, 0o644)
			}
			if err != nil {
				return err
			}
		}
		if err := os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return err
		}
	}
	for _, at := range v2 {
		group := filepath.Join(at, name)
		daemons := filepath.Join(group, "daemons")
		if err := os.MkdirAll(daemons, 0o755); err != nil {
			return err
		}
		controllers, err := os.ReadFile(filepath.Join(at, "cgroup.controllers"))
		if err != nil {
			return err
		}
		for _, in := range []string{at, group} {
			for controller := range strings.FieldsSeq(string(controllers)) {
				// One that cannot be had here is missed by the kubelet, which says so.
				_ = os.WriteFile(filepath.Join(in, "cgroup.subtree_control"), []byte("+"+controller), 0o644)
			}
		}
		if err := os.WriteFile(filepath.Join(daemons, "cgroup.procs"), []byte("0"), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroups removes the cluster's control groups, the lowest first.
func (c *Cluster) removeCgroups() error {
	v1, v2, err := hierarchies()
	if err != nil {
		return err
	}
	for _, at := range append(v1, v2...) {
		var groups []string
		err := filepath.WalkDir(filepath.Join(at, c.cgroup()), func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				groups = append(groups, path)
			}
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		})
		if err != nil {
			return err
		}
		for _, group := range slices.Backward(groups) {
			if err := os.Remove(group); err != nil {
				return fmt.Errorf("control group %s: %w", group, err)
			}
		}
	}
	return nil
}

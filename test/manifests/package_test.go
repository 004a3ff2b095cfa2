package manifests_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/causeway-mesh/causeway/test/harness"
	"github.com/causeway-mesh/causeway/xds/agent/capture"
)

// built are the packages of a small program in place of Causeway's.
func built(t *testing.T, arch string) (dir string) {
	t.Helper()
	harness.Tool(t, "nfpm")
	binary := filepath.Join(t.TempDir(), "causeway")
	require.NoError(t, os.WriteFile(binary, []byte("#!/bin/sh\nexit 0\n"), 0o755))
	dir = t.TempDir()
	c := exec.Command(filepath.Join(root(t), "manifests", "package", "build"), "v1.2.3-4-gabc", binary, arch, dir)
	c.Env = append(os.Environ(), "SOURCE_DATE_EPOCH=1796068800", "CAUSEWAY_TOOLS="+tools(t))
	out, err := c.CombinedOutput()
	require.NoErrorf(t, err, "%s", out)
	return dir
}

// tools is where the harness has its tools.
func tools(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("CAUSEWAY_TOOLS"); dir != "" {
		return dir
	}
	return filepath.Join(root(t), ".tools")
}

func output(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	require.NoErrorf(t, err, "%s %s: %s", name, args, out)
	return string(out)
}

// The packages have what a host needs, at its place, and two runs make the same bytes.
func TestPackages(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		first, second := built(t, arch), built(t, arch)
		for _, suffix := range []string{"deb", "rpm", "tar.gz"} {
			name := fmt.Sprintf("causeway_1.2.3+4.gabc_%s.%s", arch, suffix)
			a, err := os.ReadFile(filepath.Join(first, name))
			require.NoError(t, err)
			b, err := os.ReadFile(filepath.Join(second, name))
			require.NoError(t, err)
			require.Truef(t, bytes.Equal(a, b), "%s differs between two runs", name)
		}
		deb := filepath.Join(first, "causeway_1.2.3+4.gabc_"+arch+".deb")
		info := output(t, "dpkg-deb", "--info", deb)
		for _, want := range []string{"Package: causeway\n", "Version: 1.2.3+4.gabc\n", "Architecture: " + arch + "\n", "Recommends: envoy\n", "preinst", "postinst", "prerm"} {
			require.Contains(t, info, want)
		}
		list := output(t, "dpkg-deb", "-c", deb)
		for _, want := range []string{
			`-rwxr-xr-x root/root .* ./usr/bin/causeway\n`, `-rw-r--r-- root/root .* ./usr/lib/systemd/system/causeway-agent.service\n`,
			`./usr/lib/systemd/system/causeway-capture.service\n`, `./usr/lib/sysusers.d/causeway.conf\n`, `./usr/lib/causeway/agent.yaml\n`,
			`drwxr-xr-x root/root .* ./etc/causeway/\n`, `./etc/causeway/capture.yaml\n`, `./usr/share/doc/causeway/agent-example.yaml\n`,
		} {
			require.Regexp(t, want, list)
		}
		require.Equal(t, "/etc/causeway/capture.yaml", strings.TrimSpace(output(t, "dpkg-deb", "--info", deb, "conffiles")))
		tarball := output(t, "tar", "-tzf", filepath.Join(first, "causeway_1.2.3+4.gabc_"+arch+".tar.gz"))
		require.Contains(t, tarball, "./usr/lib/systemd/system/causeway-agent.service\n")
		rpm, err := os.ReadFile(filepath.Join(first, "causeway_1.2.3+4.gabc_"+arch+".rpm"))
		require.NoError(t, err)
		require.Equal(t, []byte{0xed, 0xab, 0xee, 0xdb}, rpm[:4])
		if _, err := exec.LookPath("rpm"); err == nil {
			files := output(t, "rpm", "-qpl", "--nosignature", filepath.Join(first, "causeway_1.2.3+4.gabc_"+arch+".rpm"))
			require.Contains(t, files, "/usr/lib/systemd/system/causeway-capture.service\n")
		}
	}
}

// Systems Manager gets a zip for each architecture and kind, with the digests that it checks.
func TestDistributor(t *testing.T) {
	dir := built(t, "amd64")
	arm := built(t, "arm64")
	for _, kind := range []string{"deb", "rpm"} {
		name := "causeway_1.2.3+4.gabc_arm64." + kind
		require.NoError(t, os.Rename(filepath.Join(arm, name), filepath.Join(dir, name)))
	}
	distributor := filepath.Join(root(t), "manifests", "package", "distributor")
	output(t, distributor, "1.2.3", dir)
	first, err := os.ReadFile(filepath.Join(dir, "distributor", "manifest.json"))
	require.NoError(t, err)
	output(t, distributor, "1.2.3", dir)
	second, err := os.ReadFile(filepath.Join(dir, "distributor", "manifest.json"))
	require.NoError(t, err)
	require.Equal(t, string(first), string(second), "with its digests, and so the zips")
	var manifest struct {
		SchemaVersion, Version string
		Packages               map[string]map[string]map[string]struct{ File string }
		Files                  map[string]struct{ Checksums map[string]string }
	}
	require.NoError(t, json.Unmarshal(first, &manifest))
	require.Equal(t, "2.0", manifest.SchemaVersion)
	require.Len(t, manifest.Files, 4)
	for platform, versions := range manifest.Packages {
		for _, machine := range []string{"x86_64", "arm64"} {
			file := versions["_any"][machine].File
			text, err := os.ReadFile(filepath.Join(dir, "distributor", file))
			require.NoError(t, err, platform)
			require.Equal(t, manifest.Files[file].Checksums["sha256"], fmt.Sprintf("%x", sha256.Sum256(text)))
		}
	}
}

// The package goes into a root directory and out of it, its configuration stays, and its scripts do without systemd.
func TestPackageInstalls(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("dpkg needs root")
	}
	arch := strings.TrimSpace(output(t, "dpkg", "--print-architecture"))
	deb := filepath.Join(built(t, arch), "causeway_1.2.3+4.gabc_"+arch+".deb")
	dir := t.TempDir()
	for _, sub := range []string{"var/lib/dpkg/info", "var/lib/dpkg/updates", "var/lib/dpkg/triggers"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	for _, file := range []string{"var/lib/dpkg/status", "var/lib/dpkg/available"} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, file), nil, 0o644))
	}
	dpkg := func(args ...string) string {
		return output(t, "dpkg", append([]string{"--root=" + dir, "--force-not-root", "--force-script-chrootless", "--log=/dev/null"}, args...)...)
	}
	dpkg("--unpack", deb)
	for _, file := range []string{"usr/bin/causeway", "usr/lib/systemd/system/causeway-agent.service", "etc/causeway/capture.yaml.dpkg-new"} {
		require.FileExists(t, filepath.Join(dir, file))
	}
	require.NoFileExists(t, filepath.Join(dir, "etc/causeway/agent.yaml"), "the host's one file is the host's own")
	require.Contains(t, dpkg("--verify", "causeway")+"ok", "ok")
	for _, script := range []string{"preinstall.sh", "postinstall.sh", "preremove.sh"} {
		output(t, "sh", "-n", filepath.Join(root(t), "manifests", "package", script))
	}
}

// An installation starts the agent. An upgrade leaves one that is stopped stopped, and one that is masked is left alone always.
func TestPackageLeavesStopped(t *testing.T) {
	t.Parallel()
	const (
		stays   = "daemon-reload\nis-enabled causeway-agent.service\n"
		started = stays + "enable causeway-agent.service\nstart --no-block causeway-agent.service\n"
	)
	for name, c := range map[string]struct {
		state         string // what systemctl is-enabled says
		before, after []string
		calls, said   string
	}{
		"deb, first":                   {state: "disabled", before: []string{"install"}, after: []string{"configure"}, calls: started},
		"deb, after a removal":         {state: "disabled", before: []string{"install", "1.0"}, after: []string{"configure", "1.0"}, calls: started},
		"deb, upgrade":                 {state: "enabled", before: []string{"upgrade", "1.0"}, after: []string{"configure", "1.0"}, calls: stays, said: "the agent is stopped and stays so; to start it: systemctl start causeway-agent"},
		"deb, upgrade of one disabled": {state: "disabled", before: []string{"upgrade", "1.0"}, after: []string{"configure", "1.0"}, calls: stays, said: "the agent is stopped and stays so"},
		"rpm, first":                   {state: "disabled", before: []string{"1"}, after: []string{"1"}, calls: started},
		"rpm, upgrade":                 {state: "enabled", before: []string{"2"}, after: []string{"2"}, calls: stays, said: "the agent is stopped and stays so"},
		"masked, first":                {state: "masked", before: []string{"install"}, after: []string{"configure"}, calls: stays, said: "the agent is masked and stays so"},
		"masked, upgrade":              {state: "masked", before: []string{"upgrade", "1.0"}, after: []string{"configure", "1.0"}, calls: stays, said: "the agent is masked and stays so"},
	} {
		dir := t.TempDir()
		systemctl := "#!/bin/sh\n[ $1 != is-active ] || exit 3\necho \"$@\" >>" + dir + "/calls\ncase $1 in is-enabled) echo " + c.state + "; exit 1 ;; enable | start) [ " + c.state + " != masked ] ;; esac\n"
		for file, text := range map[string]string{
			"systemctl": systemctl, "systemd-sysusers": "#!/bin/sh\n", "preinst": read(t, "manifests", "package", "preinstall.sh"),
			"postinst": strings.ReplaceAll(read(t, "manifests", "package", "postinstall.sh"), "/run/systemd/system", dir),
		} {
			require.NoError(t, os.WriteFile(filepath.Join(dir, file), []byte(text), 0o755))
		}
		run := func(script string, args ...string) string {
			return output(t, "env", append([]string{"DPKG_ROOT=" + dir, "PATH=" + dir + ":" + os.Getenv("PATH"), "sh", filepath.Join(dir, script)}, args...)...)
		}
		run("preinst", c.before...)
		require.Contains(t, run("postinst", c.after...), c.said, name)
		calls, err := os.ReadFile(filepath.Join(dir, "calls"))
		require.NoError(t, err)
		require.Equal(t, c.calls, string(calls), name)
		require.NoFileExists(t, filepath.Join(dir, "run", "causeway-package-new"), name)
	}
}

// systemd understands the units, and they say what the documents promise.
func TestUnits(t *testing.T) {
	dir := t.TempDir()
	for _, unit := range []string{"causeway-agent.service", "causeway-capture.service"} {
		text := read(t, "manifests", "package", unit)
		require.NoError(t, os.WriteFile(filepath.Join(dir, unit), []byte(strings.ReplaceAll(text, "/usr/bin/causeway", "/bin/true")), 0o644))
	}
	agent := read(t, "manifests", "package", "causeway-agent.service")
	for _, want := range []string{"Type=notify\n", "WatchdogSec=", "KillMode=mixed\n", "StateDirectory=causeway-agent\n", "User=causeway\n", "Restart=always\n", "TimeoutStopSec=90\n"} {
		require.Contains(t, agent, want)
	}
	require.Contains(t, read(t, "manifests", "package", "causeway-capture.service"), "CapabilityBoundingSet=CAP_NET_ADMIN\n")
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("systemd-analyze is not there")
	}
	for _, unit := range []string{"causeway-agent.service", "causeway-capture.service"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", filepath.Join(dir, unit)).CombinedOutput()
		require.NoErrorf(t, err, "%s", out)
		require.NotContainsf(t, string(out), unit+":", "%s", out)
	}
}

// What capture's file in the package says is understood, but for a user that the package makes.
func TestPackagedCapture(t *testing.T) {
	text := strings.Replace(read(t, "manifests", "package", "capture.yaml"), "proxy-users: causeway", "proxy-users: 991", 1)
	text += "dns-servers: 192.0.2.53\n"
	file := filepath.Join(t.TempDir(), "capture.yaml")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	rules, err := capture.Run(capture.RunOptions{File: file, DryRun: true})
	require.NoError(t, err)
	require.Contains(t, rules, "240.0.0.0/4")
	require.Contains(t, rules, "991")
}

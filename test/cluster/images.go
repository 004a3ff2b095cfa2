package cluster

import (
	"context"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/causeway-mesh/causeway/test/harness"
)

// Names of images. Causeway's own are those that the examples name,
// so that the examples run here as they are.
const (
	CausewayImage = "registry.example.com/platform/causeway:v0.2.0"
	AgentImage    = "registry.example.com/platform/causeway-agent:v0.2.0"
	// WorkloadImage is test/cluster/workload: an HTTP server that says who it is, and a load
	// that counts every answer.
	WorkloadImage = workloadImage
	// PHPImage has nginx and php-fpm, which answer as the harness's PHP workloads do.
	PHPImage = "test.example.com/php:v1"

	workloadImage = "test.example.com/workload:v1"
	corednsImage  = "test.example.com/coredns:v1"
)

var (
	//go:embed nginx.conf
	nginxConf string
	//go:embed php-fpm.conf
	phpFPMConf string
)

// passwd knows the users that programs look up.
var passwd = File{Path: "/etc/passwd", Text: "root:x:0:0::/:/sbin/nologin\nnonroot:x:65532:65532::/:/sbin/nologin\n"}

// base are the images without which no cluster is ready.
func (c *Cluster) base(ctx context.Context) ([]Image, error) {
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	coredns, err := tool("coredns")
	if err != nil {
		return nil, err
	}
	workload := c.path("images", "workload")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", workload, "./test/cluster/workload")
	cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOTOOLCHAIN=auto")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("building test/cluster/workload: %w: %s", err, out)
	}
	return []Image{
		{
			Name: workloadImage, Command: []string{"pause"}, Entrypoint: []string{"/usr/local/bin/workload"},
			Files: []File{{Path: "/usr/local/bin/workload", From: workload}},
		},
		{
			Name: corednsImage, Entrypoint: []string{"/usr/local/bin/coredns"},
			Files: []File{{Path: "/usr/local/bin/coredns", From: coredns}},
		},
	}, nil
}

// Images are those of this tree, with bin/causeway as `make build` has made it, and PHP's.
func Images() ([]Image, error) {
	root, err := harness.Root()
	if err != nil {
		return nil, err
	}
	causeway := filepath.Join(root, "bin", "causeway")
	find := func(name string) (path string) {
		if err == nil {
			path, err = harness.FindTool(name)
		}
		return path
	}
	envoy, nginx, fpm, php := find("envoy"), find("nginx"), find("php-fpm"), find("php")
	return []Image{
		{
			Name: CausewayImage, Entrypoint: []string{"/usr/local/bin/causeway"}, Command: []string{"serve"}, User: "65532:65532",
			Files: []File{{Path: "/usr/local/bin/causeway", From: causeway, Libraries: true}, passwd},
		},
		{
			Name: AgentImage, Entrypoint: []string{"/usr/local/bin/causeway"}, Command: []string{"agent", "run"}, User: "65532:65532",
			Files: []File{
				{Path: "/usr/local/bin/causeway", From: causeway, Libraries: true},
				{Path: "/usr/local/bin/envoy", From: envoy, Libraries: true},
				passwd,
				{Path: "/tmp", Folder: true},
			},
		},
		{
			Name: PHPImage, StopSignal: "SIGQUIT", // the graceful end of both, as in their makers' images
			Files: []File{
				{Path: "/usr/sbin/nginx", From: nginx, Libraries: true},
				{Path: "/usr/sbin/php-fpm", From: fpm, Libraries: true},
				{Path: "/usr/bin/php", From: php, Libraries: true},
				{Path: "/etc/nginx/nginx.conf", Text: nginxConf},
				{Path: "/etc/php-fpm.conf", Text: phpFPMConf},
				{Path: "/srv/index.php", From: filepath.Join(root, "test", "harness", "workload.php")},
				passwd,
				{Path: "/tmp", Folder: true},
			},
		},
	}, err
}

// Load makes an image, if what it is made of has changed, and gives it to the node.
func (c *Cluster) Load(ctx context.Context, i Image) (changed bool, err error) {
	name := strings.NewReplacer("/", "_", ":", "_").Replace(i.Name)
	file, marker := c.path("images", name+".tar"), c.path("run", name+".imported")
	digest, err := i.Build(ctx, file)
	if err != nil {
		return false, err
	}
	if imported, err := os.ReadFile(marker); err == nil && string(imported) == digest {
		return false, nil
	}
	// The socket's own path may be too long for one.
	socket := fmt.Sprintf("/proc/%d/root%s", c.PID(), socket)
	out, err := exec.CommandContext(ctx, "/usr/bin/ctr", "--address="+socket, "--namespace=k8s.io", "images", "import", file).CombinedOutput()
	if err != nil {
		return false, fmt.Errorf("image %s: %w: %s", i.Name, err, out)
	}
	return true, os.WriteFile(marker, []byte(digest), 0o644)
}

package bootstrap

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
)

// SystemCAs returns where the host's CA certificates are, or where most hosts
// have them: the bootstrap may be for another one.
func SystemCAs() string {
	paths := []string{
		"/etc/ssl/certs/ca-certificates.crt",                // Debian, Ubuntu, Alpine, Arch, distroless
		"/etc/pki/tls/certs/ca-bundle.crt",                  // Amazon Linux, Fedora, RHEL 6
		"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", // RHEL and CentOS 7 and later
		"/etc/ssl/ca-bundle.pem",                            // SUSE
		"/etc/ssl/cert.pem",                                 // Alpine without the bundle, BSD, macOS
	}
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return paths[0]
}

// Write writes a bootstrap with the files that it refers to.
func Write(o Options, dir string) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return fmt.Errorf("--out: %w", err)
	}
	files, err := Files(o, dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil { //nolint:gosec // Envoy may run as another user
		return fmt.Errorf("--out: %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := os.WriteFile(filepath.Join(dir, name), files[name], 0o644); err != nil { //nolint:gosec // no secret in it
			return fmt.Errorf("--out: %w", err)
		}
	}
	return nil
}

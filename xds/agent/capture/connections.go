package capture

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/causeway-mesh/causeway/policy/naming"
)

// captured counts the connections that are open at Envoy's listeners for captured ones, in this thread's network namespace.
func captured() (int, error) {
	total := 0
	for _, file := range []string{"/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"} {
		f, err := os.Open(file) //nolint:gosec // one of two
		if errors.Is(err, os.ErrNotExist) {
			continue // no IPv6
		}
		if err != nil {
			return 0, fmt.Errorf("open connections are unknown: %w", err)
		}
		n, err := established(f)
		_ = f.Close()
		if err != nil {
			return 0, fmt.Errorf("open connections are unknown: %s: %w", file, err)
		}
		total += n
	}
	return total, nil
}

// established counts the open connections of a table of proc_net_tcp(5) at the ports for captured ones.
func established(table io.Reader) (int, error) {
	n := 0
	lines := bufio.NewScanner(table)
	for lines.Scan() {
		const local, state = 1, 3
		words := strings.Fields(lines.Text())
		if len(words) <= state || words[state] != "01" {
			continue
		}
		_, hex, _ := strings.Cut(words[local], ":")
		if port, err := strconv.ParseUint(hex, 16, 16); err == nil && (port == naming.OutboundPort || port == naming.InboundPort) {
			n++
		}
	}
	return n, lines.Err() //nolint:wrapcheck // captured names the file
}

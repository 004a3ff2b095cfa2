package agent

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// notify tells systemd something, if it wants to know (sd_notify(3)).
func notify(lines ...string) error {
	address := os.Getenv("NOTIFY_SOCKET")
	if address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(strings.Join(lines, "\n"))); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}

// watchdog returns how often systemd wants to hear of the agent, 0 for never (sd_watchdog_enabled(3)).
func watchdog() time.Duration {
	micros, err := strconv.ParseUint(os.Getenv("WATCHDOG_USEC"), 10, 32)
	if pid := os.Getenv("WATCHDOG_PID"); err != nil || pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	return time.Duration(micros) * time.Microsecond / 2 //nolint:gosec // 32 bits
}

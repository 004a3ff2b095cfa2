package harness

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Redis is a Redis server: a TCP service with a protocol of its own.
type Redis struct {
	*Process

	address string
}

// StartRedis starts a server, with nothing in it but the key "who", which is
// its id, and waits until it answers.
func StartRedis(t TB, id string, address netip.Addr, port int) *Redis {
	t.Helper()
	r := &Redis{address: net.JoinHostPort(address.String(), strconv.Itoa(port))}
	r.Process = Start(t, Command{
		Name: "redis-" + id, Path: Tool(t, "redis-server"), Dir: t.TempDir(),
		Args: []string{"--bind", address.String(), "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--protected-mode", "no"},
	})
	Eventually(t, 10*time.Second, "redis "+id, func() error {
		c, err := DialRedis(r.address, time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Do("SET who " + id)
		return err
	})
	return r
}

// Address is the server's "host:port".
func (r *Redis) Address() string { return r.address }

// RedisConn is a connection to a Redis server.
type RedisConn struct {
	net.Conn

	reader *bufio.Reader
	limit  time.Duration
}

// DialRedis connects. Each command may take as long as the limit.
func DialRedis(address string, limit time.Duration) (*RedisConn, error) {
	c, err := net.DialTimeout("tcp", address, limit) //nolint:noctx // bounded by the limit
	if err != nil {
		return nil, err
	}
	return &RedisConn{Conn: c, reader: bufio.NewReader(c), limit: limit}, nil
}

// Do sends an inline command and returns its reply: a status, an integer or a
// bulk string (Redis serialization protocol).
func (c *RedisConn) Do(command string) (string, error) {
	if err := c.SetDeadline(time.Now().Add(c.limit)); err != nil {
		return "", err
	}
	if _, err := fmt.Fprintf(c.Conn, "%s\r\n", command); err != nil {
		return "", err
	}
	line, err := c.reader.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	switch {
	case line == "":
	case line[0] == '+', line[0] == ':':
		return line[1:], nil
	case line == "$-1":
		return "", nil
	case line[0] == '$':
		text, err := c.reader.ReadString('\n')
		return strings.TrimRight(text, "\r\n"), err
	}
	return "", fmt.Errorf("redis: %q answers %q", command, line)
}

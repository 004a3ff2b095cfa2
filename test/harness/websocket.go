package harness

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"time"

	"golang.org/x/net/websocket"
)

// websocketPath is where workloads of the kinds Go and GoProcess take websockets.
const websocketPath = "/websocket"

// serveWebsocket sends back every message, after one with the workload's id.
func (w *Workload) serveWebsocket(out http.ResponseWriter, r *http.Request) {
	// A handshake of its own, so that no Origin is asked for.
	websocket.Server{Handler: func(c *websocket.Conn) {
		message := w.o.ID
		for websocket.Message.Send(c, message) == nil && websocket.Message.Receive(c, &message) == nil {
		}
	}}.ServeHTTP(out, r)
}

// Websocket is an open websocket to a workload.
type Websocket struct {
	// ID is the workload that answers.
	ID string

	conn  *websocket.Conn
	limit time.Duration
}

// DialWebsocket opens a websocket for a host through the server at an address,
// with TLS if it is not nil. Each message may take as long as the limit.
func DialWebsocket(address, host string, secure *tls.Config, limit time.Duration) (*Websocket, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	raw, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	scheme := "ws"
	if secure != nil {
		secure = secure.Clone()
		secure.ServerName, scheme = host, "wss"
		raw = tls.Client(raw, secure)
	}
	if err = raw.SetDeadline(time.Now().Add(limit)); err != nil {
		return nil, err
	}
	conn, err := websocket.NewClient(&websocket.Config{
		Location: &url.URL{Scheme: scheme, Host: host, Path: websocketPath},
		Origin:   &url.URL{Scheme: "https", Host: host},
		Version:  websocket.ProtocolVersionHybi13,
	}, raw)
	if err != nil {
		_ = raw.Close()
		return nil, err
	}
	w := &Websocket{conn: conn, limit: limit}
	if err := websocket.Message.Receive(conn, &w.ID); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return w, nil
}

// Echo sends a message and returns what comes back.
func (w *Websocket) Echo(message string) (string, error) {
	if err := w.conn.SetDeadline(time.Now().Add(w.limit)); err != nil {
		return "", err
	}
	if err := websocket.Message.Send(w.conn, message); err != nil {
		return "", err
	}
	var answer string
	err := websocket.Message.Receive(w.conn, &answer)
	return answer, err
}

// Close ends the websocket.
func (w *Websocket) Close() error { return w.conn.Close() }

package harness

import (
	"context"
	"io"
	"net"
	"sync"
)

// Carry passes the connections that a listener takes on to an address, for example into another network, until the context ends.
// Then it closes the listener and all of them.
func Carry(ctx context.Context, l net.Listener, to string) {
	var group sync.WaitGroup
	defer group.Wait()
	defer context.AfterFunc(ctx, func() { _ = l.Close() })()
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		group.Go(func() { carry(ctx, conn, to) })
	}
}

func carry(ctx context.Context, conn net.Conn, to string) {
	defer conn.Close()
	up, err := (&net.Dialer{}).DialContext(ctx, "tcp", to)
	if err != nil {
		return
	}
	defer up.Close()
	defer context.AfterFunc(ctx, func() { _, _ = conn.Close(), up.Close() })()
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		_, _ = io.Copy(up, conn) // who ends it is nobody's failure
		_ = up.Close()
	}()
	_, _ = io.Copy(conn, up)
	_ = conn.Close()
	<-sent
}

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// floor is the least that a control plane on gRPC could do: it sends what a real
// server sent, from memory, and pushes prepared frames to every stream, with no
// catalog, no compilation and no subscriptions behind it. It is an RPC service
// to the process that measures.
type floor struct {
	server *grpc.Server

	mu      sync.Mutex
	answers [resource.Types]*answer
	change  []byte // the frame of one resource of endpoints
	streams map[chan mem.BufferSlice]struct{}
}

// answer is all of a type.
type answer struct {
	frames []mem.BufferSlice // one for each response
}

// maxAnswer is where answers are split, as the server under test does.
const maxAnswer = 3 << 20

func newFloor() *floor { return &floor{streams: make(map[chan mem.BufferSlice]struct{})} }

// serve answers until the listener is closed.
func (f *floor) serve(l net.Listener) error {
	// The transport is set up as the server's under test.
	f.server = grpc.NewServer(grpc.ForceServerCodecV2(codec{}), grpc.MaxRecvMsgSize(16<<20),
		grpc.ReadBufferSize(4<<10),
		grpc.UnknownServiceHandler(func(_ any, s grpc.ServerStream) error { return f.stream(s) }))
	return f.server.Serve(l)
}

// Record connects to the server under test as a client and keeps what it sends.
func (f *floor) Record(a ConnectArgs, _ *struct{}) error {
	recorder := &fleet{zones: a.Zones}
	c := &client{fleet: recorder, zone: zoneName(0)}
	var mu sync.Mutex
	var quiet time.Time
	parts := [resource.Types][][]byte{}
	conn, err := c.dial(a.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	c.stream, err = conn.NewStream(ctx, &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}, deltaMethod)
	if err != nil {
		return err
	}
	recorder.known = make(map[string]*[resource.Types]map[string]string)
	m := message{
		want: func(m *message) bool { return m.known },
		inspect: func(m *message, data []byte) error {
			mu.Lock()
			defer mu.Unlock()
			quiet = time.Now()
			err := eachField(data, func(number protowire.Number, value []byte) {
				if number == responseResources {
					parts[m.kind] = append(parts[m.kind], appendRaw(nil, responseResources, value))
				}
			})
			return errors.Join(err, c.inspect(m, data))
		},
	}
	if err := c.begin(); err != nil {
		return err
	}
	received := make(chan error, 1)
	go func() {
		for {
			err := c.stream.RecvMsg(&m)
			if err == nil {
				err = c.handle(&m)
			}
			if err != nil {
				received <- err
				return
			}
		}
	}()
	for over := false; !over; {
		select {
		case err := <-received:
			return err
		case <-time.After(50 * time.Millisecond):
		}
		mu.Lock()
		over = len(parts[resource.VirtualHost]) > 0 && time.Since(quiet) > time.Second
		mu.Unlock()
	}
	cancel()
	if err := <-received; err == nil {
		return errors.New("the control plane ended the stream before it was canceled")
	}

	f.mu.Lock()
	defer f.mu.Unlock()
	for t := range parts {
		f.answers[t] = newAnswer(resource.Type(t), parts[t]) //nolint:gosec // t < Types
	}
	for _, p := range parts[resource.Endpoint] {
		if bytes.Contains(p, []byte(clusterName(0))) {
			f.change = p
		}
	}
	if f.change == nil {
		return fmt.Errorf("the server has no %s", clusterName(0))
	}
	return nil
}

func newAnswer(t resource.Type, parts [][]byte) *answer {
	a := &answer{}
	var now mem.BufferSlice
	size := 0
	for i, p := range parts {
		now = append(now, mem.SliceBuffer(p))
		if size += len(p); size > maxAnswer || i == len(parts)-1 {
			a.frames = append(a.frames, append(now, tail(t)))
			now, size = nil, 0
		}
	}
	return a
}

func tail(t resource.Type) mem.SliceBuffer {
	return appendText(appendText(appendText(nil, responseURL, t.URL()), responseNonce, "1"), responseVersion, "1")
}

// Push sends a change, with another address in it, to every stream.
func (f *floor) Push(marker string, _ *struct{}) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	frame := bytes.Clone(f.change)
	at := bytes.Index(frame, []byte("10.1"))
	if at < 0 {
		return errors.New("the frame has no address")
	}
	copy(frame[at:], marker) // addresses are equally long
	push := mem.BufferSlice{mem.SliceBuffer(frame), tail(resource.Endpoint)}
	for c := range f.streams {
		c <- push
	}
	return nil
}

func (f *floor) stream(s grpc.ServerStream) error {
	pushes := make(chan mem.BufferSlice, 16)
	requests := make(chan resource.Type, resource.Types)
	go func() {
		defer close(requests)
		var asked [resource.Types]bool
		for {
			var request []byte
			if s.RecvMsg(&request) != nil {
				return
			}
			_ = eachField(request, func(number protowire.Number, value []byte) {
				if t, ok := resource.TypeOf(string(value)); number == deltaURL && ok && !asked[t] {
					asked[t] = true
					requests <- t
				}
			})
		}
	}()
	f.mu.Lock()
	f.streams[pushes] = struct{}{}
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.streams, pushes)
	}()
	for {
		select {
		case t, ok := <-requests:
			if !ok {
				return nil
			}
			f.mu.Lock()
			a := f.answers[t]
			f.mu.Unlock()
			for _, frame := range a.frames {
				if err := s.SendMsg(frame); err != nil {
					return err
				}
			}
		case frame := <-pushes:
			if err := s.SendMsg(frame); err != nil {
				return err
			}
		}
	}
}

package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/drain"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// listenControl opens the socket for commands. It is in the state directory, which is the agent's user's alone: who can
// reach it is that user or root.
func (a *Agent) listenControl(ctx context.Context) (net.Listener, error) {
	path := filepath.Join(a.dir, controlFile)
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	var config net.ListenConfig
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("--state-dir: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("--state-dir: %w", err), l.Close())
	}
	return l, nil
}

// serveControl answers commands until the context ends.
func (a *Agent) serveControl(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, r *http.Request) { admin.WriteJSON(w, a.Status(r.Context())) })
	mux.HandleFunc("POST /drain", func(w http.ResponseWriter, r *http.Request) {
		most, err := time.ParseDuration(r.FormValue("for"))
		if err != nil || most <= 0 {
			http.Error(w, "for: write a duration such as 60s", http.StatusBadRequest)
			return
		}
		if a.opts.Bootstrap.Role == resource.Gateway {
			http.Error(w, "its Envoy serves a Gateway: 'causeway drain' takes it out", http.StatusConflict)
			return
		}
		admin.WriteJSON(w, a.ask(most, time.Now()))
	})
	mux.HandleFunc("DELETE /drain", func(w http.ResponseWriter, _ *http.Request) {
		a.undo()
	})
	if err := admin.Serve(ctx, l, mux, a.opts.Logger); ctx.Err() == nil {
		return err //nolint:wrapcheck // the caller names the flag
	}
	return nil // the end was wanted
}

// DrainOptions are those of `causeway agent drain`.
type DrainOptions struct {
	// Dir is the agent's state directory.
	Dir string
	// For is how long what is under way has to end.
	For time.Duration
	// Undo ends the draining instead.
	Undo bool
}

// ErrOpen says that something was under way still when the time was over.
var ErrOpen = errors.New("something is under way still")

// Drain makes the host of an agent leave, or take part again, waits until that is so, and says how it went.
func Drain(ctx context.Context, o DrainOptions, out io.Writer) error {
	if o.For < time.Second {
		return fmt.Errorf("--for: %s is no time to drain: write, for example, 60s", o.For)
	}
	c := &control{path: filepath.Join(o.Dir, controlFile)}
	c.client = &http.Client{Timeout: 2 * drain.Answers, Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", c.path)
	}}}
	if o.Undo {
		if err := c.do(ctx, http.MethodDelete, "/drain", nil); err != nil {
			return err
		}
		s, err := c.await(ctx, func(s *Status) bool { return s.Leave == nil || s.Leave.Reason != drainRequested })
		switch {
		case err != nil:
			return err
		case s.Draining:
			fmt.Fprintln(out, "taken back; this host still "+s.Why[len("it is "):])
		default:
			fmt.Fprintln(out, "this host takes part again")
		}
		return nil
	}
	var asked Leave
	if err := c.do(ctx, http.MethodPost, "/drain?for="+url.QueryEscape(o.For.String()), &asked); err != nil {
		return err
	}
	// What EC2 announces goes before what is asked for.
	s, err := c.await(ctx, func(s *Status) bool {
		return s.Leave != nil && (s.Leave.Reason != drainRequested || s.Leave.same(&asked))
	})
	if err != nil {
		return err
	}
	told := "callers are told"
	if !s.Membership.Joined {
		told = "no control plane answers, so callers are not told"
	}
	fmt.Fprintf(out, "this host is to get nothing new (%s); waiting %s at most for what is under way\n", told, o.For)
	s, err = c.await(ctx, func(s *Status) bool { return s.Leave == nil || s.Leave.Over })
	switch {
	case err != nil:
		return err
	case s.Leave == nil:
		return errors.New("somebody has taken the draining back")
	case s.Leave.Open != "":
		fmt.Fprintf(out, "%s. It stays so until 'causeway agent drain --undo' or a restart of the agent\n", s.Leave.Open)
		return ErrOpen
	}
	fmt.Fprintln(out, "drained: nothing passes this host's Envoy. It stays so until 'causeway agent drain --undo' or a restart of the agent")
	return nil
}

// control asks an agent by its socket.
type control struct {
	path   string
	client *http.Client
}

func (c *control) ask(ctx context.Context, method, path string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, method, "http://localhost"+path, nil)
	if err != nil {
		return nil, err //nolint:wrapcheck // it cannot be
	}
	answer, err := c.client.Do(request)
	switch {
	case errors.Is(err, os.ErrPermission):
		return nil, fmt.Errorf("--state-dir: %s is the agent's: run this as root or as the agent's user", c.path)
	case err != nil:
		return nil, fmt.Errorf("--state-dir: no agent answers at %s: start `causeway agent run`, or name the directory that it was given: %w", c.path, errors.Unwrap(err))
	}
	return answer, nil
}

// do asks for something, and decodes the answer into out unless that is nil.
func (c *control) do(ctx context.Context, method, path string, out any) error {
	answer, err := c.ask(ctx, method, path)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		why, _ := io.ReadAll(io.LimitReader(answer.Body, maxSaid))
		return fmt.Errorf("the agent answers %s: %s", answer.Status, strings.TrimSpace(string(why)))
	}
	if out == nil {
		return nil
	}
	if err := json.NewDecoder(answer.Body).Decode(out); err != nil {
		return fmt.Errorf("the agent's answer: %w", err)
	}
	return nil
}

// await asks for the status until it is as wanted.
func (c *control) await(ctx context.Context, want func(*Status) bool) (*Status, error) {
	for {
		answer, err := c.ask(ctx, http.MethodGet, "/status")
		if err != nil {
			return nil, err
		}
		s := &Status{}
		err = json.NewDecoder(answer.Body).Decode(s)
		_ = answer.Body.Close()
		if err != nil {
			return nil, fmt.Errorf("the agent's status: %w", err)
		}
		if want(s) {
			return s, nil
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(lookEvery / 2):
		}
	}
}

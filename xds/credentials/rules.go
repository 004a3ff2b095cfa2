package credentials

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"

	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"

	"github.com/causeway-mesh/causeway/policy/clients"
	"github.com/causeway-mesh/causeway/xds/server"
)

// Rules are the client rules of a file, which is read again when it changes.
type Rules struct {
	watched
	log     *slog.Logger
	current atomic.Pointer[clients.Rules]
}

// NewRules reads the client rules. Errors name the flag of causeway serve at fault.
func NewRules(file string, log *slog.Logger) (*Rules, error) {
	l := &Rules{watched: watched{files: []string{file}}, log: log}
	if _, err := l.reload(l.load); err != nil {
		return nil, err
	}
	return l, nil
}

func (l *Rules) load(content [][]byte) error {
	r, err := clients.Parse(content[0])
	if err != nil {
		return fmt.Errorf("--xds-client-rules: %s: %w", l.files[0], err)
	}
	for i := range r.Clients {
		if old := &r.Clients[i]; old.Name != "" {
			l.log.Warn("a client rule's name does not say which kind of name it means", "file", l.files[0], "rule", fmt.Sprintf("clients[%d]", i), "write", old.Remedy())
		}
	}
	l.current.Store(r)
	return nil
}

// look loads the rules if they have changed, and reports whether they have.
// Broken ones are reported, and the last good ones stay.
func (l *Rules) look() bool {
	changed, err := l.reload(l.load)
	switch {
	case err != nil:
		l.log.Error("the changed client rules are not usable; those before stay in force, and the file is tried again", "every", reloadEvery, "error", err)
	case changed:
		l.log.Info("reloaded the client rules", "rules", len(l.current.Load().Clients))
	}
	return changed
}

var errNoCertificate = errors.New("no verified client certificate")

// Authorize decides whether the peer's certificate may be the node.
func (l *Rules) Authorize(ctx context.Context, n *server.Node) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return errNoCertificate
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.VerifiedChains) == 0 {
		return errNoCertificate
	}
	names := clients.NamesOf(info.State.VerifiedChains[0][0])
	identity, err := l.current.Load().Identity(&names, string(n.Role), n.Namespace)
	if err != nil {
		return err
	}
	n.Identity = identity
	return nil
}

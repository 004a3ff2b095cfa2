package credentials

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"sync/atomic"

	"github.com/causeway-mesh/causeway/policy/clients"
)

// Rules are the client rules of a file, which is read again when it changes.
type Rules struct {
	watched
	log     *slog.Logger
	current atomic.Pointer[clients.Rules]
}

// newRules reads the client rules. Errors name the flag of causeway serve at fault.
func newRules(o *Options) (*Rules, error) {
	l := &Rules{watched: watched{files: []string{o.Rules}}, log: o.Log}
	_, err := l.reload(l.load)
	if o.Optional && errors.Is(err, fs.ErrNotExist) {
		o.Log.Info("there are no client rules: pods are sidecars of their own namespaces by their tokens, and no certificate is anything", "file", o.Rules)
		l.current.Store(&clients.Rules{})
		return l, nil
	}
	if err != nil {
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

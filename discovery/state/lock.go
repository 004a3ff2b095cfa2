package state

import (
	"errors"
	"fmt"
	"path/filepath"

	"github.com/causeway-mesh/causeway/discovery/durable"
)

// lockFile is held for as long as a control plane uses the directory.
const lockFile = "lock"

// Lock takes the directory for this process. It fails while another one has
// it: two would each undo what the other has stored. The kernel lets go of it
// when the process ends, however that comes about.
func (d *Dir) Lock() error {
	f, err := durable.Lock(filepath.Join(d.path, lockFile))
	held, taken := errors.AsType[*durable.HeldError](err)
	switch {
	case taken:
		holder := ""
		if held.Process != 0 {
			holder = fmt.Sprintf(" (process %d)", held.Process)
		}
		return fmt.Errorf("state directory %s: another control plane uses it%s: give every control plane a --state-dir of its own, or stop that one",
			d.path, holder)
	case f == nil:
		return fmt.Errorf("state directory: %w", err)
	case err != nil: // a file system without locks
		d.log.Warn("cannot lock the state directory: make sure that no other control plane uses it", "dir", d.path, "error", err)
	}
	d.locked = f
	return nil
}

// Close lets another control plane use the directory.
func (d *Dir) Close() error {
	if d.locked == nil {
		return nil
	}
	return d.locked.Close()
}

package state

import (
	"context"
	"fmt"
	"maps"
)

// pinsFile holds the units that are kept at their last good configuration.
const pinsFile = "pins"

// Pins are records about units that are held at their last good configuration, by unit.
type Pins struct{ dir *Dir }

// Pins returns the directory's records of pinned units.
func (d *Dir) Pins() Pins { return Pins{d} }

// Await returns all records. A record that cannot be read counts as missing:
// the proxies will refuse the configuration again.
func (p Pins) Await(context.Context) (map[string][]byte, error) {
	records, err := read[map[string][]byte](p.dir, pinsFile)
	if err != nil {
		p.dir.log.Error("cannot read which configurations proxies refused", "error", err)
	}
	return records, nil
}

// Change applies change to the records and stores the result.
func (p Pins) Change(_ context.Context, change func(map[string][]byte)) error {
	records, err := read[map[string][]byte](p.dir, pinsFile)
	if err != nil || records == nil {
		records = make(map[string][]byte)
	}
	records = maps.Clone(records)
	change(records)
	if err := p.dir.write(pinsFile, records); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}

package replica

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"time"

	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// PinStore is where pinned units survive a restart, and where replicas see
// each other's.
type PinStore interface {
	// Await returns all records, whenever that is possible.
	Await(ctx context.Context) (map[string][]byte, error)
	// Change applies a change to the records and stores the result.
	Change(ctx context.Context, change func(map[string][]byte)) error
}

// pinsRetry is how long to wait before pins are stored again.
const pinsRetry = 2 * time.Second

// Pins keeps the pinned units of a snapshot where they outlive a restart.
type Pins struct {
	// Store is nil where nothing survives a restart.
	Store    PinStore
	snapshot *snapshot.Store
	log      *slog.Logger
	changed  chan struct{}
}

// NewPins returns what Keep keeps of a snapshot.
func NewPins(store *snapshot.Store, log *slog.Logger) *Pins {
	return &Pins{snapshot: store, log: log, changed: make(chan struct{}, 1)}
}

// Restore puts the pins of earlier runs in place.
func (p *Pins) Restore(ctx context.Context) error {
	if p.Store == nil {
		return nil
	}
	records, err := p.Store.Await(ctx)
	if err != nil {
		return err
	}
	p.snapshot.SetPins(p.Decode(records))
	p.Changed()
	return nil
}

// Keep stores pins as they come and go, until the context ends.
func (p *Pins) Keep(ctx context.Context) error {
	stored := make(map[string][]byte)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-p.changed:
		}
		if p.Store == nil {
			continue
		}
		now := make(map[string][]byte)
		for _, pin := range p.snapshot.Pins() {
			data, err := encodePin(&pin)
			if err != nil {
				p.log.Error("cannot store what a proxy refused", "unit", pin.Unit, "error", err)
				continue
			}
			now[pinKey(pin.Key())] = data
		}
		err := p.Store.Change(ctx, func(records map[string][]byte) {
			for key := range stored {
				if _, ok := now[key]; !ok {
					delete(records, key)
				}
			}
			for key, data := range now {
				if !bytes.Equal(stored[key], data) {
					records[key] = data
				}
			}
		})
		if err != nil {
			p.log.Error("cannot store what a proxy refused; trying again", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pinsRetry):
			}
			p.Changed()
			continue
		}
		stored = now
	}
}

// Changed has Keep look again. It never blocks.
func (p *Pins) Changed() {
	select {
	case p.changed <- struct{}{}:
	default:
	}
}

// Decode returns the pins of records; those that cannot be read are reported and left out.
func (p *Pins) Decode(records map[string][]byte) []snapshot.Pin {
	var out []snapshot.Pin
	for key, data := range records {
		pin, err := decodePin(data)
		if err != nil {
			p.log.Error("cannot read what a proxy refused earlier; it will say so again", "record", key, "error", err)
			continue
		}
		out = append(out, pin)
	}
	return out
}

// pinKey makes of a pin's key one of a ConfigMap.
func pinKey(unit string) string {
	h := fnv.New128a()
	_, _ = io.WriteString(h, unit) // never fails
	return hex.EncodeToString(h.Sum(nil))
}

func encodePin(p *snapshot.Pin) ([]byte, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if err := json.NewEncoder(z).Encode(p); err != nil {
		return nil, fmt.Errorf("pin of %s: %w", p.Unit, err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("pin of %s: %w", p.Unit, err)
	}
	return b.Bytes(), nil
}

// maxPin bounds what a record may become when it is unpacked.
const maxPin = 16 << 20

func decodePin(data []byte) (p snapshot.Pin, err error) {
	z, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return p, fmt.Errorf("pin: %w", err)
	}
	if err := json.NewDecoder(io.LimitReader(z, maxPin)).Decode(&p); err != nil {
		return p, fmt.Errorf("pin: %w", err)
	}
	return p, nil
}

package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"io"
	"time"

	"github.com/causeway-mesh/causeway/xds/snapshot"
)

// pinStore is where pinned units survive a restart, and where replicas see
// each other's.
type pinStore interface {
	// Await returns all records, whenever that is possible.
	Await(ctx context.Context) (map[string][]byte, error)
	// Change applies a change to the records and stores the result.
	Change(ctx context.Context, change func(map[string][]byte)) error
}

// pinsRetry is how long to wait before pins are stored again.
const pinsRetry = 2 * time.Second

// runEngine runs the engine with the pins of earlier runs in place.
func (s *serve) runEngine(ctx context.Context) error {
	if s.pinStore != nil {
		records, err := s.pinStore.Await(ctx)
		if err != nil {
			return err
		}
		s.store.SetPins(s.decodePins(records))
		s.onPins()
	}
	return s.engine.Run(ctx)
}

// takePins takes over what another replica has stored.
func (s *serve) takePins(ctx context.Context, records map[string][]byte) {
	s.engine.Pin(ctx, s.decodePins(records))
	s.onPins()
}

// keepPins stores pins as they come and go.
func (s *serve) keepPins(ctx context.Context) error {
	stored := make(map[string][]byte)
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-s.pinsChanged:
		}
		if s.pinStore == nil {
			continue
		}
		now := make(map[string][]byte)
		for _, p := range s.store.Pins() {
			data, err := encodePin(&p)
			if err != nil {
				s.log.Error("cannot store what a proxy refused", "unit", p.Unit, "error", err)
				continue
			}
			now[pinKey(p.Key())] = data
		}
		err := s.pinStore.Change(ctx, func(records map[string][]byte) {
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
			s.log.Error("cannot store what a proxy refused; trying again", "error", err)
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(pinsRetry):
			}
			s.onPins()
			continue
		}
		stored = now
	}
}

// onPins has keepPins look again. It never blocks.
func (s *serve) onPins() {
	select {
	case s.pinsChanged <- struct{}{}:
	default:
	}
}

func (s *serve) decodePins(records map[string][]byte) []snapshot.Pin {
	var out []snapshot.Pin
	for key, data := range records {
		p, err := decodePin(data)
		if err != nil {
			s.log.Error("cannot read what a proxy refused earlier; it will say so again", "record", key, "error", err)
			continue
		}
		out = append(out, p)
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

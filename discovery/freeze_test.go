package discovery

import (
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Freezes are held per owner: nobody lifts another's by freezing or by lifting their own.
func TestFreezeOfSeveralOwners(t *testing.T) {
	t.Parallel()
	at := func(minute int) time.Time { return time.Date(2026, 11, 23, 10, minute, 0, 0, time.UTC) }
	ada := FreezeOrder{Config: true, By: "ada", Reason: "INC-7", Since: at(1)}
	var none *Freeze
	f := none.With("s", ada)
	require.Equal(t, &Freeze{Scope: "s", Config: true, By: "ada", Reason: "INC-7", Since: at(1), Orders: []FreezeOrder{ada}}, f)

	both := f.With("s", FreezeOrder{By: "bob", Reason: "a look", Since: at(2)})
	require.True(t, both.Config, "the second freeze, without --config, lifts nothing")
	require.Equal(t, []any{"ada and bob", "ada: INC-7; bob: a look", at(1)}, []any{both.By, both.Reason, both.Since})
	require.Len(t, f.Orders, 1, "what was read is not changed")

	left, ok := both.Without("ada")
	require.True(t, ok)
	require.Equal(t, []any{false, "bob", at(2)}, []any{left.Config, left.By, left.Since})
	left, ok = left.Without("bob")
	require.True(t, ok)
	require.Nil(t, left)
	same, ok := both.Without("eve")
	require.False(t, ok)
	require.Equal(t, both, same)
	_, ok = none.Without("ada")
	require.False(t, ok)

	again := f.With("s", FreezeOrder{By: "ada", Since: at(3)})
	require.Equal(t, f, again, "an owner's own second one lifts nothing either")

	// Proxies must not get in between what was held when the first of two is lifted: it is one freeze.
	second := both.With("s", FreezeOrder{Config: true, By: "bob", Since: at(4)})
	rest, _ := second.Without("ada")
	require.Equal(t, []any{true, at(1)}, []any{rest.Config, rest.Since})
}

// What earlier releases have stored is read, and they read what this one stores.
func TestFreezeRecord(t *testing.T) {
	t.Parallel()
	old := []byte(`{"config":true,"by":"sre","reason":"an incident","since":"2026-11-23T10:00:00Z"}`)
	var rec *FreezeRecord
	require.NoError(t, json.Unmarshal(old, &rec))
	f := rec.Freeze("s")
	require.Equal(t, []any{true, "sre", "an incident", 1}, []any{f.Config, f.By, f.Reason, len(f.Orders)})
	left, ok := f.Without("sre")
	require.True(t, ok)
	require.Nil(t, left)

	text, err := json.Marshal(f.With("s", FreezeOrder{By: "bob", Since: f.Since}).Record())
	require.NoError(t, err)
	var before FreezeOrder
	require.NoError(t, json.Unmarshal(text, &before))
	require.Equal(t, FreezeOrder{Config: true, By: "sre and bob", Reason: "sre: an incident", Since: f.Since}, before)
	rec = nil
	require.NoError(t, json.Unmarshal(text, &rec))
	require.Len(t, rec.Freeze("s").Orders, 2)

	rec = nil
	require.NoError(t, json.Unmarshal([]byte("null"), &rec))
	require.Nil(t, rec.Freeze("s"))
	require.Nil(t, (*Freeze)(nil).Record())
	spoiled := UnreadableFreeze("s", "the record", errors.New("no JSON"), time.Time{})
	require.True(t, spoiled.Config)
	require.False(t, spoiled.Since.IsZero())
}

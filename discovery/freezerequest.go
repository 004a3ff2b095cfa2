package discovery

import (
	"errors"
	"fmt"
	"slices"
	"time"
)

// FreezeRequest is what somebody wants to be frozen or no longer frozen.
type FreezeRequest struct {
	// By is who asks, and Formerly another name that an earlier release knew them by.
	By       string `json:"by"`
	Formerly string `json:"formerly,omitempty"`
	Reason   string `json:"reason,omitempty"`
	// Config freezes all configuration but endpoints too.
	Config bool `json:"config,omitempty"`
	// Lift ends a freeze: that of Owner, "" for one's own.
	Lift  bool   `json:"lift,omitempty"`
	Owner string `json:"owner,omitempty"`
}

// Bounds of what people say of themselves and of why, in bytes. All of it stands in every status and notice until it is over.
const (
	maxWho = 256
	maxWhy = 1024
	// maxFreezes is how many may have frozen something at a time.
	maxFreezes = 64
)

// CheckWords returns an error if somebody's name or reason is longer than it may be.
func CheckWords(who, why string) error {
	for _, text := range []struct {
		what, text string
		most       int
	}{{"the name of who asks", who, maxWho}, {"--reason", why, maxWhy}} {
		if len(text.text) > text.most {
			return fmt.Errorf("%s has %d bytes, and may have %d: say it shorter, and link to the rest", text.what, len(text.text), text.most)
		}
	}
	return nil
}

// FreezeAnswer is what is frozen then.
type FreezeAnswer struct {
	Freeze *Freeze `json:"freeze,omitempty"`
}

// Change returns what the request makes of a freeze, nil for none.
func (r *FreezeRequest) Change(f *Freeze, now time.Time) (*Freeze, error) {
	if err := CheckWords(r.By, r.Reason); err != nil {
		return nil, err
	}
	switch {
	case r.By == "":
		return nil, errors.New("a freeze has an owner: let causeway freeze or causeway unfreeze ask")
	case !r.Lift:
		scope := ""
		if f != nil {
			scope = f.Scope
		}
		if f != nil && len(f.Orders) >= maxFreezes && !slices.ContainsFunc(f.Orders, func(o FreezeOrder) bool { return o.By == r.By }) {
			return nil, fmt.Errorf("%d have frozen something, which is the most: see causeway status, and %s", maxFreezes, f.Remedy())
		}
		return f.With(scope, FreezeOrder{Config: r.Config, By: r.By, Reason: r.Reason, Since: now}), nil
	case r.Owner != "" && r.Owner != r.By && r.Reason == "":
		return nil, fmt.Errorf("this is the freeze of %s: say why it is lifted, with --reason", r.Owner)
	case f == nil:
		return nil, nil //nolint:nilnil // nothing was frozen, and nothing is
	}
	owners := []string{r.Owner}
	if r.Owner == "" {
		owners = []string{r.By, r.Formerly}
	}
	lifted := false
	for _, owner := range owners {
		next, ok := f.Without(owner)
		lifted = lifted || ok
		if f = next; f == nil {
			return nil, nil //nolint:nilnil // that was the last one
		}
	}
	if !lifted {
		who := r.By + " has"
		if r.Owner != "" {
			who = r.Owner + " has"
		}
		return nil, fmt.Errorf("%s frozen nothing, and this stays:\n%s\n%s", who, f.Text(), f.Remedy())
	}
	return f, nil
}

// Remedy says how to lift what others have frozen.
func (f *Freeze) Remedy() string {
	return fmt.Sprintf("to lift another's: causeway unfreeze --owner %s --reason \"...\"", f.Orders[0].By)
}

package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// RunOptions are those of `causeway agent capture`.
type RunOptions struct {
	// File has settings, and Flags, by name, win over it.
	File  string
	Flags map[string]string
	// DryRun prints the rules instead.
	DryRun bool
	// UntilConfirmed is how long the rules act without Confirm; 0 for ever.
	UntilConfirmed time.Duration
	// Confirm makes rules stay that are there already.
	Confirm bool
}

// Run does what the options say, and returns what to tell the user: the rules or a line.
func Run(o RunOptions) (string, error) {
	_, said := o.Flags["until-confirmed"]
	if o.Confirm {
		if said {
			return "", errors.New("--confirm: it confirms rules that are there; leave --until-confirmed out, or capture again with it alone")
		}
		if err := NewTable().Confirm(); err != nil {
			return "", err
		}
		return "capture is confirmed: it stays until 'causeway agent release'\n", nil
	}
	if (said || o.UntilConfirmed != 0) && o.UntilConfirmed < time.Second {
		return "", fmt.Errorf("--until-confirmed: %s is too short to confirm anything: write, for example, 60s", o.UntilConfirmed)
	}
	config, err := Read(o.File, o.Flags)
	if err != nil {
		return "", err
	}
	rules := Rules(config, Features{IPv6: HasIPv6(), UntilConfirmed: o.UntilConfirmed})
	if o.DryRun {
		return rules.Text(), nil
	}
	if err := NewTable().Capture(rules); err != nil {
		return "", err
	}
	line := "captured: " + config.Summary()
	if o.UntilConfirmed > 0 {
		line += fmt.Sprintf(". It ends in %.0fs unless you run 'causeway agent capture --confirm'", o.UntilConfirmed.Seconds())
	}
	return line + "\n", nil
}

// Release takes the rules back and returns a line about it. Open connections have as long as drain.
func Release(ctx context.Context, drain time.Duration) (string, error) {
	if drain < 0 {
		return "", fmt.Errorf("--drain-timeout: %s is negative: write, for example, 30s", drain)
	}
	was, open, err := NewTable().Release(ctx, drain)
	switch {
	case err != nil:
		return "", err
	case !was:
		return "nothing was captured, and nothing is changed\n", nil
	case open > 0:
		return fmt.Sprintf("released: nothing is captured. Captured connections that were open still, and are broken now: %d\n", open), nil
	}
	return "released: nothing is captured, and no captured connection was open\n", nil
}

// Now says in a few words whether capture is on, for a status.
func Now() string {
	s, err := NewTable().State()
	switch {
	case errors.Is(err, os.ErrPermission):
		return "unknown: to see it needs CAP_NET_ADMIN (run this as root)"
	case err != nil:
		return "unknown: " + err.Error()
	}
	return s.String()
}

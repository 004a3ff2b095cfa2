package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"github.com/causeway-mesh/causeway/xds/agent/ec2"
)

// EC2 says what an agent on an EC2 instance asks the cloud.
type EC2 struct {
	// Enabled is false on hosts elsewhere, which have no such service to ask.
	Enabled bool
	// Endpoint is that of the instance metadata service, "" for the usual one.
	Endpoint string
	// DrainOnRebalance makes the host drain when EC2 recommends to replace it.
	DrainOnRebalance bool
	// Group and Hook name the auto scaling group and its hook for terminating instances, which is completed once
	// the host has drained. Without a hook nothing is; without a group it is that of the instance's tags.
	Group, Hook string
	// Identity is filled in by Identify.
	Identity *ec2.Identity

	every time.Duration // how often tests ask
}

// DefaultDir is the state directory of an agent that is told no other.
const DefaultDir = "/var/lib/causeway-agent"

// identityFile is in the state directory.
const identityFile = "identity"

// Identify asks EC2 which instance this is, for as long as Wait at most, and fills in what the options do not say: the
// id, the region and the zone. If nobody answers, what an earlier start knew holds.
func (o *Options) Identify(ctx context.Context) error {
	e := &o.EC2
	if !e.Enabled {
		for name, value := range map[string]string{"imds-endpoint": e.Endpoint, "auto-scaling-group": e.Group, "lifecycle-hook": e.Hook} {
			if value != "" {
				return fmt.Errorf("--%s: it has no meaning without --ec2: say ec2: true, or leave it out", name)
			}
		}
		return nil
	}
	if u, err := url.Parse(e.Endpoint); e.Endpoint != "" && (err != nil || u.Scheme != "http" || u.Host == "") {
		return fmt.Errorf("--imds-endpoint: %q is not a URL: write, for example, %s", e.Endpoint, ec2.DefaultEndpoint)
	}
	file := filepath.Join(o.Dir, identityFile)
	id, err := identity(ctx, ec2.NewMetadata(e.Endpoint), o.Wait)
	if err == nil {
		if err = os.MkdirAll(o.Dir, 0o700); err == nil {
			err = id.Keep(file)
		}
		if err != nil {
			o.Logger.Warn("a start without the metadata service would not know this instance", "error", err)
		}
	} else {
		var none error
		id, none = ec2.Recall(file)
		switch {
		case ctx.Err() != nil:
			return context.Canceled
		case none == nil:
			o.Logger.Warn("this instance is known from an earlier start", "instance", id.Instance, "error", err)
		case o.Bootstrap.Instance == "":
			return fmt.Errorf("--id: it is not known which instance this is: %w; %w: write --id", err, none)
		default:
			o.Logger.Warn("it is not known which instance this is; --id holds", "id", o.Bootstrap.Instance, "error", err)
			id = &ec2.Identity{Instance: o.Bootstrap.Instance, Region: o.Bootstrap.Region, Zone: o.Bootstrap.Zone}
		}
	}
	e.Identity = id
	b := &o.Bootstrap
	b.Instance, b.Region, b.Zone = cmp.Or(b.Instance, id.Instance), cmp.Or(b.Region, id.Region), cmp.Or(b.Zone, id.Zone)
	if e.Hook != "" && cmp.Or(e.Group, id.Group) == "" {
		return errors.New("--auto-scaling-group: the instance's metadata does not say its group: name it, " +
			"or allow tags there (aws ec2 modify-instance-metadata-options --instance-metadata-tags enabled)")
	}
	return nil
}

// identity asks until there is an answer, for a time at most.
func identity(ctx context.Context, m *ec2.Metadata, most time.Duration) (*ec2.Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	var last error
	for {
		id, err := m.Identity(ctx)
		if err == nil {
			return id, nil
		}
		if last == nil || ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return nil, last
		case <-time.After(500 * time.Millisecond):
		}
	}
}

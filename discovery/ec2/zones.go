package ec2

import (
	"context"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
)

// The name of an availability zone means another place in another account; its
// id means the same in all. Callers and pods say their zone by the name that it has in the
// account of Causeway's own credentials, so the zones of other accounts get that one's names.

// zonesTimeout bounds the question for zones: an API that hangs must leave the sweep most of its time,
// because nothing but the preference for near endpoints depends on the answer.
const zonesTimeout = 10 * time.Second

// ownZones returns the names of a region's zones in Causeway's own account, by
// zone id. They do not change, so they are asked for until there is an answer. Accounts that ask at the same time
// do not wait for each other.
func (s *Source) ownZones(ctx context.Context, a *account) (map[string]string, error) {
	s.zonesMu.Lock()
	names, ok := s.zones[a.key.region]
	s.zonesMu.Unlock()
	if ok {
		return names, nil
	}
	ctx, cancel := context.WithTimeout(ctx, zonesTimeout)
	defer cancel()
	cfg, err := s.awsConfig(ctx, accountKey{region: a.key.region}, s.http, a.retryer)
	if err != nil {
		return nil, err
	}
	out, err := awsec2.NewFromConfig(cfg).DescribeAvailabilityZones(ctx, &awsec2.DescribeAvailabilityZonesInput{AllAvailabilityZones: aws.Bool(true)})
	if err != nil {
		return nil, fmt.Errorf("the zones of Causeway's own account: %w", err)
	}
	names = make(map[string]string, len(out.AvailabilityZones))
	for i := range out.AvailabilityZones {
		if z := &out.AvailabilityZones[i]; aws.ToString(z.ZoneId) != "" {
			names[aws.ToString(z.ZoneId)] = aws.ToString(z.ZoneName)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("the zones of Causeway's own account: the answer for region %s has no zone ids", a.key.region)
	}
	s.zonesMu.Lock()
	defer s.zonesMu.Unlock()
	if s.zones == nil {
		s.zones = make(map[string]map[string]string)
	}
	s.zones[a.key.region] = names
	return names, nil
}

// renameZones gives the instances of an answer the zone names of another
// account, by zone id. A zone that this account does not have goes by its id,
// which is nobody's name.
func (a *answer) renameZones(names map[string]string) {
	for _, i := range a.instances {
		if i.zoneID == "" {
			continue
		}
		i.zone = i.zoneID
		if name := names[i.zoneID]; name != "" {
			i.zone = name
		}
	}
}

package ec2

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	autoscalingtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	awsec2 "github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// answer is the whole answer of one account about one region. A partial answer
// is an error. It is not changed once it is read.
type answer struct {
	instances map[string]*instance         // by id
	groups    map[string]*autoScalingGroup // by name
	memberOf  map[string]string            // instance id to the auto scaling group that lists it
	owners    map[string]struct{}          // accounts that the answer says its parts belong to
}

// account returns the number of the account that the answer says it is of, ""
// if it does not say, or names several.
func (a *answer) account() string {
	if len(a.owners) != 1 {
		return ""
	}
	for id := range a.owners {
		return id
	}
	return ""
}

func (a *answer) ownedBy(account string) {
	if account == "" {
		return
	}
	if a.owners == nil {
		a.owners = make(map[string]struct{})
	}
	a.owners[account] = struct{}{}
}

// instance is what DescribeInstances says of one instance.
type instance struct {
	id         string
	state      ec2types.InstanceStateName
	zone       string
	zoneID     string
	ipv4, ipv6 string
	spot       bool
	launched   time.Time
	tags       map[string]string
}

// autoScalingGroup is what DescribeAutoScalingGroups says of one group.
type autoScalingGroup struct {
	minimum, desired, maximum int32
	zones                     int
	// unit of the sizes, "" where each instance counts for one.
	unit    string
	members map[string]member // by instance id
}

// member is an instance as its auto scaling group sees it.
type member struct {
	lifecycle autoscalingtypes.LifecycleState
	unhealthy bool
	// capacity that the instance counts for, in the units of desired.
	capacity int32
}

// groupTag is the tag that Auto Scaling puts on the instances of a group.
const groupTag = "aws:autoscaling:groupName"

// group returns the auto scaling group of an instance, "" if it is in none. The
// tag also stands for instances that Auto Scaling does not list yet, or any more.
func (a *answer) group(i *instance) string {
	if name, ok := a.memberOf[i.id]; ok {
		return name
	}
	return i.tags[groupTag]
}

// Pages are as large as the APIs allow. More pages than an account can fill
// mean that the API never ends.
const (
	instancesPerPage = 1000
	groupsPerPage    = 100
	maxPages         = 1000
)

var errEndless = errors.New("the answer has no end: the same page comes again")

// read asks for everything in the region. There is no filter by state, because
// an instance that is said to be gone is not the same as one that is not
// mentioned; and none by tag, because filters of several InstanceGroups would AND.
func (c *clients) read(ctx context.Context, pageSize int32) (*answer, error) {
	a := &answer{
		instances: make(map[string]*instance),
		groups:    make(map[string]*autoScalingGroup),
		memberOf:  make(map[string]string),
	}
	if err := a.readInstances(ctx, c.ec2, &awsec2.DescribeInstancesInput{MaxResults: aws.Int32(min(pageSize, instancesPerPage))}); err != nil {
		return nil, err
	}
	// Auto Scaling is asked last: its state of leaving instances is then the fresher
	// one.
	if err := a.readGroups(ctx, c.autoscaling, min(pageSize, groupsPerPage)); err != nil {
		return nil, err
	}
	return a, nil
}

func (a *answer) readInstances(ctx context.Context, client *awsec2.Client, in *awsec2.DescribeInstancesInput) error {
	for page := 1; ; page++ {
		out, err := client.DescribeInstances(ctx, in)
		if err != nil {
			return fmt.Errorf("page %d of the instances: %w", page, err)
		}
		// The SDK takes a body that ends before its first element for success.
		if out.Reservations == nil {
			return fmt.Errorf("page %d of the instances: the answer is cut off", page)
		}
		for _, r := range out.Reservations {
			a.ownedBy(aws.ToString(r.OwnerId))
			for n := range r.Instances {
				if err := a.addInstance(&r.Instances[n]); err != nil {
					return fmt.Errorf("page %d of the instances: %w", page, err)
				}
			}
		}
		next := aws.ToString(out.NextToken)
		if next == "" {
			return nil
		}
		if next == aws.ToString(in.NextToken) || page == maxPages {
			return fmt.Errorf("page %d of the instances: %w", page, errEndless)
		}
		in.NextToken = aws.String(next)
	}
}

func (a *answer) addInstance(in *ec2types.Instance) error {
	id := aws.ToString(in.InstanceId)
	if id == "" {
		return errors.New("an instance without an id")
	}
	if in.State == nil || in.State.Name == "" {
		return fmt.Errorf("instance %s has no state", id)
	}
	i := &instance{
		id: id, state: in.State.Name,
		ipv4: addressOf(in.PrivateIpAddress), ipv6: ipv6Of(in),
		spot:     in.InstanceLifecycle == ec2types.InstanceLifecycleTypeSpot,
		launched: aws.ToTime(in.LaunchTime),
		tags:     make(map[string]string, len(in.Tags)),
	}
	if in.Placement != nil {
		i.zone = aws.ToString(in.Placement.AvailabilityZone)
		i.zoneID = aws.ToString(in.Placement.AvailabilityZoneId)
	}
	for _, t := range in.Tags {
		i.tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	a.instances[id] = i
	return nil
}

// addressOf returns the address as it is usually written, "" if there is none.
func addressOf(s *string) string {
	addr, err := netip.ParseAddr(aws.ToString(s))
	if err != nil {
		return ""
	}
	return addr.Unmap().String()
}

// ipv6Of returns the primary IPv6 address, else the first one of the first
// network interface that has any.
func ipv6Of(in *ec2types.Instance) string {
	first := addressOf(in.Ipv6Address)
	for _, n := range in.NetworkInterfaces {
		for _, a := range n.Ipv6Addresses {
			if aws.ToBool(a.IsPrimaryIpv6) {
				return addressOf(a.Ipv6Address)
			}
			if first == "" {
				first = addressOf(a.Ipv6Address)
			}
		}
	}
	return first
}

func (a *answer) readGroups(ctx context.Context, client *autoscaling.Client, pageSize int32) error {
	in := &autoscaling.DescribeAutoScalingGroupsInput{MaxRecords: aws.Int32(pageSize)}
	for page := 1; ; page++ {
		out, err := client.DescribeAutoScalingGroups(ctx, in)
		if err != nil {
			return fmt.Errorf("page %d of the auto scaling groups: %w", page, err)
		}
		if out.AutoScalingGroups == nil {
			return fmt.Errorf("page %d of the auto scaling groups: the answer is cut off", page)
		}
		for n := range out.AutoScalingGroups {
			a.addGroup(&out.AutoScalingGroups[n])
		}
		next := aws.ToString(out.NextToken)
		if next == "" {
			return nil
		}
		if next == aws.ToString(in.NextToken) || page == maxPages {
			return fmt.Errorf("page %d of the auto scaling groups: %w", page, errEndless)
		}
		in.NextToken = aws.String(next)
	}
}

func (a *answer) addGroup(in *autoscalingtypes.AutoScalingGroup) {
	name := aws.ToString(in.AutoScalingGroupName)
	// arn:aws:autoscaling:REGION:ACCOUNT:autoScalingGroup:…
	if parts := strings.SplitN(aws.ToString(in.AutoScalingGroupARN), ":", 6); len(parts) == 6 {
		a.ownedBy(parts[4])
	}
	g := &autoScalingGroup{
		minimum: aws.ToInt32(in.MinSize), desired: aws.ToInt32(in.DesiredCapacity), maximum: aws.ToInt32(in.MaxSize),
		zones: len(in.AvailabilityZones), members: make(map[string]member, len(in.Instances)),
	}
	for n := range in.Instances {
		i := &in.Instances[n]
		if i.LifecycleState == autoscalingtypes.LifecycleStateDetached {
			continue
		}
		m := member{lifecycle: i.LifecycleState, unhealthy: aws.ToString(i.HealthStatus) == "Unhealthy", capacity: 1}
		if w := aws.ToString(i.WeightedCapacity); w != "" {
			if _, err := fmt.Sscanf(w, "%d", &m.capacity); err != nil || m.capacity < 1 {
				m.capacity = 1
			}
		}
		id := aws.ToString(i.InstanceId)
		g.members[id] = m
		a.memberOf[id] = name
	}
	g.unit = unitOf(in)
	a.groups[name] = g
}

// unitOf returns in what the sizes of an auto scaling group are counted, "" for instances.
func unitOf(in *autoscalingtypes.AutoScalingGroup) string {
	switch aws.ToString(in.DesiredCapacityType) {
	case "vcpu":
		return "vCPUs"
	case "memory-mib":
		return "MiB"
	}
	for n := range in.Instances {
		if aws.ToString(in.Instances[n].WeightedCapacity) != "" {
			return weightedUnit
		}
	}
	if p := in.MixedInstancesPolicy; p != nil && p.LaunchTemplate != nil {
		for n := range p.LaunchTemplate.Overrides {
			if aws.ToString(p.LaunchTemplate.Overrides[n].WeightedCapacity) != "" {
				return weightedUnit
			}
		}
	}
	return ""
}

// weightedUnit is what a group counts whose instances have weights.
const weightedUnit = "capacity units"

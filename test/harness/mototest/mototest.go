// Package mototest starts an EC2 API. It stands apart from the harness, so that
// only tests that need it compile the AWS SDK.
package mototest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"maps"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/autoscaling"
	asgtypes "github.com/aws/aws-sdk-go-v2/service/autoscaling/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/sqs"

	"github.com/causeway-mesh/causeway/test/harness"
)

// groupTag is the tag that says which auto scaling group an instance is of.
const groupTag = "aws:autoscaling:groupName"

// Options of [Start]; the zero value will do.
type Options struct {
	// Region is "ap-northeast-1" if empty.
	Region string
	// Zones are the letters of the region's zones, at most four; "ac" if empty.
	Zones string
	// CIDR is the VPC, at most a /16. If it is not set, instances have loopback
	// addresses, or, under [harness.Main], addresses that the Kubernetes API accepts too;
	// no two Motos of a test binary share any.
	CIDR string
}

// Moto is an EC2, Auto Scaling, SQS, STS and EventBridge API. Clients reach it
// through a [harness.Proxy], which makes the API's faults and those states of an instance
// that moto has no word for.
type Moto struct {
	t       harness.TB
	process *harness.Process
	proxy   *harness.Proxy
	address string // of moto itself
	region  string
	zones   []string
	subnets map[string]string // by zone
	vpc     string

	mu        sync.Mutex
	lifecycle map[string]string // by instance id: what Auto Scaling shall say
	hidden    map[string]bool   // instances that DescribeInstances leaves out
	spot      map[string]bool
}

// ASGOptions of [Moto.CreateASG].
type ASGOptions struct {
	Name string
	// Size is the number of instances; their zones take turns.
	Size int
	// Tags are the group's and its instances'.
	Tags map[string]string
	// Spot makes all instances Spot ones.
	Spot bool
	// Max is the group's maximum; 1,000 if zero.
	Max int
}

// LaunchOptions of [Moto.Launch].
type LaunchOptions struct {
	Count int
	// Group is the auto scaling group that the instances join, if any.
	Group string
	// Zone is one of the region's ("ap-northeast-1a"); they take turns if it is empty.
	Zone string
	// Addresses are the instances' private ones, of the zone's subnet; chosen if empty.
	Addresses []netip.Addr
	Tags      map[string]string
	Spot      bool
	Type      string
}

// Instance is an EC2 instance as the API shows it.
type Instance struct {
	ID, Address, Zone, State, Group string
	Spot                            bool
	Tags                            map[string]string
}

var motos atomic.Int32

// Start starts moto's server on a free loopback port with a VPC that has one
// subnet in each zone.
func Start(t harness.TB, o Options) *Moto {
	t.Helper()
	if o.Region == "" {
		o.Region = "ap-northeast-1"
	}
	if o.Zones == "" {
		o.Zones = "ac"
	}
	if o.CIDR == "" {
		block := byte(motos.Add(1)-1) % 16 << 4
		o.CIDR = fmt.Sprintf("127.77.%d.0/20", block)
		if harness.InNamespace() {
			o.CIDR = fmt.Sprintf("198.19.%d.0/20", block)
		}
	}
	address := harness.FreeAddress(t)
	host, port, _ := strings.Cut(address, ":")
	m := &Moto{
		t: t, address: "http://" + address, region: o.Region, subnets: map[string]string{},
		lifecycle: map[string]string{}, hidden: map[string]bool{}, spot: map[string]bool{},
	}
	m.process = harness.Start(t, harness.Command{
		Name: "moto", Path: harness.Tool(t, "moto_server"), Args: []string{"-H", host, "-p", port},
		Env: []string{"MOTO_EC2_LOAD_DEFAULT_AMIS=true", "PYTHONUNBUFFERED=1"},
	})
	m.proxy = harness.StartProxy(t, harness.ProxyOptions{Name: "moto-proxy", Kind: harness.ProxyHTTP, Target: address, Rewrite: m.rewrite})
	m.process.Await(t, 60*time.Second, "moto", func() error {
		_, err := harness.ReadBody(http.Get("http://" + address + "/moto-api/data.json")) //nolint:noctx,gosec // loopback
		return err
	})
	if err := m.makeNetwork(o); err != nil {
		t.Fatalf("moto: %v", err)
	}
	return m
}

func (m *Moto) makeNetwork(o Options) error {
	prefix, err := netip.ParsePrefix(o.CIDR)
	if err != nil {
		return err
	}
	ctx, cancel := m.context()
	defer cancel()
	vpc, err := m.ec2().CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String(o.CIDR)})
	if err != nil {
		return err
	}
	m.vpc = *vpc.Vpc.VpcId
	for i, letter := range o.Zones {
		zone := o.Region + string(letter)
		base := prefix.Masked().Addr().As4()
		offset := uint32(i) << (32 - prefix.Bits() - 2) //nolint:gosec // i < 4
		at := uint32(base[0])<<24 | uint32(base[1])<<16 | uint32(base[2])<<8 | uint32(base[3])
		at += offset
		block := netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(at >> 24), byte(at >> 16), byte(at >> 8), byte(at)}), prefix.Bits()+2)
		subnet, err := m.ec2().CreateSubnet(ctx, &ec2.CreateSubnetInput{
			VpcId: vpc.Vpc.VpcId, CidrBlock: aws.String(block.String()), AvailabilityZone: aws.String(zone),
		})
		if err != nil {
			return err
		}
		m.zones = append(m.zones, zone)
		m.subnets[zone] = *subnet.Subnet.SubnetId
	}
	return nil
}

// Endpoint is the API's URL.
func (m *Moto) Endpoint() string { return m.proxy.URL() }

// Proxy stands before the API and makes its faults.
func (m *Moto) Proxy() *harness.Proxy { return m.proxy }

// Process is moto's server.
func (m *Moto) Process() *harness.Process { return m.process }

// Region is the region that everything is made in.
func (m *Moto) Region() string { return m.region }

// Zones are the region's zones, by their full names.
func (m *Moto) Zones() []string { return slices.Clone(m.zones) }

// Subnet is the id of the subnet in a zone.
func (m *Moto) Subnet(zone string) string { return m.subnets[zone] }

// Env is the environment that leads a process's AWS SDK to this API.
func (m *Moto) Env() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + m.Endpoint(), "AWS_REGION=" + m.region,
		"AWS_ACCESS_KEY_ID=harness", "AWS_SECRET_ACCESS_KEY=harness", "AWS_SESSION_TOKEN=",
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=/dev/null", "AWS_SHARED_CREDENTIALS_FILE=/dev/null",
	}
}

// Config leads the AWS SDK to this API.
func (m *Moto) Config() aws.Config { return m.config(m.Endpoint()) }

func (m *Moto) config(endpoint string) aws.Config {
	return aws.Config{
		Region: m.region, BaseEndpoint: aws.String(endpoint),
		Credentials: credentials.NewStaticCredentialsProvider("harness", "harness", ""),
		HTTPClient:  &http.Client{Timeout: 60 * time.Second},
	}
}

// The harness' own calls go past the proxy, so that faults do not meet them.
func (m *Moto) direct() aws.Config          { return m.config(m.address) }
func (m *Moto) ec2() *ec2.Client            { return ec2.NewFromConfig(m.direct()) }
func (m *Moto) groups() *autoscaling.Client { return autoscaling.NewFromConfig(m.direct()) }
func (m *Moto) queues() *sqs.Client         { return sqs.NewFromConfig(m.direct()) }

func (m *Moto) context() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), 60*time.Second)
}

func (m *Moto) must(t harness.TB, what string, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("moto: %s: %v", what, err)
	}
}

// CreateASG makes an auto scaling group and launches its instances.
func (m *Moto) CreateASG(t harness.TB, o ASGOptions) []Instance {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.groups().CreateLaunchConfiguration(ctx, &autoscaling.CreateLaunchConfigurationInput{
		LaunchConfigurationName: aws.String(o.Name), ImageId: aws.String(motoImage), InstanceType: aws.String("t3.small"),
	})
	m.must(t, "launch configuration "+o.Name, err)
	var tags []asgtypes.Tag
	for _, key := range slices.Sorted(maps.Keys(o.Tags)) {
		tags = append(tags, asgtypes.Tag{
			Key: aws.String(key), Value: aws.String(o.Tags[key]), PropagateAtLaunch: aws.Bool(true),
			ResourceId: aws.String(o.Name), ResourceType: aws.String("auto-scaling-group"),
		})
	}
	if o.Max == 0 {
		o.Max = 1000
	}
	var subnets []string
	for _, zone := range m.zones {
		subnets = append(subnets, m.subnets[zone])
	}
	_, err = m.groups().CreateAutoScalingGroup(ctx, &autoscaling.CreateAutoScalingGroupInput{
		AutoScalingGroupName: aws.String(o.Name), LaunchConfigurationName: aws.String(o.Name),
		MinSize: aws.Int32(0), MaxSize: aws.Int32(int32(o.Max)), DesiredCapacity: aws.Int32(0), //nolint:gosec // a small number
		VPCZoneIdentifier: aws.String(strings.Join(subnets, ",")), Tags: tags,
	})
	m.must(t, "auto scaling group "+o.Name, err)
	m.mu.Lock()
	m.spot[o.Name] = o.Spot
	m.mu.Unlock()
	if o.Size == 0 {
		return nil
	}
	return m.Launch(t, LaunchOptions{Count: o.Size, Group: o.Name, Tags: o.Tags, Spot: o.Spot})
}

// ScaleASG brings a group to a size, launching or terminating (the oldest first)
// as needed, and returns its instances.
func (m *Moto) ScaleASG(t harness.TB, name string, size int) []Instance {
	t.Helper()
	now := m.GroupInstances(t, name)
	if extra := len(now) - size; extra > 0 {
		for _, i := range now[:extra] {
			m.Terminate(t, i.ID)
		}
	}
	if missing := size - len(now); missing > 0 {
		ctx, cancel := m.context()
		defer cancel()
		out, err := m.groups().DescribeTags(ctx, &autoscaling.DescribeTagsInput{Filters: []asgtypes.Filter{
			{Name: aws.String("auto-scaling-group"), Values: []string{name}},
		}})
		m.must(t, "tags of "+name, err)
		tags := map[string]string{}
		for _, tag := range out.Tags {
			tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
		}
		m.mu.Lock()
		spot := m.spot[name]
		m.mu.Unlock()
		m.Launch(t, LaunchOptions{Count: missing, Group: name, Tags: tags, Spot: spot})
	}
	return m.GroupInstances(t, name)
}

// motoImage is one of the images that moto has from the start.
const motoImage = "ami-12c6146b"

// Launch runs instances and returns them.
func (m *Moto) Launch(t harness.TB, o LaunchOptions) []Instance {
	t.Helper()
	if o.Count == 0 {
		o.Count = max(1, len(o.Addresses))
	}
	if o.Type == "" {
		o.Type = string(ec2types.InstanceTypeT3Small)
	}
	ctx, cancel := m.context()
	defer cancel()
	taken := 0 // zones take turns, also over several calls
	if o.Zone == "" && o.Group != "" {
		taken = len(m.GroupInstances(t, o.Group))
	}
	byZone := map[string][]string{}
	for i := range o.Count {
		zone := o.Zone
		if zone == "" {
			zone = m.zones[(taken+i)%len(m.zones)]
		}
		address := ""
		if i < len(o.Addresses) {
			address = o.Addresses[i].String()
		}
		byZone[zone] = append(byZone[zone], address)
	}
	tags := []ec2types.Tag{{Key: aws.String("Name"), Value: aws.String(o.Group)}}
	for _, key := range slices.Sorted(maps.Keys(o.Tags)) {
		tags = append(tags, ec2types.Tag{Key: aws.String(key), Value: aws.String(o.Tags[key])})
	}
	var ids []string
	run := func(zone, address string, count int) {
		in := &ec2.RunInstancesInput{
			ImageId: aws.String(motoImage), InstanceType: ec2types.InstanceType(o.Type),
			MinCount: aws.Int32(int32(count)), MaxCount: aws.Int32(int32(count)), //nolint:gosec // a small number
			SubnetId:          aws.String(m.subnets[zone]),
			Placement:         &ec2types.Placement{AvailabilityZone: aws.String(zone)},
			TagSpecifications: []ec2types.TagSpecification{{ResourceType: ec2types.ResourceTypeInstance, Tags: tags}},
		}
		if address != "" {
			in.PrivateIpAddress = aws.String(address)
		}
		if o.Spot {
			in.InstanceMarketOptions = &ec2types.InstanceMarketOptionsRequest{MarketType: ec2types.MarketTypeSpot}
		}
		out, err := m.ec2().RunInstances(ctx, in)
		m.must(t, "running instances in "+zone, err)
		for _, i := range out.Instances {
			ids = append(ids, *i.InstanceId)
		}
	}
	for _, zone := range slices.Sorted(maps.Keys(byZone)) {
		if byZone[zone][0] == "" {
			run(zone, "", len(byZone[zone]))
			continue
		}
		for _, address := range byZone[zone] {
			run(zone, address, 1)
		}
	}
	if o.Group != "" {
		_, err := m.groups().AttachInstances(ctx, &autoscaling.AttachInstancesInput{
			AutoScalingGroupName: aws.String(o.Group), InstanceIds: ids,
		})
		m.must(t, "attaching instances to "+o.Group, err)
	}
	return m.Instances(t, ids...)
}

// Instances returns instances by id, or all that there are, in the order of
// their ids' launch.
func (m *Moto) Instances(t harness.TB, ids ...string) []Instance {
	t.Helper()
	return m.describe(t, &ec2.DescribeInstancesInput{InstanceIds: ids})
}

// GroupInstances returns the instances of an auto scaling group.
func (m *Moto) GroupInstances(t harness.TB, group string) []Instance {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	out, err := m.groups().DescribeAutoScalingGroups(ctx, &autoscaling.DescribeAutoScalingGroupsInput{
		AutoScalingGroupNames: []string{group},
	})
	m.must(t, "auto scaling group "+group, err)
	if len(out.AutoScalingGroups) != 1 {
		t.Fatalf("moto: there are %d auto scaling groups %s", len(out.AutoScalingGroups), group)
	}
	var ids []string
	for _, i := range out.AutoScalingGroups[0].Instances {
		ids = append(ids, *i.InstanceId)
	}
	if len(ids) == 0 {
		return nil
	}
	return m.Instances(t, ids...)
}

func (m *Moto) describe(t harness.TB, in *ec2.DescribeInstancesInput) []Instance {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	var instances []Instance
	launched := map[string]time.Time{}
	pages := ec2.NewDescribeInstancesPaginator(m.ec2(), in)
	for pages.HasMorePages() {
		page, err := pages.NextPage(ctx)
		m.must(t, "describing instances", err)
		for _, reservation := range page.Reservations {
			for _, i := range reservation.Instances {
				tags := map[string]string{}
				for _, tag := range i.Tags {
					tags[aws.ToString(tag.Key)] = aws.ToString(tag.Value)
				}
				launched[*i.InstanceId] = aws.ToTime(i.LaunchTime)
				instances = append(instances, Instance{
					ID: *i.InstanceId, Address: aws.ToString(i.PrivateIpAddress),
					Zone: aws.ToString(i.Placement.AvailabilityZone), State: string(i.State.Name),
					Group: tags[groupTag], Spot: i.InstanceLifecycle == ec2types.InstanceLifecycleTypeSpot, Tags: tags,
				})
			}
		}
	}
	slices.SortStableFunc(instances, func(a, b Instance) int { return launched[a.ID].Compare(launched[b.ID]) })
	return instances
}

// Terminate terminates instances as Auto Scaling does that scales in: they leave
// their group, whose desired capacity falls, and keep their tags.
func (m *Moto) Terminate(t harness.TB, ids ...string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	for _, i := range m.Instances(t, ids...) {
		if i.Group == "" || i.State == string(ec2types.InstanceStateNameTerminated) {
			continue
		}
		_, err := m.groups().DetachInstances(ctx, &autoscaling.DetachInstancesInput{
			AutoScalingGroupName: aws.String(i.Group), InstanceIds: []string{i.ID}, ShouldDecrementDesiredCapacity: aws.Bool(true),
		})
		m.must(t, "detaching "+i.ID, err)
		m.Tag(t, i.ID, groupTag, i.Group)
	}
	_, err := m.ec2().TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: ids})
	m.must(t, "terminating", err)
}

// StopInstances stops instances, which stay in their group.
func (m *Moto) StopInstances(t harness.TB, ids ...string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.ec2().StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: ids})
	m.must(t, "stopping", err)
}

// StartInstances starts instances that were stopped.
func (m *Moto) StartInstances(t harness.TB, ids ...string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.ec2().StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: ids})
	m.must(t, "starting", err)
}

// Tag sets a tag of an instance.
func (m *Moto) Tag(t harness.TB, id, key, value string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.ec2().CreateTags(ctx, &ec2.CreateTagsInput{
		Resources: []string{id}, Tags: []ec2types.Tag{{Key: aws.String(key), Value: aws.String(value)}},
	})
	m.must(t, "tagging "+id, err)
}

// Untag removes a tag of an instance.
func (m *Moto) Untag(t harness.TB, id, key string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.ec2().DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: []string{id}, Tags: []ec2types.Tag{{Key: aws.String(key)}}})
	m.must(t, "untagging "+id, err)
}

// SetInstanceHealth is Auto Scaling's health of an instance, "Healthy" or "Unhealthy".
func (m *Moto) SetInstanceHealth(t harness.TB, id, health string) {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.groups().SetInstanceHealth(ctx, &autoscaling.SetInstanceHealthInput{InstanceId: aws.String(id), HealthStatus: aws.String(health)})
	m.must(t, "health of "+id, err)
}

// SetLifecycle makes Auto Scaling's answers show a lifecycle state for an
// instance ("Pending:Wait", "Terminating:Wait", "Terminating:Proceed", ...), ""
// for the one that moto itself gives.
func (m *Moto) SetLifecycle(id, state string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lifecycle[id] = state
}

// Hide leaves instances out of DescribeInstances' answers, as an API does that
// answers wrongly; Unhide ends it.
func (m *Moto) Hide(ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.hidden[id] = true
	}
}

// Unhide lets DescribeInstances show all instances again.
func (m *Moto) Unhide() {
	m.mu.Lock()
	defer m.mu.Unlock()
	clear(m.hidden)
}

// rewrite puts into answers what SetLifecycle and Hide ask for.
func (m *Moto) rewrite(r *http.Request, body, answer []byte) []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch harness.CallName(r, body) {
	case "DescribeAutoScalingGroups", "DescribeAutoScalingInstances":
		for id, state := range m.lifecycle {
			if state != "" {
				answer = replaceLifecycle(answer, id, state)
			}
		}
	case "DescribeInstances":
		for id := range m.hidden {
			answer = removeInstance(answer, id)
		}
	}
	return answer
}

// replaceLifecycle changes the state in the <member> that names the instance.
func replaceLifecycle(answer []byte, id, state string) []byte {
	at := bytes.Index(answer, []byte("<InstanceId>"+id+"</InstanceId>"))
	if at < 0 {
		return answer
	}
	start := max(0, bytes.LastIndex(answer[:at], []byte("<member>")))
	end := bytes.Index(answer[at:], []byte("</member>"))
	if end < 0 {
		return answer
	}
	member := lifecycleState.ReplaceAll(answer[start:at+end], []byte("<LifecycleState>"+state+"</LifecycleState>"))
	return slices.Concat(answer[:start], member, answer[at+end:])
}

var lifecycleState = regexp.MustCompile(`<LifecycleState>[^<]*</LifecycleState>`)

// removeInstance removes the <item> that is the instance, with the ones inside it.
func removeInstance(answer []byte, id string) []byte {
	at := bytes.Index(answer, []byte("<instanceId>"+id+"</instanceId>"))
	if at < 0 {
		return answer
	}
	start := at
	for depth := 1; depth > 0; { // back to the item that is not closed before the id
		start = bytes.LastIndex(answer[:start], []byte("item>"))
		switch {
		case start < 1:
			return answer
		case answer[start-1] == '/':
			depth++
			start--
		default:
			depth--
		}
		start--
	}
	for depth, end := 0, start; ; {
		next := bytes.Index(answer[end:], []byte("item>"))
		if next < 0 {
			return answer
		}
		if answer[end+next-1] == '/' {
			depth--
		} else {
			depth++
		}
		end += next + len("item>")
		if depth == 0 {
			return slices.Concat(answer[:start], answer[end:])
		}
	}
}

// CreateQueue makes an SQS queue and returns its URL, which leads through the proxy.
func (m *Moto) CreateQueue(t harness.TB, name string) string {
	t.Helper()
	ctx, cancel := m.context()
	defer cancel()
	out, err := m.queues().CreateQueue(ctx, &sqs.CreateQueueInput{QueueName: aws.String(name)})
	m.must(t, "queue "+name, err)
	url := *out.QueueUrl
	if i := strings.Index(url, "://"); i >= 0 {
		if slash := strings.IndexByte(url[i+3:], '/'); slash >= 0 {
			url = m.Endpoint() + url[i+3+slash:]
		}
	}
	return url
}

// SendSQS puts a message into a queue: a string as it is, anything else as JSON.
func (m *Moto) SendSQS(t harness.TB, queueURL string, message any) {
	t.Helper()
	text, ok := message.(string)
	if !ok {
		data, err := json.Marshal(message)
		m.must(t, "message", err)
		text = string(data)
	}
	ctx, cancel := m.context()
	defer cancel()
	_, err := m.queues().SendMessage(ctx, &sqs.SendMessageInput{QueueUrl: aws.String(queueURL), MessageBody: aws.String(text)})
	m.must(t, "sending to "+queueURL, err)
}

// EventBridge returns an event as EventBridge delivers it.
func (m *Moto) EventBridge(source, detailType string, resources []string, detail map[string]any) map[string]any {
	return map[string]any{
		"version": "0", "id": fmt.Sprintf("00000000-0000-0000-0000-%012d", eventIDs.Add(1)),
		"detail-type": detailType, "source": source, "account": "123456789012",
		"time": time.Now().UTC().Format(time.RFC3339), "region": m.region, "resources": resources, "detail": detail,
	}
}

var eventIDs atomic.Int64

func (m *Moto) instanceARN(id string) []string {
	return []string{"arn:aws:ec2:" + m.region + ":123456789012:instance/" + id}
}

// StateChange is EC2's event that an instance's state has changed.
func (m *Moto) StateChange(id, state string) map[string]any {
	return m.EventBridge("aws.ec2", "EC2 Instance State-change Notification", m.instanceARN(id),
		map[string]any{"instance-id": id, "state": state})
}

// SpotInterruption is EC2's two minutes' notice to a Spot instance.
func (m *Moto) SpotInterruption(id string) map[string]any {
	return m.EventBridge("aws.ec2", "EC2 Spot Instance Interruption Warning", m.instanceARN(id),
		map[string]any{"instance-id": id, "instance-action": "terminate"})
}

// Rebalance is EC2's recommendation to replace a Spot instance.
func (m *Moto) Rebalance(id string) map[string]any {
	return m.EventBridge("aws.ec2", "EC2 Instance Rebalance Recommendation", m.instanceARN(id),
		map[string]any{"instance-id": id})
}

// TerminateLifecycle is Auto Scaling's event that an instance is about to be
// terminated and waits for a lifecycle hook.
func (m *Moto) TerminateLifecycle(group, id string) map[string]any {
	return m.EventBridge("aws.autoscaling", "EC2 Instance-terminate Lifecycle Action",
		[]string{"arn:aws:autoscaling:" + m.region + ":123456789012:autoScalingGroup:00000000-0000-0000-0000-000000000000:autoScalingGroupName/" + group},
		map[string]any{
			"LifecycleActionToken": "87654321-4321-4321-4321-210987654321", "AutoScalingGroupName": group,
			"LifecycleHookName": "drain", "EC2InstanceId": id,
			"LifecycleTransition": "autoscaling:EC2_INSTANCE_TERMINATING",
			"Origin":              "AutoScalingGroup", "Destination": "EC2",
		})
}

// EC2Error is an error as the EC2 API answers it, for [Proxy.Fail].
func EC2Error(status int, code, message string) harness.Answer {
	return harness.Answer{
		Status: status, Header: http.Header{"Content-Type": {"text/xml;charset=UTF-8"}},
		Body: `<?xml version="1.0" encoding="UTF-8"?>` + "\n<Response><Errors><Error><Code>" + code + "</Code><Message>" +
			html.EscapeString(message) + "</Message></Error></Errors><RequestID>00000000-0000-0000-0000-000000000000</RequestID></Response>",
	}
}

// QueryError is an error as Auto Scaling and STS answer it, for [Proxy.Fail].
func QueryError(status int, code, message string) harness.Answer {
	return harness.Answer{
		Status: status, Header: http.Header{"Content-Type": {"text/xml"}},
		Body: "<ErrorResponse><Error><Type>Sender</Type><Code>" + code + "</Code><Message>" + html.EscapeString(message) +
			"</Message></Error><RequestId>00000000-0000-0000-0000-000000000000</RequestId></ErrorResponse>",
	}
}

// Action matches requests for AWS actions by name, for [Proxy.Fail].
func Action(names ...string) func(r *http.Request, body []byte) bool {
	return func(r *http.Request, body []byte) bool { return slices.Contains(names, harness.CallName(r, body)) }
}

// Package ec2 tells an agent what EC2 says of its host: who it is, and that it will go; and tells Auto Scaling that it may.
package ec2

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/causeway-mesh/causeway/discovery/durable"
)

// DefaultEndpoint is where every instance finds its metadata.
const DefaultEndpoint = "http://169.254.169.254"

const (
	// answers is how long the metadata service may take for one answer: it is on the same machine.
	answers = 2 * time.Second
	// maxAnswer bounds an answer.
	maxAnswer = 1 << 20
)

// Metadata asks the instance metadata service, by version 2 alone: a token of a PUT, renewed by the SDK, goes with each question.
type Metadata struct {
	client   *imds.Client
	endpoint string
}

// NewMetadata returns a client of the service at an endpoint, "" for the default one.
func NewMetadata(endpoint string) *Metadata {
	if endpoint == "" {
		endpoint = DefaultEndpoint
	}
	// It is never asked by way of a proxy, which would be asked for its own metadata.
	client := &http.Client{Timeout: answers, Transport: &http.Transport{IdleConnTimeout: time.Minute}}
	return &Metadata{endpoint: endpoint, client: imds.New(imds.Options{
		Endpoint: endpoint, HTTPClient: client, Retryer: aws.NopRetryer{}, EnableFallback: aws.FalseTernary, ClientEnableState: imds.ClientEnabled,
	})}
}

// get returns what stands at a path below meta-data, false for nothing.
func (m *Metadata) get(ctx context.Context, path string) (string, bool, error) {
	out, err := m.client.GetMetadata(ctx, &imds.GetMetadataInput{Path: path})
	if answer, ok := errors.AsType[*smithyhttp.ResponseError](err); ok && answer.HTTPStatusCode() == http.StatusNotFound {
		return "", false, nil
	}
	if err != nil {
		return "", false, m.explain(err)
	}
	defer out.Content.Close()
	text, err := io.ReadAll(io.LimitReader(out.Content, maxAnswer))
	if err != nil {
		return "", false, m.explain(err)
	}
	return strings.TrimSpace(string(text)), true, nil
}

// explain says what is usually wrong.
func (m *Metadata) explain(err error) error {
	cause := err
	for next := errors.Unwrap(cause); next != nil; next = errors.Unwrap(cause) {
		cause = next
	}
	if strings.Contains(err.Error(), "StatusCode: 403") { // the SDK's error for a token has no type
		return fmt.Errorf("the instance metadata service at %s is turned off: aws ec2 modify-instance-metadata-options --http-endpoint enabled", m.endpoint)
	}
	if strings.Contains(err.Error(), "Client.Timeout") || errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("the instance metadata service at %s does not answer within %s; in a container it needs --http-put-response-hop-limit 2", m.endpoint, answers)
	}
	return fmt.Errorf("the instance metadata service at %s: %w", m.endpoint, cause)
}

// Identity says which instance it is.
type Identity struct {
	Instance string `json:"instance"`
	Region   string `json:"region"`
	Zone     string `json:"zone"`
	ZoneID   string `json:"zoneID,omitempty"`
	Account  string `json:"account,omitempty"`
	Address  string `json:"address,omitempty"`
	// Group is its auto scaling group, "" where its tags are not in its metadata.
	Group string `json:"group,omitempty"`
}

// Identity asks who the instance is.
func (m *Metadata) Identity(ctx context.Context) (*Identity, error) {
	document, err := m.client.GetInstanceIdentityDocument(ctx, nil)
	if err != nil {
		return nil, m.explain(err)
	}
	id := &Identity{
		Instance: document.InstanceID, Region: document.Region, Zone: document.AvailabilityZone, Account: document.AccountID, Address: document.PrivateIP,
	}
	if id.Instance == "" {
		return nil, fmt.Errorf("the instance metadata service at %s names no instance", m.endpoint)
	}
	if id.ZoneID, _, err = m.get(ctx, "placement/availability-zone-id"); err != nil {
		return nil, err
	}
	if id.Group, _, err = m.get(ctx, "tags/instance/aws:autoscaling:groupName"); err != nil {
		return nil, err
	}
	return id, nil
}

// boardID has the instance's id on Nitro instances, from the machine itself.
const boardID = "/sys/devices/virtual/dmi/id/board_asset_tag"

// Recall returns the identity that an earlier start has kept in a file, unless that was another instance: a file may have come with an image.
func Recall(file string) (*Identity, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the agent's own
	if err != nil {
		return nil, fmt.Errorf("no earlier start knew it: %w", err)
	}
	id := &Identity{}
	if err := json.Unmarshal(text, id); err != nil || id.Instance == "" {
		return nil, fmt.Errorf("%s is damaged", file)
	}
	board, _ := os.ReadFile(boardID)
	if own := strings.TrimSpace(string(board)); strings.HasPrefix(own, "i-") && own != id.Instance {
		return nil, fmt.Errorf("%s is of %s, and this is %s", file, id.Instance, own)
	}
	return id, nil
}

// Keep writes an identity to a file, for a start without the metadata service.
func (id *Identity) Keep(file string) error {
	text, err := json.Marshal(id)
	if err == nil {
		err = durable.Replace(file, text, nil)
	}
	if err != nil {
		return fmt.Errorf("keep the instance's identity: %w", err)
	}
	return nil
}

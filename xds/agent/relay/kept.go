package relay

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/causeway-mesh/causeway/discovery/durable"
	"github.com/causeway-mesh/causeway/xds/resource"
)

// saveEvery is how often the memory is written, at most. A mesh of a thousand
// Services is some four megabytes.
const saveEvery = 10 * time.Second

// kept is what an Envoy has acknowledged: its last known good configuration.
// Certificates are not among it, since their keys would be on the disk.
type kept struct {
	changed chan struct{} // has an element if there is something to be saved

	mu sync.Mutex
	// owner is the node that it is the configuration of, "" for nobody's yet.
	owner string
	saved time.Time
	dirty bool
	types map[string]map[string]*discoveryv3.Resource // by type URL and name
}

func newKept() *kept {
	return &kept{changed: make(chan struct{}, 1), types: make(map[string]map[string]*discoveryv3.Resource)}
}

// belongTo says whose configuration it is from now on, and reports whether another's was dropped: that of
// another node, or of another version of Envoy, is of no use. The file stays as it is until there is a whole one
// of this node: a flag that was wrong for a moment must not cost it.
func (k *kept) belongTo(node *corev3.Node) (dropped bool) {
	owner := ownerOf(node)
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.owner == owner {
		return false
	}
	dropped = k.whole()
	k.owner, k.saved = owner, time.Time{}
	clear(k.types)
	return dropped
}

// ownerOf names a node with all that decides what it is sent.
func ownerOf(node *corev3.Node) string {
	// Envoy lists its extensions in another order each time (absl::flat_hash_map).
	node = proto.CloneOf(node)
	slices.SortFunc(node.GetExtensions(), func(a, b *corev3.Extension) int {
		return cmp.Or(cmp.Compare(a.GetCategory(), b.GetCategory()), cmp.Compare(a.GetName(), b.GetName()))
	})
	text, err := proto.MarshalOptions{Deterministic: true}.Marshal(node)
	if err != nil {
		return ""
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:])
}

// usable reports whether an Envoy could start with it.
func (k *kept) usable() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.whole()
}

// whole is usable; mu must be held.
func (k *kept) whole() bool {
	return len(k.types[resource.Cluster.URL()]) > 0 && len(k.types[resource.Listener.URL()]) > 0
}

// savedAt returns when what is kept was last written.
func (k *kept) savedAt() time.Time {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.saved
}

// touch notes that there is something to be saved; mu must be held.
func (k *kept) touch() {
	k.dirty = true
	select {
	case k.changed <- struct{}{}:
	default:
	}
}

// apply takes over a response that Envoy has acknowledged, anew in place of what was kept of the type.
func (k *kept) apply(response *discoveryv3.DeltaDiscoveryResponse, anew bool) {
	url := response.GetTypeUrl()
	if url == resource.Secret.URL() || len(response.GetResources())+len(response.GetRemovedResources()) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known := k.types[url]
	if known == nil || anew {
		known = make(map[string]*discoveryv3.Resource)
		k.types[url] = known
	}
	for _, r := range response.GetResources() {
		known[r.GetName()] = r
	}
	for _, name := range response.GetRemovedResources() {
		delete(known, name)
	}
	k.touch()
}

// forget drops what Envoy does not follow any more.
func (k *kept) forget(url string, names []string) {
	if len(names) == 0 {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, name := range names {
		delete(k.types[url], name)
	}
	k.touch()
}

// notKept is a version that no control plane has.
const notKept = "not kept"

// lacks replaces in a request the versions that Envoy has and that are not kept, and
// reports whether there were any: the control plane then sends them again, or says that they are gone.
func (k *kept) lacks(request *discoveryv3.DeltaDiscoveryRequest) bool {
	versions := request.GetInitialResourceVersions()
	if len(versions) == 0 || request.GetTypeUrl() == resource.Secret.URL() {
		return false
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	known, lacks := k.types[request.GetTypeUrl()], false
	for name, version := range versions {
		if r := known[name]; r == nil || r.GetVersion() != version {
			versions[name], lacks = notKept, true
		}
	}
	before := len(known)
	// What is kept and Envoy does not have is not its configuration.
	maps.DeleteFunc(known, func(name string, _ *discoveryv3.Resource) bool { _, has := versions[name]; return !has })
	if len(known) != before {
		k.touch()
	}
	return lacks
}

// magic begins a file; its last character is the format's version.
const magic = "causeway-relay-1"

// save writes what is kept, if anything has changed since. The first of a node is written once it is whole.
func (k *kept) save(file string, now time.Time) error {
	k.mu.Lock()
	if !k.dirty || k.saved.IsZero() && !k.whole() {
		k.mu.Unlock()
		return nil
	}
	text, err := k.marshal(now)
	k.dirty = false
	k.mu.Unlock()
	if err == nil {
		if err = durable.Replace(file, text, nil); err != nil {
			err = fmt.Errorf("relay: %w", err)
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if err != nil {
		k.touch()
		return err
	}
	k.saved = now
	return nil
}

// marshal returns the file: the magic, a checksum of what follows, the owner, the time, and for each
// type a response with all resources. mu must be held.
func (k *kept) marshal(now time.Time) ([]byte, error) {
	var body bytes.Buffer
	fmt.Fprintf(&body, "%s\n%s\n", k.owner, now.UTC().Format(time.RFC3339))
	for _, url := range slices.Sorted(maps.Keys(k.types)) {
		response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: url}
		for _, name := range slices.Sorted(maps.Keys(k.types[url])) {
			response.Resources = append(response.Resources, k.types[url][name])
		}
		if _, err := protodelim.MarshalTo(&body, response); err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
	}
	return durable.Seal(magic, body.Bytes()), nil
}

// load reads what was kept. It always returns something that can be used: with
// an error, or where there is no file, it is empty.
func load(file string) (*kept, error) {
	text, err := os.ReadFile(file) //nolint:gosec // the operator's own
	if errors.Is(err, os.ErrNotExist) {
		return newKept(), nil
	}
	if err != nil {
		return newKept(), fmt.Errorf("relay: %w", err)
	}
	k, err := unmarshal(text)
	if err != nil {
		return newKept(), err
	}
	return k, nil
}

func unmarshal(text []byte) (*kept, error) {
	k := newKept()
	body, err := durable.Unseal(magic, text)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	in := bufio.NewReader(bytes.NewReader(body))
	owner, err := in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	saved, err := in.ReadString('\n')
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	k.owner = strings.TrimSuffix(owner, "\n")
	if k.saved, err = time.Parse(time.RFC3339, strings.TrimSuffix(saved, "\n")); err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	for {
		response := &discoveryv3.DeltaDiscoveryResponse{}
		err := protodelim.UnmarshalOptions{MaxSize: -1}.UnmarshalFrom(in, response)
		if errors.Is(err, io.EOF) {
			return k, nil
		}
		if err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
		known := make(map[string]*discoveryv3.Resource, len(response.GetResources()))
		for _, r := range response.GetResources() {
			known[r.GetName()] = r
		}
		k.types[response.GetTypeUrl()] = known
	}
}

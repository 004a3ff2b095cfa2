package shift

import (
	"fmt"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// Open is what is known of requests that do not end by themselves: websockets, server-sent events, gRPC
// streams, TCP connections. A step moves new ones only.
type Open struct {
	// Source is the backing that traffic moves away from, Requests how many are under way there,
	// and Share its part of the traffic, in millionths.
	Source   discovery.BackingName
	Requests uint64
	Share    uint32
	// Age after which a TrafficPolicy ends them, 0 for never.
	Age time.Duration
	// TCP is true if no port is HTTP.
	TCP bool
}

// field is the setting that bounds their age, unit what they are.
func (o *Open) field() string {
	if o.TCP {
		return "timeout.connectionAge"
	}
	return "timeout.streamAge"
}

func (o *Open) unit() string {
	if o.TCP {
		return "connection"
	}
	return "request"
}

func (o *Open) examples() string {
	if o.TCP {
		return ""
	}
	return " (websockets, streams)"
}

// Preflight says before traffic moves what becomes of them.
func (o *Open) Preflight(service string) []string {
	if o.Requests == 0 || o.Age > 0 {
		return nil
	}
	return []string{fmt.Sprintf("%ss that are open%s stay on the %s until they end, whatever the steps say: status.analysis.%s.open counts them; "+
		"a TrafficPolicy of Service %s ends them after a time with %s", o.unit(), o.examples(), o.Source, o.Source, service, o.field())}
}

// Advice tells what would still break with the source, once new requests no longer go to it.
func (o *Open) Advice() []string {
	if o.Requests == 0 || o.Share > 0 {
		return nil
	}
	text := fmt.Sprintf("%s still open on the %s%s: they break when those go", beText(int(o.Requests), o.unit()), o.Source, o.examples()) //nolint:gosec // far below 2^63
	if o.Age > 0 {
		return []string{text + fmt.Sprintf("; %s ends them within %s: wait for it", o.field(), phrase.Roughly(o.Age))}
	}
	return []string{text + fmt.Sprintf("; wait, or end them after a time with %s in a TrafficPolicy", o.field())}
}

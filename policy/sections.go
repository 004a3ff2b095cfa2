package policy

import (
	"fmt"
	"math"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Layer is where a section acts.
type Layer uint8

const (
	// RequestLayer is the route of a request.
	RequestLayer Layer = 1 << iota
	// ClusterLayer is the target's clusters.
	ClusterLayer
)

// SectionDef is a section of a TrafficPolicy, or the part of one that acts on
// one layer. The parts are in force independently: a rule's time limit does not
// take away the connect timeout that is stated for its Service.
type SectionDef struct {
	// Name is the field's path below spec, and the key in Settings.From.
	Name string
	// In is the section of the API that it belongs to: an invalid one has no effect at all.
	In    string
	Layer Layer
	// HTTP is true for what means nothing on a port that is not HTTP.
	HTTP bool
	Has  func(*settings) bool
	Take func(to, from *settings)
}

type settings = v1alpha1.TrafficSettings

// SectionDefs in the order of the API. Each is defined with what it means, in the file of its name.
var SectionDefs = []SectionDef{
	connectTimeoutSection, streamAgeSection, timeoutSection,
	retryBudgetSection, retrySection,
	connectionPoolSection, outlierDetectionSection, healthCheckSection,
	loadBalancerSection, hashSection, localitySection,
	sessionPersistenceSection, faultSection, proxyProtocolSection, tlsSection,
}

// edit returns what p points to, made if there is nothing yet.
func edit[T any](p **T) *T {
	if *p == nil {
		*p = new(T)
	}
	return *p
}

// longest is the longest time that may be stated: Envoy's clock and protobuf
// take more, but nobody means it.
const longest = 366 * 24 * time.Hour

// Mistake is why a section has no effect.
type Mistake struct {
	// In is the section's name.
	In string
	v1alpha1.FieldError
}

// Mistakes returns the mistakes in sections of a policy, in the order of the
// API. It repeats the rules of the CRD's schema, for objects that no API server
// has seen, and adds those of Envoy and those that a schema cannot express.
func Mistakes(s *v1alpha1.TrafficSettings) []Mistake {
	c := Checker{}
	for _, section := range []struct {
		name  string
		check func(*Checker, *settings)
	}{
		{"timeout", checkTimeout},
		{"retry", checkRetry},
		{"connectionPool", checkConnectionPool},
		{"outlierDetection", checkOutlierDetection},
		{"healthCheck", checkHealthCheck},
		{"loadBalancer", checkLoadBalancer},
		{"locality", checkLocality},
		{"fault", checkFault},
		{"proxyProtocol", checkProxyProtocol},
		{"tls", checkUpstreamTLS},
	} {
		c.In = section.name
		section.check(&c, s)
	}
	return c.Found
}

// Checker gathers mistakes of the section that it is in.
type Checker struct {
	In    string
	Found []Mistake
}

func (c *Checker) bad(field, message, remedy string) {
	c.Found = append(c.Found, Mistake{c.In, v1alpha1.FieldError{Field: "spec." + field, Message: message, Remedy: remedy}})
}

func (c *Checker) duration(field string, d *metav1.Duration, least, most time.Duration, zero bool) {
	if d == nil || (zero && d.Duration == 0) || (d.Duration >= least && d.Duration <= most) {
		return
	}
	remedy := fmt.Sprintf("write %s to %s", phrase.Duration(least), phrase.Duration(most))
	if zero {
		remedy += ", or 0s for none"
	}
	c.bad(field, phrase.Duration(d.Duration)+" is out of bounds", remedy)
}

func (c *Checker) number(field string, n *int32, least, most int32) {
	if n == nil || (*n >= least && *n <= most) {
		return
	}
	remedy := fmt.Sprintf("write %d to %d", least, most)
	if most == math.MaxInt32 {
		remedy = fmt.Sprintf("write at least %d", least)
	}
	c.bad(field, fmt.Sprintf("%d is out of bounds", *n), remedy)
}

func (c *Checker) oneOf(field, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, 0, len(allowed))
	for _, a := range allowed {
		if a != "" {
			words = append(words, a)
		}
	}
	c.bad(field, fmt.Sprintf("%q is not known", value), "write "+phrase.Or(words))
}

package bootstrap

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/causeway-mesh/causeway/xds/resource"
)

// Patterns of the parts of a bootstrap. The server is less strict: a proxy that
// has had another id before goes on.
var (
	labelPattern  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	domainPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	// wordPattern is a name that others have given: of an auto scaling group, a host, a pod.
	wordPattern = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.:@+]*[A-Za-z0-9])?$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?(\.[A-Za-z0-9_]([-A-Za-z0-9_]*[A-Za-z0-9_])?)*\.?$`)
)

// checkWord checks a part of the proxy's identity. A variable that nobody has
// filled in stays as it was written, "$(POD_NAME)", which is no word either.
func checkWord(s string, pattern *regexp.Regexp, remedy string) error {
	if err := checkPart(s); err != nil {
		return fmt.Errorf("%w: %s", err, remedy)
	}
	if strings.ContainsAny(s, "${}") {
		return fmt.Errorf("%q is a variable that nobody has filled in: %s", s, remedy)
	}
	if !pattern.MatchString(s) {
		return fmt.Errorf("%q is not a name: %s", s, remedy)
	}
	return nil
}

// checkNames checks the flags that say who the proxy is.
func (o *Options) checkNames() []error {
	const (
		label = "write lower case letters, digits and hyphens, at most 63, for example web"
		word  = "write letters, digits and the signs - _ . : @ + between them, without spaces, for example "
	)
	workload, workloadRemedy := wordPattern, word+"php-web"
	if o.Role == resource.Gateway {
		workload, workloadRemedy = domainPattern, "write the name of the Gateway: lower case letters, digits, hyphens and dots, for example edge"
	}
	var errs []error
	for _, p := range []struct {
		flag, value string
		optional    bool
		pattern     *regexp.Regexp
		remedy      string
	}{
		{"--namespace", o.Namespace, false, labelPattern, label},
		{"--workload", o.Workload, false, workload, workloadRemedy},
		{"--id", o.Instance, false, wordPattern, word + "i-0a1b2c3d4e5f60718"},
		{"--service", o.Service, true, labelPattern, label},
		{"--region", o.Region, true, wordPattern, word + "ap-northeast-1"},
		{"--zone", o.Zone, true, wordPattern, word + "ap-northeast-1a"},
	} {
		if p.optional && p.value == "" {
			continue
		}
		if err := checkWord(p.value, p.pattern, p.remedy); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.flag, err))
		}
	}
	return errs
}

// isHost reports whether Envoy can connect to something of that name.
func isHost(s string) bool {
	_, err := netip.ParseAddr(s)
	return err == nil || len(s) <= maxPart && hostPattern.MatchString(s)
}

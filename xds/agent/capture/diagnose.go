package capture

import (
	"errors"
	"fmt"
	"os"
)

// refused is an error of the kernel about a ruleset.
type refused struct {
	what, lacks, remedy string
	err                 error
}

func (e *refused) Error() string {
	return fmt.Sprintf("the kernel refuses %s: it lacks %s (%v): %s. Nothing is changed", e.what, e.lacks, e.err, e.remedy)
}

func (e *refused) Unwrap() error { return e.err }

// diagnose finds what the kernel lacks for a ruleset that it has refused with an error, which says little: EINVAL,
// ENOENT and EOPNOTSUPP stand for nearly everything. Parts are tried one by one, from the table inwards.
func diagnose(r Ruleset, err error, try func(Ruleset) error) error {
	if errors.Is(err, os.ErrPermission) || errors.Is(err, os.ErrDeadlineExceeded) {
		return explained(err)
	}
	if e := try(Ruleset{Family: r.Family}); e != nil {
		return &refused{"a table of the family " + r.Family, "nf_tables", "it needs CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET, and perhaps 'modprobe nf_tables'", e}
	}
	for _, s := range r.Sets {
		if e := try(Ruleset{Family: r.Family, Sets: []Set{s}}); e != nil {
			return &refused{"the set " + s.Name, s.feature(), "it needs Linux 5.2 or newer; distributions put it into their package of kernel modules (linux-modules-extra, kernel-modules)", e}
		}
	}
	for _, c := range r.Chains {
		empty := c
		empty.Rules = nil
		if e := try(Ruleset{Family: r.Family, Chains: []Chain{empty}}); e != nil {
			return &refused{"the chain " + c.Name, c.feature(r.Family), c.remedy(), e}
		}
		for _, rule := range c.Rules {
			if e := r.diagnoseRule(empty, rule, try); e != nil {
				return e
			}
		}
	}
	return fmt.Errorf("the kernel refuses the rules together, though it takes each alone: %w: try again, and look into dmesg. Nothing is changed", err)
}

// diagnoseRule tries the parts of a rule, each in a rule of its own.
func (r Ruleset) diagnoseRule(in Chain, rule Rule, try func(Ruleset) error) error {
	alone := func(part Rule) error {
		chain := in
		chain.Rules = []Rule{part}
		only := Ruleset{Family: r.Family, Chains: []Chain{chain}}
		for _, m := range part.Matches {
			for _, s := range r.Sets {
				if s.Name == m.Set {
					only.Sets = append(only.Sets, s)
				}
			}
		}
		if part.Do.Jump != "" {
			only.Chains = append(only.Chains, Chain{Name: part.Do.Jump})
		}
		return try(only)
	}
	what := fmt.Sprintf("the rule %q (%s) of the chain %s", rule, rule.Comment, in.Name)
	for _, m := range rule.Matches {
		if e := alone(Rule{Matches: []Match{m}}); e != nil {
			lacks, remedy := m.Key.feature()
			return &refused{what, lacks, remedy, e}
		}
	}
	act := Rule{Do: rule.Do}
	if rule.Do.Redirect > 0 {
		act.Matches = []Match{tcp()} // a port to redirect to wants a protocol with ports
	}
	if e := alone(act); e != nil {
		lacks, remedy := rule.Do.feature()
		return &refused{what, lacks, remedy, e}
	}
	if e := alone(rule); e != nil {
		return &refused{what, "what it takes together", "report it, with 'uname -r'", e}
	}
	return nil
}

// Each feature, and its remedy. Versions are those from which the inet family has it.

func (s *Set) feature() string {
	switch {
	case s.Timeout:
		return "sets whose elements have a timeout"
	case s.Interval:
		return "sets of ranges (nft_set_rbtree)"
	}
	return "named sets"
}

func (c *Chain) feature(family string) string {
	if c.Type == "nat" {
		return "nat chains of the family " + family + " (nft_chain_nat)"
	}
	return "the hook " + c.Hook
}

func (c *Chain) remedy() string {
	if c.Type == "nat" {
		return "it needs Linux 5.2 or newer with CONFIG_NFT_NAT, and perhaps 'modprobe nft_chain_nat'; without it use the explicit listener (http_proxy)"
	}
	return "it needs CONFIG_NF_TABLES_INET"
}

func (k Key) feature() (lacks, remedy string) {
	switch k {
	case SocketUser, SocketGroup:
		return "the match of a socket's owner (" + string(k) + ")", "it needs CONFIG_NF_TABLES with nft_meta; without it Envoy's own connections cannot be told from others"
	case DestinationType:
		return "route look-ups (nft_fib_inet)", "it needs CONFIG_NFT_FIB_INET, and perhaps 'modprobe nft_fib_inet'"
	case Source6, Destination6:
		return "IPv6 matches", "it needs CONFIG_NF_TABLES_IPV6, or a kernel started with ipv6.disable=1"
	}
	return "the match " + string(k), "it needs Linux 5.2 or newer with CONFIG_NF_TABLES"
}

func (a Action) feature() (lacks, remedy string) {
	switch {
	case a.Redirect > 0:
		return "redirects (nft_redir)", "it needs Linux 5.2 or newer with CONFIG_NFT_REDIR, and perhaps 'modprobe nft_redir'"
	case a.Zone > 0:
		return "conntrack zones (nft_ct)", "it needs CONFIG_NFT_CT and CONFIG_NF_CONNTRACK_ZONES, and perhaps 'modprobe nft_ct'; or leave out --dns redirect"
	}
	return "chains that rules jump to", "it needs CONFIG_NF_TABLES"
}

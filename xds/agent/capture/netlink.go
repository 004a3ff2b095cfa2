package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// load is how a key gets into a register, and what must be true of a packet that has it.
type load struct {
	family    byte // NFPROTO_*, 0 for both
	transport byte // IPPROTO_*, 0 for all
	expr      expr.Any
}

// loads returns how the kernel is told what to compare (nft --debug=netlink shows what nft makes).
func loads(k Key) load {
	meta := func(key expr.MetaKey) load { return load{expr: &expr.Meta{Key: key, Register: 1}} }
	payload := func(family, transport byte, base expr.PayloadBase, offset, length uint32) load {
		return load{family, transport, &expr.Payload{DestRegister: 1, Base: base, Offset: offset, Len: length}}
	}
	switch k {
	case Transport:
		return meta(expr.MetaKeyL4PROTO)
	case InInterface:
		return meta(expr.MetaKeyIIFNAME)
	case OutInterface:
		return meta(expr.MetaKeyOIFNAME)
	case SocketUser:
		return meta(expr.MetaKeySKUID)
	case SocketGroup:
		return meta(expr.MetaKeySKGID)
	case Priority:
		return meta(expr.MetaKeyPRIORITY)
	case Source4:
		return payload(unix.NFPROTO_IPV4, 0, expr.PayloadBaseNetworkHeader, 12, 4)
	case Destination4:
		return payload(unix.NFPROTO_IPV4, 0, expr.PayloadBaseNetworkHeader, 16, 4)
	case Source6:
		return payload(unix.NFPROTO_IPV6, 0, expr.PayloadBaseNetworkHeader, 8, 16)
	case Destination6:
		return payload(unix.NFPROTO_IPV6, 0, expr.PayloadBaseNetworkHeader, 24, 16)
	case TCPPort:
		return payload(0, unix.IPPROTO_TCP, expr.PayloadBaseTransportHeader, 2, 2)
	case UDPPort:
		return payload(0, unix.IPPROTO_UDP, expr.PayloadBaseTransportHeader, 2, 2)
	case UDPSourcePort:
		return payload(0, unix.IPPROTO_UDP, expr.PayloadBaseTransportHeader, 0, 2)
	case DestinationType:
		return load{expr: &expr.Fib{Register: 1, ResultADDRTYPE: true, FlagDADDR: true}}
	}
	panic("capture: no such key: " + string(k))
}

// setTypes are nft's, by name.
var setTypes = map[string]nftables.SetDatatype{
	"inet_proto": nftables.TypeInetProto, "uid": nftables.TypeUID, "gid": nftables.TypeGID, "ifname": nftables.TypeIFName,
	"inet_service": nftables.TypeInetService, "ipv4_addr": nftables.TypeIPAddr, "ipv6_addr": nftables.TypeIP6Addr,
}

// chunk is how many elements go into one message: an attribute has at most 64 KiB.
const chunk = 500

// send adds the messages that make a ruleset to those that conn is to send.
func send(conn *nftables.Conn, table *nftables.Table, r Ruleset) error {
	conn.AddTable(table)
	ids := make(map[string]uint32)
	for i := range r.Sets {
		s := &r.Sets[i]
		set := &nftables.Set{
			Table: table, Name: s.Name, ID: uint32(i + 1), KeyType: setTypes[s.Type], //nolint:gosec // a handful
			Interval: s.Interval, HasTimeout: s.Timeout, KeyByteOrder: binaryutil.BigEndian,
		}
		switch s.Type { // nft asks for it, to print elements
		case "uid", "gid", "ifname":
			set.KeyByteOrder = binaryutil.NativeEndian
		}
		ids[s.Name] = set.ID
		if err := conn.AddSet(set, nil); err != nil {
			return fmt.Errorf("set %s: %w", s.Name, err)
		}
		elements := s.elements()
		for len(elements) > 0 {
			n := min(chunk, len(elements))
			if err := conn.SetAddElements(set, elements[:n]); err != nil {
				return fmt.Errorf("set %s: %w", s.Name, err)
			}
			elements = elements[n:]
		}
	}
	chains := make([]*nftables.Chain, len(r.Chains))
	for i, c := range r.Chains {
		chains[i] = chainOf(table, c)
		conn.AddChain(chains[i])
	}
	for i, c := range r.Chains {
		for _, rule := range c.Rules {
			conn.AddRule(&nftables.Rule{
				Table: table, Chain: chains[i], Exprs: rule.exprs(table.Family, ids),
				UserData: userdata.AppendString(nil, userdata.TypeComment, rule.Comment),
			})
		}
	}
	return nil
}

func chainOf(table *nftables.Table, c Chain) *nftables.Chain {
	out := &nftables.Chain{Name: c.Name, Table: table}
	if c.Hook == "" {
		return out
	}
	policy := nftables.ChainPolicyAccept
	out.Type, out.Policy, out.Priority = nftables.ChainType(c.Type), &policy, new(nftables.ChainPriority(c.Priority)) //nolint:gosec // a small constant
	out.Hooknum = nftables.ChainHookOutput
	if c.Hook == "prerouting" {
		out.Hooknum = nftables.ChainHookPrerouting
	}
	return out
}

// elements of a set of ranges are their first values, and those just beyond their ends. A range that goes up to the
// greatest value has no end.
func (s *Set) elements() []nftables.SetElement {
	var out []nftables.SetElement
	for _, e := range s.Elements {
		out = append(out, nftables.SetElement{Key: e.First, Timeout: s.Lifetime})
		if s.Interval {
			if next, ok := after(e.Last); ok {
				out = append(out, nftables.SetElement{Key: next, IntervalEnd: true})
			}
		}
	}
	return out
}

// after returns the number that follows one of as many bytes, unless that is the greatest.
func after(n []byte) ([]byte, bool) {
	out := append([]byte(nil), n...)
	for i := len(out) - 1; i >= 0; i-- {
		if out[i]++; out[i] != 0 {
			return out, true
		}
	}
	return nil, false
}

// exprs are a rule as the kernel carries it out.
func (r Rule) exprs(table nftables.TableFamily, sets map[string]uint32) []expr.Any {
	var out []expr.Any
	var family, transport byte
	for _, m := range r.Matches {
		l := loads(m.Key)
		if l.family != 0 && l.family != family && table == nftables.TableFamilyINet {
			out = append(out, &expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{l.family}})
			family = l.family
		}
		if l.transport != 0 && l.transport != transport {
			out = append(out, &expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{l.transport}})
			transport = l.transport
		}
		out = append(out, l.expr)
		if m.Set != "" {
			out = append(out, &expr.Lookup{SourceRegister: 1, SetName: m.Set, SetID: sets[m.Set], Invert: m.Not})
			continue
		}
		op := expr.CmpOpEq
		if m.Not {
			op = expr.CmpOpNeq
		}
		out = append(out, &expr.Cmp{Op: op, Register: 1, Data: m.Value.First})
	}
	return append(out, r.Do.exprs()...)
}

func (a Action) exprs() []expr.Any {
	switch {
	case a.Redirect > 0:
		return []expr.Any{
			&expr.Counter{},
			&expr.Immediate{Register: 1, Data: binary.BigEndian.AppendUint16(nil, a.Redirect)},
			&expr.Redir{RegisterProtoMin: 1, Flags: natRangeProtoSpecified},
		}
	case a.Jump != "":
		return []expr.Any{&expr.Verdict{Kind: expr.VerdictJump, Chain: a.Jump}}
	case a.Zone > 0:
		return []expr.Any{
			&expr.Immediate{Register: 1, Data: binary.NativeEndian.AppendUint16(nil, a.Zone)},
			&expr.Ct{Key: expr.CtKeyZONE, Register: 1, SourceRegister: true},
		}
	}
	return []expr.Any{&expr.Verdict{Kind: expr.VerdictReturn}}
}

// natRangeProtoSpecified is NF_NAT_RANGE_PROTO_SPECIFIED, as nft sends it.
const natRangeProtoSpecified = 1 << 1

package dns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

const (
	// ttl is how long answers may be kept, in seconds, that there is nothing too.
	ttl = 5
	// minSize is the largest answer that everybody takes over UDP (RFC 1035), maxSize the
	// largest that is sent: it fits a packet on all paths (DNS flag day 2020).
	minSize, maxSize = 512, 1232
	// badVersion is the extended response code BADVERS (RFC 6891).
	badVersion = dnsmessage.RCode(16)
	// maxChain bounds how many records of an upstream's answer are passed on for an external name.
	maxChain = 64
)

// Errors of questions.
var (
	// errForeign is a question that is passed on as it came.
	errForeign = errors.New("dns: it is not about the mesh's names")
	// errDrop is no question, and is not answered.
	errDrop = errors.New("dns: it is no question")
)

// query is a question that has been read.
type query struct {
	header   dnsmessage.Header
	question dnsmessage.Question
	// edns is true if who asks takes EDNS0, version is the version that it asks with, and size is how large an answer over UDP may be.
	edns    bool
	version uint8
	size    int
}

// read reads a question. Its error is errDrop or errForeign for what is not ours to read, or the error of a
// malformed one, of which only the header may have been read.
func read(packet []byte) (query, error) {
	var q query
	var p dnsmessage.Parser
	var err error
	if q.header, err = p.Start(packet); err != nil || q.header.Response {
		return q, errDrop
	}
	q.size = minSize
	if q.header.OpCode != 0 {
		return q, errForeign
	}
	questions, err := p.AllQuestions()
	if err != nil {
		return q, fmt.Errorf("dns: %w", err)
	}
	if len(questions) != 1 || questions[0].Class != dnsmessage.ClassINET && questions[0].Class != dnsmessage.ClassANY {
		return q, errForeign
	}
	q.question = questions[0]
	if err := errors.Join(p.SkipAllAnswers(), p.SkipAllAuthorities()); err != nil {
		return q, fmt.Errorf("dns: %w", err)
	}
	for {
		h, err := p.AdditionalHeader()
		if errors.Is(err, dnsmessage.ErrSectionDone) {
			return q, nil
		}
		if err != nil {
			return q, fmt.Errorf("dns: %w", err)
		}
		if h.Type == dnsmessage.TypeOPT {
			q.edns, q.version = true, uint8(h.TTL>>16) //nolint:gosec // a byte of it (RFC 6891, 6.1.3)
			q.size = min(max(int(h.Class), minSize), maxSize)
		}
		if err := p.SkipAdditional(); err != nil {
			return q, fmt.Errorf("dns: %w", err)
		}
	}
}

// reply is what a question is answered with.
type reply struct {
	code    dnsmessage.RCode
	answers []dnsmessage.Resource
	extra   []dnsmessage.Resource
	// zone is whose SOA says how long the absence of answers may be kept, "" for none.
	zone string
	// external is a name whose addresses are to be asked for, "" for none.
	external string
}

// lower returns a name in lower case: names are compared so, and said as they were asked (0x20).
func lower(n dnsmessage.Name) string { return strings.ToLower(n.String()) }

// answer answers a question about the mesh's names, and reports whether it is one. A nil table is one that is
// not known yet, and then nothing is said to be absent.
func (t *Table) answer(q *dnsmessage.Question, namespace string) (reply, bool) {
	name := lower(q.Name)
	if t == nil {
		if name == Zone || strings.HasSuffix(name, "."+Zone) {
			return reply{code: dnsmessage.RCodeServerFailure}, true
		}
		return reply{}, false
	}
	m := t.find(name, namespace)
	if m.zone == "" || m.zone != Zone && !aboutAddresses(q.Type) {
		return reply{}, false // of a short name the mesh has addresses and nothing else
	}
	out := reply{zone: m.zone}
	switch {
	case m.service == nil && !m.exists:
		out.code = dnsmessage.RCodeNameError
	case m.service == nil:
		if name == Zone && q.Type == dnsmessage.TypeSOA {
			out.answers = []dnsmessage.Resource{soa(q.Name)}
		}
	case m.protocol == "" && m.service.ExternalName != "":
		target, err := dnsmessage.NewName(strings.TrimSuffix(m.service.ExternalName, ".") + ".")
		if err != nil {
			return reply{code: dnsmessage.RCodeServerFailure}, true
		}
		out.answers = []dnsmessage.Resource{{Header: header(q.Name), Body: &dnsmessage.CNAMEResource{CNAME: target}}}
		if q.Type != dnsmessage.TypeCNAME {
			out.external = target.String()
		}
	case m.protocol == "":
		out.answers = addresses(m.service, q.Name, q.Type)
		if q.Type == dnsmessage.TypeSRV {
			out.answers, out.extra = services(m.service, q.Name, "")
		}
	case q.Type == dnsmessage.TypeSRV || q.Type == dnsmessage.TypeALL:
		out.answers, out.extra = services(m.service, q.Name, m.port)
	}
	return out, true
}

// maxAliases is how many names of the mesh may lead to one another.
const maxAliases = 8

// resolve is answer, and follows external names for as long as they are the mesh's own.
func (t *Table) resolve(q *dnsmessage.Question, namespace string) (reply, bool) {
	out, ours := t.answer(q, namespace)
	for hops := 0; strings.HasSuffix(strings.ToLower(out.external), "."+Zone); hops++ {
		name, err := dnsmessage.NewName(out.external)
		if err != nil || hops == maxAliases {
			return reply{code: dnsmessage.RCodeServerFailure}, true
		}
		next, _ := t.answer(&dnsmessage.Question{Name: name, Type: q.Type, Class: q.Class}, namespace)
		out.code, out.external = next.code, next.external
		out.answers, out.extra = append(out.answers, next.answers...), next.extra
	}
	return out, ours
}

func aboutAddresses(t dnsmessage.Type) bool {
	return t == dnsmessage.TypeA || t == dnsmessage.TypeAAAA || t == dnsmessage.TypeSRV
}

func header(name dnsmessage.Name) dnsmessage.ResourceHeader {
	return dnsmessage.ResourceHeader{Name: name, Class: dnsmessage.ClassINET, TTL: ttl}
}

// addresses returns a Service's addresses that a type of question asks for.
func addresses(s *Service, name dnsmessage.Name, asked dnsmessage.Type) []dnsmessage.Resource {
	var out []dnsmessage.Resource
	if asked == dnsmessage.TypeA || asked == dnsmessage.TypeALL {
		for _, a := range s.of(true) {
			out = append(out, address(name, a))
		}
	}
	if asked == dnsmessage.TypeAAAA || asked == dnsmessage.TypeALL {
		for _, a := range s.of(false) {
			out = append(out, address(name, a))
		}
	}
	return out
}

func address(name dnsmessage.Name, a netip.Addr) dnsmessage.Resource {
	if a.Is4() {
		return dnsmessage.Resource{Header: header(name), Body: &dnsmessage.AResource{A: a.As4()}}
	}
	return dnsmessage.Resource{Header: header(name), Body: &dnsmessage.AAAAResource{AAAA: a.As16()}}
}

// services returns the SRV records of a port, of all ports for "", and the addresses of their target.
func services(s *Service, name dnsmessage.Name, port string) (answers, extra []dnsmessage.Resource) {
	target, err := dnsmessage.NewName(s.Name + "." + s.Namespace + "." + Zone)
	if err != nil {
		return nil, nil
	}
	for _, p := range s.Ports {
		if port == "" || p.Name == port {
			answers = append(answers, dnsmessage.Resource{Header: header(name), Body: &dnsmessage.SRVResource{Weight: 100, Port: p.Number, Target: target}})
		}
	}
	if len(answers) > 0 {
		extra = addresses(s, target, dnsmessage.TypeALL)
	}
	return answers, extra
}

// soa is the record that lets resolvers keep an absence for as long as an answer (RFC 2308).
func soa(owner dnsmessage.Name) dnsmessage.Resource {
	return dnsmessage.Resource{Header: header(owner), Body: &dnsmessage.SOAResource{
		NS: dnsmessage.MustNewName("ns.dns." + Zone), MBox: dnsmessage.MustNewName("hostmaster." + Zone),
		Serial: 1, Refresh: 7200, Retry: 1800, Expire: 86400, MinTTL: ttl,
	}}
}

// pack writes a reply. Over UDP one that is too long is cut to nothing and says so: who asks comes again over TCP.
func (q *query) pack(r *reply, udp bool) ([]byte, error) {
	out, err := q.write(r, false)
	if err == nil && udp && len(out) > q.size {
		// What is only added may go first.
		short := *r
		short.extra = nil
		if out, err = q.write(&short, false); err == nil && len(out) > q.size {
			out, err = q.write(&reply{code: r.code}, true)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("dns: %w", err)
	}
	return out, nil
}

func (q *query) write(r *reply, truncated bool) ([]byte, error) {
	m := dnsmessage.Message{
		Header: dnsmessage.Header{
			ID: q.header.ID, Response: true, OpCode: q.header.OpCode, Authoritative: r.zone != "", Truncated: truncated, RecursionDesired: q.header.RecursionDesired,
			RecursionAvailable: true, CheckingDisabled: q.header.CheckingDisabled, RCode: r.code & 0xf,
		},
		Answers: r.answers, Additionals: r.extra,
	}
	if q.question.Name.Length > 0 {
		m.Questions = []dnsmessage.Question{q.question}
	}
	if len(r.answers) == 0 && r.zone != "" && !truncated {
		owner := dnsmessage.MustNewName(Zone)
		if r.zone != Zone {
			owner = q.question.Name
		}
		m.Authorities = []dnsmessage.Resource{soa(owner)}
	}
	if q.edns {
		opt := dnsmessage.ResourceHeader{}
		if err := opt.SetEDNS0(maxSize, r.code, false); err != nil {
			return nil, err //nolint:wrapcheck // the caller does
		}
		opt.Name = dnsmessage.MustNewName(".")
		m.Additionals = append(slices.Clip(m.Additionals), dnsmessage.Resource{Header: opt, Body: &dnsmessage.OPTResource{}})
	}
	return m.Pack() //nolint:wrapcheck // the caller does
}

// failure answers with a code alone.
func (q *query) failure(code dnsmessage.RCode) []byte {
	out, err := q.write(&reply{code: code}, false)
	if err != nil {
		return nil
	}
	return out
}

// chain returns the records of an upstream's answer that lead on from a name, and the answer's code.
func chain(packet []byte) ([]dnsmessage.Resource, dnsmessage.RCode, error) {
	var p dnsmessage.Parser
	h, err := p.Start(packet)
	if err == nil {
		err = p.SkipAllQuestions()
	}
	var out []dnsmessage.Resource
	for err == nil && len(out) < maxChain {
		var r dnsmessage.Resource
		if r, err = p.Answer(); err != nil {
			break
		}
		switch r.Header.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME, dnsmessage.TypeSRV, dnsmessage.TypeMX, dnsmessage.TypeTXT:
			out = append(out, r)
		}
	}
	if err != nil && !errors.Is(err, dnsmessage.ErrSectionDone) {
		return nil, 0, fmt.Errorf("dns: %w", err)
	}
	return out, h.RCode, nil
}

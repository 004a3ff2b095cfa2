package outcome

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
)

// Code is the status of an answer of the application: an HTTP status, or that of
// a gRPC answer, which has an HTTP status of 200 whatever it says.
type Code uint16

// NoAnswer is the Code of a request that the application did not answer: its
// failure has another Cause than ServerError.
const NoAnswer Code = 0

// grpcCodes is the first Code of gRPC.
const grpcCodes Code = 1000

// grpcNames are the names of gRPC's statuses, in their order (gRPC: status codes).
var grpcNames = [...]string{
	"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
	"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS",
	"UNAUTHENTICATED",
}

// HTTPCode returns the Code of an HTTP status, NoAnswer of what is none.
func HTTPCode(status uint32) Code {
	if status < 100 || status > 599 {
		return NoAnswer
	}
	return Code(status) //nolint:gosec // at most 599
}

// GRPCCode returns the Code of a gRPC status; one that gRPC does not know is
// UNKNOWN, as callers take it.
func GRPCCode(status int) Code {
	if status < 0 || status >= len(grpcNames) {
		status = 2
	}
	return grpcCodes + Code(status) //nolint:gosec // at most 16
}

// ParseCode returns the Code of an HTTP status or of a gRPC status by its name.
func ParseCode(text string) (Code, bool) {
	if i := slices.Index(grpcNames[:], text); i >= 0 {
		return GRPCCode(i), true
	}
	var n uint32
	if len(text) != 3 {
		return 0, false
	}
	for _, digit := range text {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = 10*n + uint32(digit-'0')
	}
	c := HTTPCode(n)
	return c, c != NoAnswer
}

// known returns a code as it may be counted: what another one says it has seen is not trusted.
func (c Code) known() Code {
	if c >= grpcCodes {
		return GRPCCode(int(c - grpcCodes))
	}
	return HTTPCode(uint32(c))
}

// restOf is the Code by which the codes of a class beyond the bound are counted.
func restOf(c Code) Code { return c/100*100 + 99 }

// GRPC reports whether it is a gRPC status.
func (c Code) GRPC() bool { return c >= grpcCodes }

// Failure reports whether it says that the server failed, not its caller.
func (c Code) Failure() bool {
	if !c.GRPC() {
		return c >= 500
	}
	switch grpcNames[c.known()-grpcCodes] {
	case "UNKNOWN", "DEADLINE_EXCEEDED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS":
		return true
	}
	return false
}

// Good reports whether it says that all is well: a status of 200 to 299, 304,
// which says the same as a 200 to who has it already, or OK.
func (c Code) Good() bool { return c/100 == 2 || c == 304 || c == grpcCodes }

// String returns the code as access logs and specs name it: "404", "NOT_FOUND".
func (c Code) String() string {
	switch {
	case c == NoAnswer:
		return "no answer"
	case c.GRPC():
		return grpcNames[c.known()-grpcCodes]
	case c == restOf(c):
		return fmt.Sprintf("other %dxx", c/100)
	}
	return strconv.Itoa(int(c))
}

// CodeCount is how many answers had a code.
type CodeCount struct {
	Code Code
	N    uint64
}

// Codes counts answers by their codes. It is sorted by code, has no count of 0, and
// at most maxCodes of them: further ones are counted together, by class.
type Codes []CodeCount

// maxCodes is more than any application has. Beyond it there are at most six more, one for each class.
const maxCodes = 24

func compareCode(a CodeCount, c Code) int { return cmp.Compare(a.Code, c) }

// Add counts a code n times.
func (c *Codes) Add(code Code, n uint64) {
	if n == 0 {
		return
	}
	code = code.known()
	i, found := slices.BinarySearchFunc(*c, code, compareCode)
	if !found && len(*c) >= maxCodes && code != restOf(code) && !code.GRPC() {
		code = restOf(code)
		i, found = slices.BinarySearchFunc(*c, code, compareCode)
	}
	if found {
		(*c)[i].N = plus((*c)[i].N, n)
		return
	}
	*c = slices.Insert(*c, i, CodeCount{code, n})
}

// Merge adds all that another one has counted.
func (c *Codes) Merge(other Codes) {
	for _, o := range other {
		c.Add(o.Code, o.N)
	}
}

// Of returns the count of a code.
func (c Codes) Of(code Code) uint64 {
	if i, found := slices.BinarySearchFunc(c, code, compareCode); found {
		return c[i].N
	}
	return 0
}

// Total returns how many answers were counted.
func (c Codes) Total() uint64 {
	n := uint64(0)
	for _, o := range c {
		n = plus(n, o.N)
	}
	return n
}

// Commonest returns the counts, the greatest first.
func (c Codes) Commonest() []CodeCount {
	out := slices.Clone(c)
	slices.SortStableFunc(out, func(a, b CodeCount) int { return cmp.Compare(b.N, a.N) })
	return out
}

// Since returns what was counted since before.
func (c Codes) Since(before Codes) Codes {
	var out Codes
	for _, o := range c {
		out.Add(o.Code, since(o.N, before.Of(o.Code)))
	}
	return out
}

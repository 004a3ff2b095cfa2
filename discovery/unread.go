package discovery

import "slices"

// Unread is an object that is there and cannot be read.
type Unread struct {
	Key
	// Targets are what it is about: the Service of an InstanceGroup or a TrafficShift, the targets of a
	// policy, the parents of a route. nil where that cannot be read either: then it may be about anything of its namespace.
	Targets []ObjectName
	// Hosts of a route; nil where it gives none, or they cannot be read: then it may be about any.
	Hosts []string
	// NoTLS is true for a policy that says nothing of TLS, whatever else cannot be read of it.
	NoTLS bool
	// Why it cannot be read.
	Why string
}

// About reports whether the object is, or may be, about another one.
func (u *Unread) About(target ObjectName) bool {
	if u.Targets == nil {
		return u.Namespace == target.Namespace
	}
	return slices.Contains(u.Targets, target)
}

// String says which object it is and why it cannot be read.
func (u *Unread) String() string { return u.Key.String() + ": " + u.Why }

func (u *Unread) same(other *Unread) bool {
	return u.Key == other.Key && u.NoTLS == other.NoTLS && u.Why == other.Why && (u.Targets == nil) == (other.Targets == nil) &&
		slices.Equal(u.Targets, other.Targets) && slices.Equal(u.Hosts, other.Hosts)
}

// MaxUnread is how many objects SourceStatus.Unread has at most.
const MaxUnread = 100

// UnreadObject says why an object of which there is no row may be there
// nevertheless, "" if it is not.
func (s *SourceStatus) UnreadObject(key Key) string {
	for i := range s.Unread {
		if s.Unread[i].Key == key {
			return s.Unread[i].Why
		}
	}
	return s.UnreadAll
}

// UnreadAbout returns the objects without a row that may be about another one. Of those that
// it does not name, UnreadAll says whether there are any.
func (s *SourceStatus) UnreadAbout(target ObjectName) []*Unread {
	var out []*Unread
	for i := range s.Unread {
		if s.Unread[i].About(target) {
			out = append(out, &s.Unread[i])
		}
	}
	return out
}

// SameUnread reports whether two statuses, which may be nil, lack the same objects.
func SameUnread(a, b *SourceStatus) bool {
	if a == nil {
		a = new(SourceStatus)
	}
	if b == nil {
		b = new(SourceStatus)
	}
	return a.UnreadAll == b.UnreadAll && slices.EqualFunc(a.Unread, b.Unread, func(x, y Unread) bool { return x.same(&y) })
}

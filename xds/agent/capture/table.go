package capture

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Table is the table of rules in the kernel, of one network namespace. Who uses it needs CAP_NET_ADMIN.
type Table struct {
	options []nftables.ConnOption
	// connections counts the captured connections that are open.
	connections func() (int, error)
}

// NewTable returns the table of the network namespace of the calling thread.
func NewTable() *Table {
	return &Table{connections: captured, options: []nftables.ConnOption{nftables.WithSockOptions(impatient)}}
}

// impatient bounds how long the kernel may take to answer.
func impatient(c *netlink.Conn) error {
	return c.SetDeadline(time.Now().Add(10 * time.Second)) //nolint:wrapcheck // for the caller's message
}

// HasIPv6 reports whether the kernel has IPv6. It is without it if it was built or started so (ipv6.disable=1);
// an interface or a namespace on which IPv6 is off is another matter, and needs no other rules.
func HasIPv6() bool {
	_, err := os.Stat("/proc/thread-self/net/if_inet6")
	return err == nil
}

// Capture puts the rules in the place of those that are there, if any, at one moment: no packet meets half
// of them. If the kernel refuses them nothing is changed, and the error says which rule it was, what the kernel
// lacks and what to do.
func (t *Table) Capture(r Ruleset) error {
	err := t.commit(r, false)
	if err == nil {
		return nil
	}
	return diagnose(r, err, func(r Ruleset) error { return t.commit(r, true) })
}

// State of the table.
type State struct {
	// Captured says that the rules are in force.
	Captured bool `json:"captured"`
	// Left is how long they will be, if nobody confirms them; 0 if they stay.
	Left time.Duration `json:"left,omitempty"`
	// Expired says that the rules are there and act no more, because nobody confirmed them.
	Expired bool `json:"expired,omitempty"`
}

func (s State) String() string {
	switch {
	case s.Left > 0:
		return fmt.Sprintf("on for %.0fs, unless it is confirmed", s.Left.Seconds())
	case s.Captured:
		return "on"
	case s.Expired:
		return "off: nobody has confirmed it"
	}
	return "off"
}

// State reads the table.
func (t *Table) State() (State, error) {
	table, on, err := t.state()
	switch {
	case err != nil || table == nil:
		return State{}, err
	case len(on) == 0:
		return State{Expired: true}, nil
	}
	return State{Captured: true, Left: on[0].Expires}, nil
}

// state returns the table that is there, if any, and what switches it on.
func (t *Table) state() (*nftables.Table, []nftables.SetElement, error) {
	tables, err := t.tables()
	if err != nil || len(tables) == 0 {
		return nil, nil, err
	}
	conn, err := t.open()
	if err != nil {
		return nil, nil, err
	}
	on, err := conn.GetSetElements(&nftables.Set{Table: tables[0], Name: onSet})
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, nil, explained(err)
	}
	return tables[0], on, nil
}

// Errors of Confirm.
var (
	errNothing = errors.New("nothing is captured, so there is nothing to confirm: run 'causeway agent capture' first")
	errExpired = errors.New("the time is over and capture is off: run 'causeway agent capture' again, with a longer --until-confirmed if that was too short")
)

// Confirm makes the rules stay that would act for a time only.
func (t *Table) Confirm() error {
	table, on, err := t.state()
	switch {
	case err != nil:
		return err
	case table == nil:
		return errNothing
	case len(on) == 0:
		return errExpired
	}
	stay := make([]nftables.SetElement, len(on))
	for i := range on {
		stay[i].Key = on[i].Key
	}
	return t.switchTo(table, stay)
}

// switchTo replaces what is in the set that switches the rules on.
func (t *Table) switchTo(table *nftables.Table, on []nftables.SetElement) error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	set := &nftables.Set{Table: table, Name: onSet, KeyType: nftables.TypeInetProto, HasTimeout: true}
	conn.FlushSet(set)
	if len(on) > 0 {
		if err := conn.SetAddElements(set, on); err != nil {
			return explained(err)
		}
	}
	return explained(conn.Flush())
}

// Release takes the rules back. From the first moment nothing new is captured. The rules themselves stay
// until no captured connection is open, for drain at most: once they are gone, the kernel no longer knows
// where packets of such a connection belong. It reports whether there were any, and the connections that were open still.
func (t *Table) Release(ctx context.Context, drain time.Duration) (was bool, open int, err error) {
	tables, err := t.tables()
	if err != nil || len(tables) == 0 {
		return false, 0, err
	}
	for _, table := range tables {
		if err := t.switchTo(table, nil); err != nil && !errors.Is(err, os.ErrNotExist) {
			return true, 0, err
		}
	}
	ctx, stop := context.WithTimeout(ctx, drain)
	defer stop()
	for {
		if open, err = t.connections(); err != nil || open == 0 || ctx.Err() != nil {
			break
		}
		select {
		case <-ctx.Done():
		case <-time.After(50 * time.Millisecond):
		}
	}
	conn, openErr := t.open()
	if openErr != nil {
		return true, open, openErr
	}
	for _, table := range tables {
		conn.DelTable(table)
	}
	return true, open, errors.Join(explained(conn.Flush()), err)
}

// tables returns the tables of ours: one, unless the kernel has been without IPv6 for a time.
func (t *Table) tables() ([]*nftables.Table, error) {
	conn, err := t.open()
	if err != nil {
		return nil, err
	}
	all, err := conn.ListTables()
	if err != nil {
		return nil, explained(err)
	}
	var out []*nftables.Table
	for _, table := range all {
		if table.Name == TableName && (table.Family == nftables.TableFamilyINet || table.Family == nftables.TableFamilyIPv4) {
			out = append(out, table)
		}
	}
	return out, nil
}

func (t *Table) open() (*nftables.Conn, error) {
	conn, err := nftables.New(t.options...)
	return conn, explained(err)
}

// commit sends the ruleset in one transaction, in the place of the one that is there. A trial is for a table of
// another name, which the same transaction removes: the kernel checks all of it and nobody sees any of it.
func (t *Table) commit(r Ruleset, trial bool) error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	table := &nftables.Table{Name: TableName, Family: nftables.TableFamilyINet}
	if r.Family == "ip" {
		table.Family = nftables.TableFamilyIPv4
	}
	if trial {
		table.Name = fmt.Sprintf("%s-trial-%d", TableName, os.Getpid())
	} else {
		conn.AddTable(table) // so that there is one to delete
		conn.DelTable(table)
	}
	if err := send(conn, table, r); err != nil {
		return err
	}
	if trial {
		conn.DelTable(table)
	}
	return conn.Flush() //nolint:wrapcheck // Capture explains it
}

// explained names the remedy of errors that are no rule's.
func explained(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, os.ErrPermission):
		return fmt.Errorf("the kernel lets nobody see or change nftables without CAP_NET_ADMIN (%w): run this as root, or give the container that capability", unix.EPERM)
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("the kernel has no nftables (%w): it needs CONFIG_NF_TABLES, and perhaps 'modprobe nf_tables'", err)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("the kernel does not answer (%w): try again, and look into dmesg", err)
	}
	return fmt.Errorf("nftables: %w", err)
}

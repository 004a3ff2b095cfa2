package capture

import (
	"net/netip"

	"github.com/google/nftables"

	"github.com/causeway-mesh/causeway/xds/agent/settings"
)

// What tests of other packages' kind need.
var (
	Nameservers     = nameservers
	DefaultGateways = defaultGateways
	Established     = established
	Diagnose        = diagnose
	// OpenConnections is of the calling thread's namespace.
	OpenConnections = captured
)

// Configure makes a configuration of the text of a file.
func Configure(file string, servers ...netip.Addr) (Config, error) {
	read, err := settings.Parse([]byte(file), names())
	if err != nil {
		return Config{}, err
	}
	return configure(joinedValues(read), surroundings{
		servers: func() ([]netip.Addr, error) { return servers, nil },
		gateways: func() ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("198.18.0.1"), netip.MustParseAddr("fd00:18::1")}, nil
		},
	})
}

// TableIn returns the table of a network namespace, of which a file descriptor is given.
func TableIn(namespace int, connections func() (int, error)) *Table {
	t := NewTable()
	t.options = append(t.options, nftables.WithNetNSFd(namespace))
	if connections != nil {
		t.connections = connections
	}
	return t
}

// Foreign puts a ruleset into a table that is not ours.
func (t *Table) Foreign(name string, r Ruleset) error {
	conn, err := t.open()
	if err != nil {
		return err
	}
	if err := send(conn, &nftables.Table{Name: name, Family: nftables.TableFamilyINet}, r); err != nil {
		return err
	}
	return conn.Flush()
}

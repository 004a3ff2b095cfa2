package remote

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// The leader is asked first: its identity is its pod's name and the number of its process.
func TestLeads(t *testing.T) {
	require.True(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5-abcde"))
	require.False(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5-fghij"))
	require.False(t, leads("causeway-7d4b9c6f5-abcde-1", "causeway-7d4b9c6f5"))
	require.False(t, leads("", ""))
}

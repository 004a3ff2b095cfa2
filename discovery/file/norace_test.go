//go:build !race

package file

// slower is how much less the hostile files hold; see race_test.go.
const slower = 1

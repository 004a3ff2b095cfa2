//go:build race

package file

// slower is how much less the hostile files hold under the race detector, which takes ten times
// as long for them; the normal build reads them whole (make test-pure).
const slower = 10

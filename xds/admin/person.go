package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Role is what a person may do where there is no Kubernetes to know it.
type Role string

// The roles. A stopper may stop things and take them back, and not let them go on: as the ClusterRole
// causeway-shift-stopper does.
const (
	RoleViewer   Role = "viewer"
	RoleStopper  Role = "stopper"
	RoleOperator Role = "operator"
)

// Person is somebody who gives orders by the page.
type Person struct {
	Who      string
	Role     Role
	Commands *Commands
}

// Name is who they are, for the history.
func (p *Person) Name() string { return p.Who }

// May reports whether they may give an order.
func (p *Person) May(_ context.Context, o *discovery.Order) bool {
	if p.Commands == nil || !p.Commands.Here || p.Commands.ShiftsFrom != "" && o.Action != discovery.OrderRelease {
		return false
	}
	switch p.Role {
	case RoleOperator:
		return true
	case RoleStopper:
		return slices.Contains([]string{discovery.OrderPause, discovery.OrderRollback, discovery.OrderFreeze}, o.Action)
	case RoleViewer:
	}
	return false
}

// Do carries an order out, and returns the id of a shift's command.
func (p *Person) Do(ctx context.Context, o *discovery.Order) (string, error) {
	if !p.May(ctx, o) {
		return "", fmt.Errorf("%s may not %s", p.Who, o.Action)
	}
	if err := discovery.CheckWords(p.Who, o.Reason); err != nil {
		return "", err //nolint:wrapcheck // it says what to write instead
	}
	c := p.Commands
	switch o.Action {
	case discovery.OrderFreeze, discovery.OrderUnfreeze:
		r := discovery.FreezeRequest{By: p.Who, Reason: o.Reason, Config: o.Config, Lift: o.Action == discovery.OrderUnfreeze}
		_, refused, err := c.changeFreeze(ctx, &r)
		return "", errors.Join(refused, err)
	case discovery.OrderRelease:
		_, err := c.release(o.Key)
		return "", err
	}
	command := v1alpha1.ShiftCommand{
		ID: string(uuid.NewUUID()), Action: v1alpha1.ShiftAction(o.Action), Step: o.Step, Actor: p.Who, Reason: o.Reason, Time: metav1.Now().Rfc3339Copy(),
	}
	return command.ID, c.Shifts.Command(o.Key, command) //nolint:wrapcheck // it names the shift
}

// lookEvery is how often a file of tokens is looked at.
const lookEvery = time.Second

// Tokens are the people of a file, by their tokens.
type Tokens struct {
	file     string
	commands func() *Commands
	log      *slog.Logger

	mu      sync.Mutex
	looked  time.Time
	content string
	failed  string
	people  []entry
}

// entry is a person in the file. Only the digest of the token is there, so that who reads the file cannot be them.
type entry struct {
	Name   string `json:"name"`
	Role   Role   `json:"role"`
	SHA256 string `json:"sha256"`

	digest []byte
}

// NewTokens reads a file of tokens; commands are what they order by, as of when somebody comes. It is read again when it changes; while it is broken the last good one holds.
func NewTokens(file string, commands func() *Commands, log *slog.Logger) (*Tokens, error) {
	t := &Tokens{file: file, commands: commands, log: log}
	return t, t.load()
}

func (t *Tokens) load() error {
	text, err := os.ReadFile(t.file)
	if err != nil {
		return fmt.Errorf("--ui-tokens: %w", err)
	}
	if string(text) == t.content {
		return nil
	}
	people, err := parseTokens(text)
	if err != nil {
		return fmt.Errorf("--ui-tokens: %s: %w", t.file, err)
	}
	t.content, t.people = string(text), people
	return nil
}

// parseTokens reads a file of tokens.
func parseTokens(text []byte) ([]entry, error) {
	var f struct {
		People []entry `json:"people"`
	}
	if err := yaml.UnmarshalStrict(text, &f); err != nil {
		return nil, fmt.Errorf("it is no list of people: %w", err)
	}
	seen := make(map[string]bool)
	for i := range f.People {
		p := &f.People[i]
		at := fmt.Sprintf("people[%d]", i)
		switch p.Role {
		case RoleViewer, RoleStopper, RoleOperator:
		default:
			return nil, fmt.Errorf("%s.role: %q is not viewer, stopper or operator", at, p.Role)
		}
		if p.Name == "" || seen[p.Name] {
			return nil, fmt.Errorf("%s.name: %q is empty, or another one has it: give everybody a name of their own, for the history", at, p.Name)
		}
		if err := discovery.CheckWords(p.Name, ""); err != nil {
			return nil, fmt.Errorf("%s: %w", at, err)
		}
		seen[p.Name] = true
		var err error
		if p.digest, err = hex.DecodeString(p.SHA256); err != nil || len(p.digest) != sha256.Size {
			return nil, fmt.Errorf("%s.sha256: it is no SHA-256 in hex: printf %%s TOKEN | sha256sum", at)
		}
	}
	return f.People, nil
}

// ErrNobody says that a token is nobody's.
var ErrNobody = errors.New("this token is nobody's")

// Enter returns who has a token.
func (t *Tokens) Enter(token string) (*Person, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if now := time.Now(); now.Sub(t.looked) >= lookEvery {
		t.looked = now
		failed := ""
		if err := t.load(); err != nil {
			failed = err.Error()
			if failed != t.failed {
				t.log.Error("the file of tokens is not usable; the one before holds, and it is tried again", "error", err)
			}
		}
		t.failed = failed
	}
	digest := sha256.Sum256([]byte(token))
	var found *Person
	for i := range t.people { // all of them, whoever it is
		if p := &t.people[i]; subtle.ConstantTimeCompare(p.digest, digest[:]) == 1 {
			found = &Person{Who: p.Name, Role: p.Role, Commands: t.commands()}
		}
	}
	if found == nil {
		return nil, ErrNobody
	}
	return found, nil
}

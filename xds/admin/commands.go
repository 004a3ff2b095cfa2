package admin

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Commands takes commands about shifts and freezes where there is no Kubernetes to take them, and releases guards.
type Commands struct {
	// Here is false where the API server takes them.
	Here bool
	// ShiftsFrom is the control plane that this one follows, "" for none.
	ShiftsFrom string
	Shifts     *runner.Runner
	Store      runner.Store
	Log        *slog.Logger
	Catalog    *catalog.Catalog
	// Release lets what the never-empty guard holds of an InstanceGroup go; ReleaseConfig does so for objects whose files
	// are gone and returns how many, nil where there is no configuration directory.
	Release       func(discovery.Key)
	ReleaseConfig func() int
}

// Register adds the commands to what a server answers.
func (c *Commands) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/shifts/command", c.shift)
	mux.HandleFunc("DELETE /v1/shifts/command", c.withdraw)
	mux.HandleFunc("POST /v1/freeze", c.freeze)
	mux.HandleFunc("POST /v1/guard/release", c.releaseGuard)
}

// maxCommand is how many bytes a command may have.
const maxCommand = 64 << 10

// shift takes a command where there is no Kubernetes to take it.
func (c *Commands) shift(w http.ResponseWriter, r *http.Request) {
	key, ok := c.commanded(w, r)
	if !ok {
		return
	}
	var command v1alpha1.ShiftCommand
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand)).Decode(&command); err != nil {
		http.Error(w, "the command cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := discovery.CheckWords(command.Actor, command.Reason); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := c.Shifts.Command(key, command); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	WriteJSON(w, struct{}{})
}

// withdraw takes a command back that was not carried out yet.
func (c *Commands) withdraw(w http.ResponseWriter, r *http.Request) {
	key, ok := c.commanded(w, r)
	if !ok {
		return
	}
	c.Shifts.Withdraw(key, r.URL.Query().Get("id"))
	WriteJSON(w, struct{}{})
}

// commanded returns the shift that a command is about, and answers if commands are not given here.
func (c *Commands) commanded(w http.ResponseWriter, r *http.Request) (discovery.Key, bool) {
	key, err := ShiftKey(r.URL.Query().Get("shift"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return key, false
	}
	if !c.Here {
		http.Error(w, "the shifts of this control plane are in Kubernetes, where the API server knows who may do this: give --kubeconfig or --context", http.StatusForbidden)
		return key, false
	}
	return key, !c.follows(w)
}

// follows answers for a control plane that follows another one's shifts.
func (c *Commands) follows(w http.ResponseWriter) bool {
	if c.ShiftsFrom == "" {
		return false
	}
	http.Error(w, "this control plane follows the TrafficShifts and freezes of another one (--shifts-from "+c.ShiftsFrom+"): give the command there", http.StatusConflict)
	return true
}

// freeze freezes or lifts a freeze, where there is no Kubernetes.
func (c *Commands) freeze(w http.ResponseWriter, r *http.Request) {
	if !c.Here {
		http.Error(w, "this control plane keeps a freeze in Kubernetes, where the API server knows who may do this: give --kubeconfig or --context", http.StatusForbidden)
		return
	}
	if c.follows(w) {
		return
	}
	var request discovery.FreezeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand)).Decode(&request); err != nil {
		http.Error(w, "the freeze cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	after, refused, err := c.changeFreeze(r.Context(), &request)
	switch {
	case refused != nil:
		http.Error(w, refused.Error(), http.StatusConflict)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	WriteJSON(w, discovery.FreezeAnswer{Freeze: after})
}

// changeFreeze freezes or lifts a freeze. refused is the asker's mistake.
func (c *Commands) changeFreeze(ctx context.Context, request *discovery.FreezeRequest) (after *discovery.Freeze, refused, err error) {
	after, err = c.Store.ChangeFreeze(ctx, func(f *discovery.Freeze) (*discovery.Freeze, error) {
		f, refused = request.Change(f, time.Now())
		return f, refused
	})
	if refused != nil || err != nil {
		return nil, refused, err //nolint:wrapcheck // it says what could not be stored
	}
	c.Log.Info("frozen or unfrozen by hand", "by", request.By, "lift", request.Lift, "owner", request.Owner, "config", request.Config,
		"reason", request.Reason, "frozen", after != nil)
	return after, nil, nil
}

// releaseGuard lets go what a guard holds back.
func (c *Commands) releaseGuard(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("config") != "" {
		if c.ReleaseConfig == nil {
			http.Error(w, "this control plane reads no configuration directory", http.StatusNotFound)
			return
		}
		released := c.ReleaseConfig()
		c.Log.Info("objects whose files are gone were released by hand", "held", released)
		WriteJSON(w, struct{ Released int }{released})
		return
	}
	var key discovery.Key
	key.Namespace, key.Name, _ = strings.Cut(r.URL.Query().Get("group"), "/")
	held, err := c.release(key)
	if err != nil {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	WriteJSON(w, struct{ Released int }{held})
}

// release lets what the never-empty guard holds of an InstanceGroup go, and returns how many instances that are.
func (c *Commands) release(key discovery.Key) (held int, err error) {
	r := c.Catalog.Read()
	if _, ok := catalog.InstanceGroups.Get(r, key.String()); !ok {
		remedy := "name it as NAMESPACE/NAME"
		if near := discovery.Meant(key, catalog.Keys(r, discovery.KindInstanceGroup)); near != (discovery.Key{}) {
			remedy = "did you mean " + near.String() + "?"
		}
		return 0, fmt.Errorf("there is no InstanceGroup %s: %s", key, remedy)
	}
	if st, ok := catalog.GroupStatuses.Get(r, key.String()); ok {
		held = st.GuardHeld
	}
	c.Release(key)
	c.Log.Info("the never-empty guard was released by hand", "group", key.String(), "held", held)
	return held, nil
}

// ShiftKey reads the "namespace/name" of a TrafficShift.
func ShiftKey(name string) (discovery.Key, error) {
	namespace, rest, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || rest == "" || strings.Contains(rest, "/") {
		return discovery.Key{}, fmt.Errorf("%q is not NAMESPACE/NAME of a TrafficShift", name)
	}
	return discovery.Key{Namespace: namespace, Name: rest}, nil
}

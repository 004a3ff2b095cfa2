package admin

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/shift/runner"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// Commands takes commands about shifts and freezes where there is no Kubernetes to take them.
type Commands struct {
	// Here is false where the API server takes them.
	Here bool
	// ShiftsFrom is the control plane that this one follows, "" for none.
	ShiftsFrom string
	Shifts     *runner.Runner
	Store      runner.Store
	Log        *slog.Logger
}

// Register adds the commands to what a server answers.
func (c *Commands) Register(mux *http.ServeMux) {
	mux.HandleFunc("POST /v1/shifts/command", c.shift)
	mux.HandleFunc("DELETE /v1/shifts/command", c.withdraw)
	mux.HandleFunc("POST /v1/freeze", c.freeze)
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
	var refused error
	after, err := c.Store.ChangeFreeze(r.Context(), func(f *discovery.Freeze) (*discovery.Freeze, error) {
		f, refused = request.Change(f, time.Now())
		return f, refused
	})
	switch {
	case refused != nil:
		http.Error(w, refused.Error(), http.StatusConflict)
		return
	case err != nil:
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	c.Log.Info("frozen or unfrozen by hand", "by", request.By, "lift", request.Lift, "owner", request.Owner, "config", request.Config,
		"reason", request.Reason, "frozen", after != nil)
	WriteJSON(w, discovery.FreezeAnswer{Freeze: after})
}

// ShiftKey reads the "namespace/name" of a TrafficShift.
func ShiftKey(name string) (discovery.Key, error) {
	namespace, rest, ok := strings.Cut(name, "/")
	if !ok || namespace == "" || rest == "" || strings.Contains(rest, "/") {
		return discovery.Key{}, fmt.Errorf("%q is not NAMESPACE/NAME of a TrafficShift", name)
	}
	return discovery.Key{Namespace: namespace, Name: rest}, nil
}

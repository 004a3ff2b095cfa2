package main

import (
	"encoding/json"
	"net/http"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// maxCommand is how many bytes a command may have.
const maxCommand = 64 << 10

// shiftCommandHandler takes a command where there is no Kubernetes to take it.
func (s *serve) shiftCommandHandler(w http.ResponseWriter, r *http.Request) {
	key, ok := s.commanded(w, r)
	if !ok {
		return
	}
	var c v1alpha1.ShiftCommand
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand)).Decode(&c); err != nil {
		http.Error(w, "the command cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	if err := discovery.CheckWords(c.Actor, c.Reason); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if err := s.shifts.Command(key, c); err != nil {
		http.Error(w, err.Error(), http.StatusConflict)
		return
	}
	writeJSON(w, struct{}{})
}

// shiftWithdrawHandler takes a command back that was not carried out yet.
func (s *serve) shiftWithdrawHandler(w http.ResponseWriter, r *http.Request) {
	key, ok := s.commanded(w, r)
	if !ok {
		return
	}
	s.shifts.Withdraw(key, r.URL.Query().Get("id"))
	writeJSON(w, struct{}{})
}

// commanded returns the shift that a command is about, and answers if commands are not given here.
func (s *serve) commanded(w http.ResponseWriter, r *http.Request) (discovery.Key, bool) {
	key, err := shiftKey(r.URL.Query().Get("shift"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return key, false
	}
	if s.opts.config == "" {
		http.Error(w, "the shifts of this control plane are in Kubernetes, where the API server knows who may do this: give --kubeconfig or --context", http.StatusForbidden)
		return key, false
	}
	return key, !s.follows(w)
}

// follows answers for a control plane that follows another one's shifts.
func (s *serve) follows(w http.ResponseWriter) bool {
	if s.opts.shiftsFrom == "" {
		return false
	}
	http.Error(w, "this control plane follows the TrafficShifts and freezes of another one (--shifts-from "+s.opts.shiftsFrom+"): give the command there", http.StatusConflict)
	return true
}

// freezeHandler freezes or lifts a freeze, where there is no Kubernetes.
func (s *serve) freezeHandler(w http.ResponseWriter, r *http.Request) {
	if s.opts.config == "" {
		http.Error(w, "this control plane keeps a freeze in Kubernetes, where the API server knows who may do this: give --kubeconfig or --context", http.StatusForbidden)
		return
	}
	if s.follows(w) {
		return
	}
	var request discovery.FreezeRequest
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxCommand)).Decode(&request); err != nil {
		http.Error(w, "the freeze cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	var refused error
	after, err := s.shiftStore.ChangeFreeze(r.Context(), func(f *discovery.Freeze) (*discovery.Freeze, error) {
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
	s.log.Info("frozen or unfrozen by hand", "by", request.By, "lift", request.Lift, "owner", request.Owner, "config", request.Config,
		"reason", request.Reason, "frozen", after != nil)
	writeJSON(w, discovery.FreezeAnswer{Freeze: after})
}

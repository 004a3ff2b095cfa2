package notify

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// body is a notice in the format Generic. Fields are added, never changed or
// taken away, while apiVersion stays.
type body struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	// ID is the same when a notice is sent again.
	ID    string              `json:"id"`
	Time  string              `json:"time"`
	Event v1alpha1.ShiftEvent `json:"event"`
	// Warning is true for what somebody should look at.
	Warning   bool                    `json:"warning"`
	Shift     bodyShift               `json:"shift"`
	Service   string                  `json:"service"`
	Direction v1alpha1.ShiftDirection `json:"direction"`
	Phase     v1alpha1.ShiftPhase     `json:"phase"`
	Step      int32                   `json:"step"`
	From      v1alpha1.Percent        `json:"from"`
	To        v1alpha1.Percent        `json:"to"`
	Actor     string                  `json:"actor"`
	Reason    string                  `json:"reason"`
	// Link leads to the page of the shift.
	Link string `json:"link,omitempty"`
}

type bodyShift struct {
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	UID       string `json:"uid,omitempty"`
}

func generic(n *Notice) ([]byte, error) {
	out, err := json.Marshal(body{
		APIVersion: v1alpha1.GroupVersion().String(), Kind: "TrafficShiftNotice",
		ID: n.id(), Time: n.Time.UTC().Format(time.RFC3339), Event: n.Event, Warning: n.Warning,
		Shift: bodyShift{n.Shift.Namespace, n.Shift.Name, n.UID}, Service: n.Service,
		Direction: n.Direction, Phase: n.Phase, Step: n.Step, From: n.From, To: n.To, Actor: n.Actor, Reason: n.Reason, Link: n.Link,
	})
	if err != nil {
		return nil, fmt.Errorf("notice of %s cannot be written as JSON: %w", n.Shift, err)
	}
	return out, nil
}

// id tells notices apart by what happened, to the second that a status keeps. The
// reason is no part of it, because it has figures that another leader may have seen otherwise.
func (n *Notice) id() string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", []string{
		n.Shift.Namespace, n.Shift.Name, n.UID, n.Time.UTC().Format(time.RFC3339),
		string(n.Event), string(n.From), string(n.To), fmt.Sprint(n.Step),
	}))
	return hex.EncodeToString(sum[:16])
}

package page

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/xds/api"
)

// words of the actions: what a button says, what the question asks.
var words = map[string]struct{ button, question string }{
	discovery.OrderRollback: {"Roll back", "Take all traffic back?"},
	discovery.OrderPause:    {"Pause", "Hold the shift where it is?"},
	discovery.OrderResume:   {"Resume", "Let the shift go on?"},
	discovery.OrderPromote:  {"Promote", "End the wait of this step?"},
	discovery.OrderFreeze:   {"Freeze all shifts", "Stop all shifts where they are?"},
	discovery.OrderUnfreeze: {"Lift your freeze", "Lift your freeze?"},
	discovery.OrderRelease:  {"Release the guard", "Let go what the never-empty guard holds?"},
}

// shiftButtons are what the viewer may do with a shift, nil for nothing. Who wants to stop something finds that first.
func (p *Page) shiftButtons(r *http.Request, v Viewer, s *api.Shift) node {
	if v == nil {
		return nil
	}
	key := discovery.Key{Namespace: s.Namespace, Name: s.Name}
	var out []node
	for _, action := range []string{discovery.OrderRollback, discovery.OrderPause, discovery.OrderResume, discovery.OrderPromote} {
		for _, possible := range s.Actions {
			if possible == action && v.May(r.Context(), &discovery.Order{Action: action, Key: key}) {
				out = append(out, button(action, key.String()))
			}
		}
	}
	return actions(out, "What you may do with this shift")
}

// meshButtons are what the viewer may do with all shifts.
func (p *Page) meshButtons(r *http.Request, v Viewer, o *api.Overview) node {
	if v == nil {
		return nil
	}
	var out []node
	if o.Freeze != nil && v.May(r.Context(), &discovery.Order{Action: discovery.OrderUnfreeze}) {
		out = append(out, button(discovery.OrderUnfreeze, ""))
	}
	if o.Freeze == nil && v.May(r.Context(), &discovery.Order{Action: discovery.OrderFreeze}) {
		out = append(out, button(discovery.OrderFreeze, ""))
	}
	return actions(out, "What you may do with all shifts")
}

func actions(buttons []node, label string) node {
	if len(buttons) == 0 {
		return nil
	}
	return el("div", class("actions"), attr("role", "group"), attr("aria-label", label), buttons)
}

// button leads to the question; nothing happens before that is answered.
func button(action, name string) node {
	kind := ""
	if action == discovery.OrderRollback {
		kind = "danger"
	}
	return el("form", attr("method", "get"), to("action", here("act")),
		el("input", attr("type", "hidden"), attr("name", "action"), attr("value", action)), el("input", attr("type", "hidden"), attr("name", "name"), attr("value", name)),
		el("button", class(kind), attr("type", "submit"), words[action].button))
}

// orderOf reads an order from a form. Its error is the form's.
func orderOf(q url.Values) (*discovery.Order, error) {
	o := &discovery.Order{Action: q.Get("action"), Reason: strings.TrimSpace(q.Get("reason")), Config: q.Get("config") == "yes"}
	if _, ok := words[o.Action]; !ok {
		return nil, &api.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q is nothing that can be done", o.Action)}
	}
	if o.OfShift() || o.Action == discovery.OrderRelease {
		namespace, name, ok := strings.Cut(q.Get("name"), "/")
		if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
			return nil, &api.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("%q is not NAMESPACE/NAME", q.Get("name"))}
		}
		o.Key = discovery.Key{Namespace: namespace, Name: name}
	}
	if text := q.Get("step"); text != "" {
		n, err := strconv.ParseInt(text, 10, 32)
		if err != nil {
			return nil, &api.Error{Status: http.StatusBadRequest, Text: fmt.Sprintf("step: %q is not a number", text)}
		}
		step := int32(n)
		o.Step = &step
	}
	if err := discovery.CheckWords("", o.Reason); err != nil {
		return nil, &api.Error{Status: http.StatusBadRequest, Text: err.Error()}
	}
	return o, nil
}

// permitted returns an error if the viewer may not give the order.
func permitted(ctx context.Context, v Viewer, o *discovery.Order) error {
	if v.May(ctx, o) {
		return nil
	}
	what := o.Action
	if o.Key != (discovery.Key{}) {
		what += " " + o.Key.String()
	}
	return &api.Error{Status: http.StatusForbidden, Text: fmt.Sprintf("%s may not %s", v.Name(), what)}
}

// confirm asks whether it is meant, and says what will happen to how much traffic.
func (p *Page) confirm(w http.ResponseWriter, r *http.Request) {
	v, ok := p.mustKnow(w, r)
	if !ok {
		return
	}
	o, err := orderOf(r.URL.Query())
	if err == nil {
		err = permitted(r.Context(), v, o)
	}
	var what []string
	step := ""
	if err == nil {
		what, step, err = p.consequences(r.Context(), o)
	}
	if err != nil {
		p.fail(w, r, v, err)
		return
	}
	back := here()
	if o.OfShift() {
		back = here("shifts", o.Key.Namespace, o.Key.Name)
	}
	hidden := func(name, value string) node {
		return el("input", attr("type", "hidden"), attr("name", name), attr("value", value))
	}
	var config any
	if o.Action == discovery.OrderFreeze {
		config = el("div", class("field"), el("label", el("input", attr("type", "checkbox"), attr("name", "config"), attr("value", "yes")), " and all configuration but endpoints, for an incident"))
	}
	name, kind := "", ""
	if o.Key != (discovery.Key{}) {
		name = o.Key.String()
	}
	if o.Action == discovery.OrderRollback {
		kind = "danger"
	}
	p.write(w, r, v, http.StatusOK, &doc{title: words[o.Action].button + " " + name, head: []node{
		el("p", class("crumbs"), link(back, "Back")), el("h1", words[o.Action].question), el("p", class("subject"), name),
		list(what),
		el("form", attr("method", "post"), to("action", here("act")), p.token(r), hidden("action", o.Action), hidden("name", name), hidden("step", step), config,
			el("div", class("field"), el("label", attr("for", "reason"), "Why, for the history"), el("input", attr("id", "reason"), attr("name", "reason"), attr("type", "text"), attr("maxlength", "1024"), attr("autocomplete", "off"))),
			el("div", class("actions"), el("button", class(kind), attr("type", "submit"), words[o.Action].button), " ", link(back, "No, go back")),
			el("p", class("hint"), "It will be told as done by "+v.Name()+".")),
	}})
}

// consequences says what an order will do, and at which step the shift stands.
func (p *Page) consequences(ctx context.Context, o *discovery.Order) (what []string, step string, err error) {
	if !o.OfShift() {
		view, err := p.opts.Reader.Overview(ctx)
		if err != nil {
			return nil, "", err //nolint:wrapcheck // it is shown as it is
		}
		return consequencesOfAll(o, view), "", nil
	}
	s, err := p.opts.Reader.Shift(ctx, o.Key)
	if err != nil {
		return nil, "", err //nolint:wrapcheck // it is shown as it is
	}
	return consequencesOf(o.Action, s), strconv.Itoa(s.StepIndex), nil
}

func consequencesOfAll(o *discovery.Order, view *api.Overview) []string {
	n := 0
	for i := range view.Shifts {
		if !view.Shifts[i].Ended {
			n++
		}
	}
	switch o.Action {
	case discovery.OrderFreeze:
		return []string{fmt.Sprintf("%d TrafficShifts stop where they are; their shares stay as they are.", n), "What the guard finds bad is taken back all the same, unless all configuration is frozen too."}
	case discovery.OrderUnfreeze:
		return []string{"Your own freeze ends. What others have frozen stays so.", fmt.Sprintf("If nobody else has frozen anything, %d TrafficShifts go on.", n)}
	}
	return []string{fmt.Sprintf("%d instances of InstanceGroup %s, which EC2 no longer mentions, get no requests any more.", view.GuardHeld[o.Key.String()], o.Key)}
}

// consequencesOf says what a command will do to how much traffic.
func consequencesOf(action string, s *api.Shift) []string {
	share := func(p float64) string {
		if s.RequestsPerSecond <= 0 {
			return "of requests, of which there were none lately"
		}
		return "of requests, about " + ratePerSecond(s.RequestsPerSecond*p/100)
	}
	switch action {
	case discovery.OrderRollback:
		return []string{
			fmt.Sprintf("All traffic goes back to the %s at once, in one push: %s %s, leave the %s.", s.From, percent(s.Percent), share(s.Percent), s.To),
			"Requests that are under way end where they began.", "The shift then stands at 0 % until somebody promotes it.",
		}
	case discovery.OrderPause:
		return []string{
			fmt.Sprintf("The %s keep %s %s; no step comes until somebody resumes.", s.To, percent(s.Percent), share(s.Percent)),
			"The guard goes on: what it finds bad is taken back as the shift says.",
		}
	case discovery.OrderResume:
		return []string{fmt.Sprintf("The shift goes on from %s. Next: %s.", percent(s.Percent), s.Next)}
	}
	next := s.StepIndex + 1
	out := []string{}
	switch {
	case s.Phase == "RolledBack":
		out = append(out, "The shift begins anew with its first step.")
	case next < len(s.Steps) && s.Steps[next].Shadow > 0:
		out = append(out, fmt.Sprintf("The next step copies %s of the requests to the %s; no traffic moves.", percent(s.Steps[next].Shadow), s.To))
	case next < len(s.Steps):
		to := s.Steps[next].Percent
		out = append(out, fmt.Sprintf("The %s go from %s to %s: %s more %s, move to them.", s.To, percent(s.Percent), percent(to), percent(to-s.Percent), share(to-s.Percent)))
	default:
		out = append(out, fmt.Sprintf("The last step ends: the %s become the Service's home.", s.To))
	}
	return append(out, "The guard must be content all the same: until it is, the promotion waits.")
}

// act carries out what was asked for.
func (p *Page) act(w http.ResponseWriter, r *http.Request) {
	v, ok := p.mustKnow(w, r)
	if !ok {
		return
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxToken)
	if err := r.ParseForm(); err != nil || !p.authentic(r) {
		p.fail(w, r, v, &api.Error{Status: http.StatusForbidden, Text: "this form is not from here, or is too old: open the page again"})
		return
	}
	o, err := orderOf(r.PostForm)
	if err == nil {
		err = p.carryOut(r.Context(), v, o)
	}
	if err != nil {
		p.fail(w, r, v, err)
		return
	}
	back := here()
	if o.OfShift() {
		back = here("shifts", o.Key.Namespace, o.Key.Name)
	}
	http.Redirect(w, r, string(back), http.StatusSeeOther)
}

// answeredWithin is how long a page waits for the answer to a command; it comes in half a second.
const answeredWithin = 3 * time.Second

// carryOut does it, and waits a moment for a shift's answer.
func (p *Page) carryOut(ctx context.Context, v Viewer, o *discovery.Order) error {
	if err := permitted(ctx, v, o); err != nil {
		return err
	}
	id, err := v.Do(ctx, o)
	p.opts.Log.Info("an order came by the page", "by", v.Name(), "action", o.Action, "object", o.Key.String(), "reason", o.Reason, "error", err)
	if err != nil {
		if _, ok := errors.AsType[*api.Error](err); ok {
			return err
		}
		return &api.Error{Status: http.StatusConflict, Text: err.Error()}
	}
	if id == "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, answeredWithin)
	defer cancel()
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		s, err := p.opts.Reader.Shift(ctx, o.Key)
		if err == nil && s.Command != nil && s.Command.ID == id {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil //nolint:nilerr // the page shows what comes of it
		case <-ticker.C:
		}
	}
}

// orderBody is what POST /api/v1/actions takes.
type orderBody struct {
	Action    string `json:"action"`
	Namespace string `json:"namespace,omitempty"`
	Name      string `json:"name,omitempty"`
	Step      *int32 `json:"step,omitempty"`
	Config    bool   `json:"config,omitempty"`
	Reason    string `json:"reason,omitempty"`
}

// order takes an order by the API. A browser sends no such request for another site: it has a type that forms cannot
// have, and who is known by a session alone is refused.
func (p *Page) order(w http.ResponseWriter, r *http.Request) {
	v, ok := p.mustKnow(w, r)
	if !ok {
		return
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	_, session := p.sessions.of(r)
	_, token := bearer(r)
	switch {
	case kind != "application/json":
		http.Error(w, "send Content-Type: application/json", http.StatusUnsupportedMediaType)
		return
	case session && !token:
		http.Error(w, "send Authorization: Bearer TOKEN", http.StatusUnauthorized)
		return
	}
	var b orderBody
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxToken)).Decode(&b); err != nil {
		http.Error(w, "the order cannot be read: "+err.Error(), http.StatusBadRequest)
		return
	}
	q := url.Values{"action": {b.Action}, "name": {b.Namespace + "/" + b.Name}, "reason": {b.Reason}}
	if b.Config {
		q.Set("config", "yes")
	}
	o, err := orderOf(q)
	if err == nil {
		o.Step = b.Step
		err = p.carryOut(r.Context(), v, o)
	}
	if err != nil {
		http.Error(w, err.Error(), api.StatusOf(err))
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte("{}\n")) // a client that went away
}

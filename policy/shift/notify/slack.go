package notify

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// slackLongest is how long a reason, and slackActor how long an actor may be once
// it is escaped. Slack takes 3,000 characters in a section and 2,000 in an element of a context.
const (
	slackLongest = 2000
	slackActor   = 200
)

// slack returns a notice as Slack's incoming webhooks take it: text for
// notifications and for receivers that are only compatible, blocks for people.
func slack(n *Notice) ([]byte, error) {
	icon := ":arrow_right:"
	switch {
	case n.Event == v1alpha1.EventCompleted:
		icon = ":white_check_mark:"
	case n.Event == v1alpha1.EventRollBack:
		icon = ":rewind:"
	case n.Event == v1alpha1.EventAwaitingApproval:
		icon = ":raised_hand:"
	case n.Warning:
		icon = ":warning:"
	}
	what := happened(n)
	name := escape(n.Shift.String())
	reason := escapeShort(n.Reason, slackLongest)
	section := icon + " *" + name + "*: " + escape(what)
	if n.Link != "" {
		section = icon + " *<" + escape(n.Link) + "|" + strings.ReplaceAll(name, "|", "/") + ">*: " + escape(what)
	}
	text := name + ": " + escape(what)
	if reason != "" {
		section += "\n" + reason
		text += ": " + reason
	}
	context := fmt.Sprintf("service %s | phase %s | step %d", escape(n.Service), n.Phase, n.Step)
	if n.Actor != "" {
		context += " | by " + escapeShort(n.Actor, slackActor)
	}
	context += " | " + n.Time.UTC().Format(time.RFC3339)
	markdown := func(s string) map[string]string { return map[string]string{"type": "mrkdwn", "text": s} }
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	// Slack's own escapes are in the text already.
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(map[string]any{
		"text": text,
		"blocks": []any{
			map[string]any{"type": "section", "text": markdown(section)},
			map[string]any{"type": "context", "elements": []any{markdown(context)}},
		},
	}); err != nil {
		return nil, fmt.Errorf("notice of %s cannot be written as JSON: %w", n.Shift, err)
	}
	return bytes.TrimSpace(out.Bytes()), nil
}

// targetOf names the backing that a shift moves traffic to.
func targetOf(n *Notice) string {
	if n.Direction == v1alpha1.PodsToInstances {
		return "instances"
	}
	return "pods"
}

// happened says in a few words what a notice is about.
func happened(n *Notice) string {
	target := targetOf(n)
	switch n.Event {
	case v1alpha1.EventStep:
		if n.From == n.To {
			return fmt.Sprintf("step %d begins, %s stay at %s %%", n.Step, target, n.To)
		}
		return fmt.Sprintf("%s go from %s %% to %s %%", target, n.From, n.To)
	case v1alpha1.EventHold:
		return fmt.Sprintf("holds at %s %%", n.To)
	case v1alpha1.EventAwaitingApproval:
		return fmt.Sprintf("waits for approval at %s %%", n.To)
	case v1alpha1.EventRollBack:
		return fmt.Sprintf("rolled back, %s from %s %% to %s %%", target, n.From, n.To)
	case v1alpha1.EventCompleted:
		return fmt.Sprintf("is complete, all traffic goes to the %s", target)
	case v1alpha1.EventCommand:
		return fmt.Sprintf("a command was carried out, %s at %s %%", target, n.To)
	case v1alpha1.EventFailedOver:
		return "one backing has no usable endpoint and the other answers for it"
	}
	return string(n.Event)
}

// escape keeps a text from being read as links, mentions or formatting. Slack
// knows three escapes; the marks of its formatting are kept apart by a zero-width space.
func escape(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", "*", "*\u200b", "~", "~\u200b", "`", "`\u200b").Replace(s)
}

// escapeShort escapes a text and keeps as much of it as fits in so many
// characters, without cutting an escape in two.
func escapeShort(s string, longest int) string {
	var out strings.Builder
	n := 0
	for _, r := range s {
		e := escape(string(r))
		if n += utf8.RuneCountInString(e); n > longest {
			return out.String() + " ..."
		}
		out.WriteString(e)
	}
	return out.String()
}

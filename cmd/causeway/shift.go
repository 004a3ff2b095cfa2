package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/user"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/shift/describe"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
	"github.com/causeway-mesh/causeway/xds/admin"
	"github.com/causeway-mesh/causeway/xds/admin/terminal"
)

func shiftCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "shift",
		Short: "See and steer TrafficShifts, which move traffic",
		Long: `See and steer the TrafficShifts that move traffic between instances and pods.

Without further flags the control plane's admin API answers. With --kubeconfig
or --context the cluster's API does: that is how to promote, pause, resume and
roll back where shifts are in Kubernetes, with your own rights there
(docs/migration.md).`,
	}
	c.AddCommand(shiftStatusCommand(), shiftWatchCommand(), shiftPlanCommand(),
		shiftActionCommand(v1alpha1.ActionPromote, "End the wait of the current step, or start a shift anew",
			`End the wait of the current step, or start a shift anew that was rolled back.
The guard must be content all the same: until it is, the promotion waits, and an
edit of the steps or the guard makes it void. status.commandResult says so.`),
		shiftActionCommand(v1alpha1.ActionPause, "Hold a shift at the share that it has", ""),
		shiftActionCommand(v1alpha1.ActionResume, "Let a paused shift go on", ""),
		shiftActionCommand(v1alpha1.ActionRollback, "Take the traffic back at once", ""))
	return c
}

// shiftSource tells the commands where shifts are: behind the admin API, or in
// a cluster.
type shiftSource struct {
	admin      adminFlag
	kubernetes kubernetesFlag
	namespace  namespaceFlag
}

func (s *shiftSource) add(c *cobra.Command) {
	s.admin.addAddress(c)
	s.kubernetes.add(c)
	s.namespace.add(c)
	if c.ValidArgsFunction == nil && strings.Contains(c.Use, "NAMESPACE/NAME") {
		c.ValidArgsFunction = completer(&s.namespace, func(ctx context.Context) ([]discovery.Key, error) {
			view, err := s.view(ctx, "")
			if err != nil {
				return nil, err
			}
			return shiftKeys(view), nil
		})
	}
}

// view returns the shifts of a namespace or of all, or the one that is named NAMESPACE/NAME.
func (s *shiftSource) view(ctx context.Context, name string) (*describe.View, error) {
	if s.kubernetes.Given() {
		var key discovery.Key
		if name != "" {
			var err error
			if key, err = admin.ShiftKey(name); err != nil {
				return nil, err
			}
		}
		shifts, freeze, err := s.kubernetes.Shifts(ctx, key)
		return &describe.View{Shifts: shifts, Freeze: freeze}, err
	}
	return s.admin.api().Shifts(ctx, name) //nolint:wrapcheck // it says what is wrong
}

var errNoShift = errors.New("there is no TrafficShift")

// one returns a shift. Its error is errNoShift if it is known that there is none.
func (s *shiftSource) one(ctx context.Context, name string) (*v1alpha1.TrafficShift, *describe.View, error) {
	key, err := s.namespace.key(name, discovery.KindTrafficShift)
	if err != nil {
		return nil, nil, err
	}
	name = key.String()
	view, err := s.view(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	if len(view.Shifts) == 0 {
		all, err := s.view(ctx, "")
		if err != nil {
			return nil, nil, err
		}
		return nil, nil, fmt.Errorf("%w %s: %s", errNoShift, name, meant(key, shiftKeys(all), "'causeway shift status' lists them"))
	}
	return &view.Shifts[0], view, nil
}

func shiftKeys(view *describe.View) []discovery.Key {
	out := make([]discovery.Key, len(view.Shifts))
	for i := range view.Shifts {
		out[i] = discovery.Key{Namespace: view.Shifts[i].Namespace, Name: view.Shifts[i].Name}
	}
	return out
}

func shiftStatusCommand() *cobra.Command {
	var source shiftSource
	var output outputFlag
	c := &cobra.Command{
		Use:   "status [NAMESPACE/NAME]",
		Short: "Where all shifts stand, or one of them with its history",
		Args:  takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				s, view, err := source.one(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				columns, _ := output.size(cmd)
				return output.print(cmd, s, func(t *phrase.Table) {
					if columns > 0 {
						s = describe.InBrief(s, phrase.Brief)
					}
					t.Text(phrase.Wrap(describe.Shift(s, view, time.Now(), 20), columns))
				})
			}
			view, err := source.view(cmd.Context(), "")
			if err != nil {
				return err
			}
			if n := source.namespace.namespace; n != "" {
				view.Shifts = slices.DeleteFunc(view.Shifts, func(s v1alpha1.TrafficShift) bool { return s.Namespace != n })
			}
			if err := output.print(cmd, view, func(t *phrase.Table) {
				describe.List(t, view, time.Now(), output.format == wide)
			}); err != nil || output.format != "table" {
				return err
			}
			columns, _ := terminal.Size(cmd.OutOrStdout())
			if columns > 0 {
				for i := range view.Shifts {
					view.Shifts[i] = *describe.InBrief(&view.Shifts[i], phrase.Brief)
				}
			}
			_, err = fmt.Fprint(cmd.OutOrStdout(), terminal.Paint(cmd.OutOrStdout(), phrase.Wrap(describe.Waits(view), columns)))
			return err
		},
	}
	source.add(c)
	output.add(c)
	return c
}

func shiftWatchCommand() *cobra.Command {
	var source shiftSource
	interval := time.Second
	c := &cobra.Command{
		Use:   "watch NAMESPACE/NAME",
		Short: "Watch a shift as it goes",
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if interval <= 0 {
				return errors.New("--interval: give a duration such as 1s")
			}
			key, err := source.namespace.key(args[0], discovery.KindTrafficShift)
			if err != nil {
				return err
			}
			return source.watch(cmd, key.String(), interval)
		},
	}
	c.Flags().DurationVar(&interval, "interval", interval, "how often to look")
	source.add(c)
	return c
}

// watch prints a shift until it is completed, is deleted or whoever watches has seen enough. Once it was there, a control plane
// that does not answer is waited for; before, the name or the address may be wrong.
func (s *shiftSource) watch(cmd *cobra.Command, name string, interval time.Duration) error {
	screen := terminal.Is(os.Stdout)
	last := ""
	for {
		shift, view, err := s.one(cmd.Context(), name)
		text := ""
		switch {
		case cmd.Context().Err() != nil:
			return nil //nolint:nilerr // the one who watches has seen enough
		case err != nil && last == "":
			return err
		case errors.Is(err, errNoShift):
			return fmt.Errorf("TrafficShift %s was deleted: its Service's home has all of the traffic, see 'causeway endpoints'", name)
		case err != nil:
			text = "cannot read the shift; trying again: " + err.Error() + "\n"
		default:
			// The window may have another size by now. Its last row stays empty: a
			// line feed there would scroll the title away.
			columns, rows := terminal.Size(cmd.OutOrStdout())
			text = describe.Screen(shift, view, time.Now(), columns, rows-1)
		}
		switch {
		case screen:
			text = terminal.Paint(cmd.OutOrStdout(), text)
			// From the top, without the flicker of clearing everything first.
			fmt.Fprint(cmd.OutOrStdout(), "\x1b[H"+strings.ReplaceAll(text, "\n", "\x1b[K\n")+"\x1b[J")
		case withoutTimes(text) != withoutTimes(last):
			fmt.Fprintln(cmd.OutOrStdout(), text)
		}
		last = text
		if err == nil && shift.Status.Phase == v1alpha1.ShiftCompleted {
			return nil
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-time.After(interval):
		}
	}
}

// withoutTimes leaves out the lines that change by themselves.
func withoutTimes(text string) string {
	lines := strings.Split(text, "\n")
	return strings.Join(slices.DeleteFunc(lines, func(l string) bool { return strings.HasPrefix(l, "  since") }), "\n")
}

func shiftActionCommand(action v1alpha1.ShiftAction, short, long string) *cobra.Command {
	var source shiftSource
	var reason string
	c := &cobra.Command{
		Use:   string(action) + " NAMESPACE/NAME",
		Short: short,
		Long:  long,
		Args:  takes(1, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := source.namespace.key(args[0], discovery.KindTrafficShift)
			if err != nil {
				return err
			}
			s, _, err := source.one(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			step := s.Status.Step
			command := v1alpha1.ShiftCommand{
				ID: string(uuid.NewUUID()), Action: action, Step: &step, Actor: actor(), Reason: reason, Time: metav1.Now().Rfc3339Copy(),
			}
			if source.kubernetes.Given() {
				err = source.kubernetes.Command(cmd.Context(), key, &command)
			} else {
				err = source.admin.client().Post(cmd.Context(), "/v1/shifts/command", url.Values{"shift": {key.String()}}, &command)
			}
			if err != nil {
				return err
			}
			return source.await(cmd, key.String(), &command)
		},
	}
	c.Flags().StringVar(&reason, "reason", "", "why, for the history")
	source.add(c)
	return c
}

// commandPatience is how long a command may take to be carried out.
const commandPatience = 15 * time.Second

// await says what came of a command.
func (s *shiftSource) await(cmd *cobra.Command, name string, command *v1alpha1.ShiftCommand) error {
	ctx := cmd.Context()
	end := time.After(commandPatience)
	for {
		now, view, err := s.one(ctx, name)
		if err == nil && now.Status.Command == command.ID {
			return answer(cmd, now, view, command)
		}
		select {
		case <-ctx.Done():
			err = nil // that it was interrupted is no news
		case <-end:
		case <-time.After(200 * time.Millisecond):
			continue
		}
		return errors.Join(err, s.giveUp(context.WithoutCancel(ctx), cmd, name, command))
	}
}

// answer says what came of a command that was carried out or refused.
func answer(cmd *cobra.Command, s *v1alpha1.TrafficShift, view *describe.View, command *v1alpha1.ShiftCommand) error {
	out, name := cmd.OutOrStdout(), s.Namespace+"/"+s.Name
	columns, _ := terminal.Size(out)
	result := s.Status.CommandResult
	if result == nil {
		result = &v1alpha1.ShiftCommandResult{Result: v1alpha1.CommandDone} // an older leader says no more
	}
	switch result.Result {
	case v1alpha1.CommandRefused, v1alpha1.CommandVoid:
		fmt.Fprint(out, terminal.Paint(out, phrase.Wrap(describe.Shift(describe.Told(s, result.Message, "see below"), view, time.Now(), 1), columns)))
		return fmt.Errorf("%s %s was refused: %s", command.Action, name, result.Message)
	case v1alpha1.CommandWaits:
		fmt.Fprint(out, terminal.Paint(out, fmt.Sprintf("%s %s: noted, and it waits: %s\n", command.Action, name, result.Message)))
	case v1alpha1.CommandDone:
		fmt.Fprintf(out, "%s %s: done\n", command.Action, name)
	}
	fmt.Fprint(out, terminal.Paint(out, phrase.Wrap(describe.Shift(describe.Told(s, result.Message, "see above"), view, time.Now(), 1), columns)))
	return nil
}

// giveUp takes back a command that nobody has carried out yet: it must not be carried out
// when its author no longer watches.
func (s *shiftSource) giveUp(ctx context.Context, cmd *cobra.Command, name string, command *v1alpha1.ShiftCommand) error {
	key, err := admin.ShiftKey(name)
	if err != nil {
		return err
	}
	if s.kubernetes.Given() {
		err = s.kubernetes.Withdraw(ctx, key, command)
	} else {
		err = s.admin.do(ctx, http.MethodDelete, "/v1/shifts/command", url.Values{"shift": {name}, "id": {command.ID}}, &struct{}{})
	}
	// It may have been carried out at the last moment.
	if now, view, e := s.one(ctx, name); e == nil && now.Status.Command == command.ID {
		return answer(cmd, now, view, command)
	}
	if err != nil {
		return fmt.Errorf("no leader has answered the command, and it cannot be taken back: it counts for %s at most: %w", shift.CommandLife, err)
	}
	return fmt.Errorf("no leader has answered the command within %s: it was taken back, and nothing has changed: look with causeway shift status %s", commandPatience, name)
}

// actor is who gives a command, where no API server knows better.
func actor() string {
	host, _ := os.Hostname() // who says more than where
	name := "unknown"
	if u, err := user.Current(); err == nil {
		name = u.Username
	}
	if sudo := os.Getenv("SUDO_USER"); sudo != "" {
		name = sudo
	}
	if host == "" {
		return name
	}
	return name + "@" + host
}

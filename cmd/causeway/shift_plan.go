package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/discovery/objects"
	"github.com/causeway-mesh/causeway/policy/phrase"
	"github.com/causeway-mesh/causeway/policy/shift"
	"github.com/causeway-mesh/causeway/policy/v1alpha1"
)

// planOptions are what a plan should know that a control plane cannot.
type planOptions struct {
	file       string
	peak       float64
	dailyUsers int64
	php        bool
	sessions   string
}

func shiftPlanCommand() *cobra.Command {
	var source shiftSource
	var output outputFlag
	var o planOptions
	c := &cobra.Command{
		Use:   "plan NAMESPACE/NAME | plan -f FILE",
		Short: "What the steps of a shift mean, and what to know before",
		Long: `What the steps of a shift mean: earliest end, users and load of each, pods
needed, and what should be known before traffic moves. With -f it is about a
TrafficShift that is not applied yet; a control plane that answers adds what
it has measured.`,
		Args: takes(0, 1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := o.shift(cmd.Context(), &source, args)
			if err != nil {
				return err
			}
			plan, err := shift.PlanOf(&s.Spec, o.input(cmd.Context(), &source, s))
			if err != nil {
				return err
			}
			return output.print(cmd, plan, func(t *phrase.Table) { t.Text(plan.String()) })
		},
	}
	c.Flags().StringVarP(&o.file, "file", "f", "", "YAML file with the TrafficShift")
	c.Flags().Float64Var(&o.peak, "peak", 0, "requests per second of the Service at its peak, if that is more than what is measured")
	c.Flags().Int64Var(&o.dailyUsers, "daily-users", 0, "users of the Service in a day")
	c.Flags().BoolVar(&o.php, "php", false, "the Service is PHP with sessions")
	c.Flags().StringVar(&o.sessions, "session-store", "", "with --php: where sessions are kept (session.save_handler), for example files or redis")
	source.add(c)
	output.add(c)
	return c
}

// shift returns the TrafficShift that the plan is about.
func (o *planOptions) shift(ctx context.Context, source *shiftSource, args []string) (*v1alpha1.TrafficShift, error) {
	switch {
	case (o.file == "") == (len(args) == 0):
		return nil, errors.New("name one TrafficShift: NAMESPACE/NAME, or -f FILE")
	case o.file == "":
		s, _, err := source.one(ctx, args[0])
		return s, err
	}
	text, err := os.ReadFile(o.file)
	if err != nil {
		return nil, fmt.Errorf("--file: %w", err)
	}
	for document := range strings.SplitSeq("\n"+string(text), "\n---") {
		data, err := yaml.YAMLToJSON([]byte(document))
		if err != nil {
			return nil, fmt.Errorf("--file: %s: %w", o.file, err)
		}
		var head struct{ APIVersion, Kind string }
		if err := yaml.Unmarshal(data, &head); err != nil || head.Kind != discovery.KindTrafficShift {
			continue
		}
		for _, k := range objects.Kinds() {
			if !k.Has(head.APIVersion, head.Kind) {
				continue
			}
			var rows objects.Rows
			if problems := k.Decode(data, "plan", &rows); len(problems) > 0 {
				return nil, fmt.Errorf("--file: %s: %w", o.file, problems[0])
			}
			return rows.Objects[0].Spec.(*v1alpha1.TrafficShift), nil
		}
	}
	return nil, fmt.Errorf("--file: %s has no TrafficShift of %s/%s", o.file, v1alpha1.Group, v1alpha1.Version)
}

// input returns the known data of the Service; it is empty if a control plane does not answer.
func (o *planOptions) input(ctx context.Context, source *shiftSource, s *v1alpha1.TrafficShift) shift.PlanInput {
	in := shift.PlanInput{
		DailyUsers: o.dailyUsers, Demand: shift.Demand{Peak: o.peak},
		Facts: &shift.Facts{PHP: o.php, SessionStore: o.sessions, BypassesUnknown: true},
	}
	if a := s.Status.Analysis; a != nil && s.Spec.Guard.Window.Duration > 0 {
		requests := int64(0)
		for _, f := range []*v1alpha1.ShiftFigures{a.Pods, a.Instances} {
			if f != nil {
				requests += f.Requests + f.StoodIn
			}
		}
		in.Demand.Now, in.Demand.Measured = float64(requests)/s.Spec.Guard.Window.Seconds(), s.Spec.Guard.Window.Duration
	}
	if o.peak > 0 {
		in.Demand.Measured = 24 * time.Hour // who states a peak knows the day
		if in.Demand.Now == 0 {
			in.Demand.Now = o.peak
		}
	}
	service := discovery.Key{Namespace: s.Namespace, Name: s.Spec.ServiceRef.Name}
	if services, err := source.admin.api().Endpoints(ctx, service.String()); err == nil {
		for i := range services {
			for _, e := range services[i].Endpoints {
				switch {
				case e.Health != discovery.Healthy.String():
				case e.Platform == discovery.Pods.String():
					in.Fleet.ReadyPods++
				case e.Platform == discovery.Instances.String():
					in.Fleet.InstancesInService++
				}
			}
		}
	}
	if proxies, err := source.admin.api().ProxyStatuses(ctx); err == nil {
		for i := range proxies {
			in.Facts.Proxies = append(in.Facts.Proxies, shift.ProxyFacts{Name: proxies[i].ID, Version: proxies[i].Version})
		}
	}
	return in
}

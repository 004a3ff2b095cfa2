package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/causeway-mesh/causeway/discovery"
	"github.com/causeway-mesh/causeway/policy/phrase"
)

// takes returns a check that a command gets the right number of arguments.
func takes(least, most int) cobra.PositionalArgs {
	return func(c *cobra.Command, args []string) error {
		if len(args) >= least && len(args) <= most {
			return nil
		}
		what := "no arguments"
		switch {
		case least == most && most > 0:
			what = phrase.Plural(most, "arguments")
		case most > 0:
			what = "at most " + phrase.Plural(most, "arguments")
		}
		got := "none"
		if len(args) > 0 {
			got = strings.Join(args, " ")
		}
		return fmt.Errorf("%s takes %s and got %s: write '%s' (%s)", called(c), what, got, synopsis(c), help(c))
	}
}

// synopsis is how a command is written, without its flags.
func synopsis(c *cobra.Command) string { return strings.TrimSuffix(c.UseLine(), " [flags]") }

// called returns a command's name without the program's; errors begin with it.
func called(c *cobra.Command) string {
	return strings.TrimPrefix(c.CommandPath(), c.Root().DisplayName()+" ")
}

func help(c *cobra.Command) string { return "'" + c.CommandPath() + " --help' says more" }

// unknownCommand reports that there is no such subcommand, and which was probably
// meant.
func unknownCommand(c *cobra.Command, written string) error {
	var names []string
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			names = append(names, sub.Name())
		}
	}
	text := fmt.Sprintf("there is no command '%s %s': ", c.CommandPath(), written)
	if near := discovery.Closest(written, names); near != "" {
		return fmt.Errorf("%sdid you mean '%s %s'? (%s)", text, c.CommandPath(), near, help(c))
	}
	return fmt.Errorf("%swrite one of %s (%s)", text, strings.Join(names, ", "), help(c))
}

// helpCommand is cobra's, but for a command that there is not.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [COMMAND]",
		Short: "Help about any command",
		RunE: func(cmd *cobra.Command, args []string) error {
			of, rest, err := cmd.Root().Find(args)
			if err == nil && len(rest) > 0 {
				err = unknownCommand(of, rest[0])
			}
			if err != nil {
				return err
			}
			return of.Help()
		},
	}
}

// wrongFlag reports what is wrong with a flag, and which was probably meant.
func wrongFlag(c *cobra.Command, err error) error {
	if args := c.Flags().Args(); c.HasSubCommands() && len(args) > 0 {
		return unknownCommand(c, args[0]) // the flag may be one of the command that was meant
	}
	if unknown, ok := errors.AsType[*pflag.NotExistError](err); ok {
		var names []string
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if !f.Hidden {
				names = append(names, f.Name)
			}
		})
		if near := discovery.Closest(unknown.GetSpecifiedName(), names); near != "" && unknown.GetSpecifiedShortnames() == "" {
			return fmt.Errorf("%s has no flag --%s: did you mean --%s? (%s)", called(c), unknown.GetSpecifiedName(), near, help(c))
		}
		return fmt.Errorf("%s has no flag %s: %s", called(c), strings.TrimPrefix(strings.TrimPrefix(err.Error(), "unknown flag: "), "unknown shorthand flag: "), help(c))
	}
	return fmt.Errorf("%w (%s)", err, help(c))
}

// helpWidth is how many columns help takes: those of the narrowest terminal in use.
const helpWidth = 80

// wrapHelp makes the help of a command, and of those below it, fit a terminal.
// It is code and not a template: with text/template in it the linker keeps
// every method of every type, and the binary is twice as large.
func wrapHelp(c *cobra.Command) {
	c.SetUsageFunc(usage)
	if completion, _, err := c.Find([]string{"completion"}); err == nil {
		for _, shell := range completion.Commands() {
			shell.Long = phrase.Wrap(shell.Long, helpWidth) // cobra's own words
		}
	}
}

// usage prints how a command is used, as cobra does.
func usage(c *cobra.Command) error {
	var b strings.Builder
	b.WriteString("Usage:")
	if c.Runnable() {
		b.WriteString("\n  " + c.UseLine())
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\n  " + c.CommandPath() + " [command]")
	}
	if c.HasExample() {
		b.WriteString("\n\nExamples:\n" + c.Example)
	}
	if c.HasAvailableSubCommands() {
		b.WriteString("\n\nAvailable Commands:")
		for _, sub := range c.Commands() {
			if sub.IsAvailableCommand() || sub.Name() == "help" {
				fmt.Fprintf(&b, "\n  %-*s %s", sub.NamePadding(), sub.Name(), sub.Short)
			}
		}
	}
	flags := func(title string, set *pflag.FlagSet) {
		if set.HasAvailableFlags() {
			b.WriteString("\n\n" + title + "\n" + strings.TrimRight(set.FlagUsagesWrapped(helpWidth), " \n"))
		}
	}
	flags("Flags:", c.LocalFlags())
	flags("Global Flags:", c.InheritedFlags())
	if c.HasAvailableSubCommands() {
		fmt.Fprintf(&b, "\n\nUse %q for more information about a command.", c.CommandPath()+" [command] --help")
	}
	_, err := fmt.Fprintln(c.OutOrStderr(), b.String())
	return err
}

// refuseWell gives a command and those below it errors with a remedy.
func refuseWell(c *cobra.Command) {
	if c.HasSubCommands() {
		c.Args = cobra.ArbitraryArgs // so that unknownCommand tells, and not cobra
		c.RunE = func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(c, args[0])
			}
			return c.Help()
		}
	}
	c.SetFlagErrorFunc(wrongFlag)
	for _, sub := range c.Commands() {
		refuseWell(sub)
	}
}

// meant returns a remedy for the name of an object that there is not.
func meant(missing discovery.Key, among []discovery.Key, otherwise string) string {
	if near := discovery.Meant(missing, among); near != (discovery.Key{}) {
		return "did you mean " + near.String() + "?"
	}
	return otherwise
}

// namedKeys returns the keys of "namespace/name" texts.
func namedKeys(names []string) []discovery.Key {
	out := make([]discovery.Key, len(names))
	for i, n := range names {
		out[i].Namespace, out[i].Name, _ = strings.Cut(n, "/")
	}
	return out
}

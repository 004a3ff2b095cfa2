// Run starts and ends the cluster of package cluster, for `make cluster-up` and `make
// cluster-down`.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/causeway-mesh/causeway/test/cluster"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx)
	stop()
	if err != nil {
		fmt.Fprintf(os.Stderr, "cluster: %v\n", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	if len(os.Args) == 3 && os.Args[1] == "init" { // by the cluster itself
		return cluster.Init(os.Args[2])
	}
	if len(os.Args) < 2 {
		return errors.New("usage: up | down | exec PROGRAM [ARGUMENT...]")
	}
	c, err := cluster.At("")
	if err != nil {
		return err
	}
	log, began := slog.New(slog.NewTextHandler(os.Stderr, nil)), time.Now()
	switch os.Args[1] {
	case "up":
		self, err := os.Executable()
		if err != nil {
			return err
		}
		images, err := cluster.Images()
		if err != nil {
			return err
		}
		if err := c.Up(ctx, log, self, images); err != nil {
			return err
		}
	case "down":
		if err := c.Down(ctx); err != nil {
			return err
		}
	case "exec":
		cmd := c.Command(ctx, os.Args[2], os.Args[3:]...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
		if err := c.Start(cmd); err != nil {
			return err
		}
		return cmd.Wait()
	default:
		return fmt.Errorf("there is no command %q", os.Args[1])
	}
	log.Info("done", "command", os.Args[1], "took", time.Since(began).Round(10*time.Millisecond))
	return nil
}

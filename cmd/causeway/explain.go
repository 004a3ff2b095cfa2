package main

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/spf13/cobra"

	"github.com/causeway-mesh/causeway/discovery/catalog"
	"github.com/causeway-mesh/causeway/discovery/file"
	"github.com/causeway-mesh/causeway/policy/explain"
	"github.com/causeway-mesh/causeway/xds/admin/client"
)

// errMeshAnswers says that the mesh itself answers the request with an
// error, which is printed already.
var errMeshAnswers = errors.New("the mesh answers with an error")

func explainCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "explain",
		Short: "What becomes of a request, or what an object causes",
	}
	c.AddCommand(explainRequestCommand(), explainObjectCommand())
	return c
}

// stateFlags tell `explain` where the mesh's state is: in a directory or a
// running control plane.
type stateFlags struct {
	config string
	admin  adminFlag
}

func (s *stateFlags) add(c *cobra.Command) {
	c.Flags().StringVar(&s.config, "config", "", "directory of YAML files to read instead of asking a control plane")
	s.admin.add(c)
}

// load reads the directory. It leaves out files with mistakes, as a control
// plane does, and tells so on the error output.
func (s *stateFlags) load(cmd *cobra.Command) (catalog.Reader, error) {
	cat := catalog.New()
	loaded, err := file.Load(s.config, cat)
	if err != nil {
		return catalog.Reader{}, err
	}
	for _, p := range loaded.Problems {
		fmt.Fprintf(cmd.ErrOrStderr(), "causeway: left out: %v\n", p)
	}
	return cat.Read(), nil
}

// asInput turns an answer of the admin API that blames the asker into an
// explain.InputError.
func asInput(err error) error {
	if e, ok := errors.AsType[*client.Error](err); ok && (e.Status == http.StatusBadRequest || e.Status == http.StatusNotFound) && e.Text != "" {
		return explain.InputError(e.Text)
	}
	return err
}

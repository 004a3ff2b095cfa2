package authority

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/causeway-mesh/causeway/discovery/durable"
)

// File keeps the root in a file of a state directory, which one control plane has locked. It is its user's alone.
type File struct{ Path string }

// Root implements Store.
func (f File) Root(_ context.Context, create func() ([]byte, error)) ([]byte, error) {
	text, err := os.ReadFile(f.Path)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("the root of the mesh's certificates: %w", err)
	default:
		return text, nil
	}
	if text, err = create(); err != nil {
		return nil, err
	}
	if err := durable.Replace(f.Path, text, nil); err != nil {
		return nil, fmt.Errorf("the root of the mesh's certificates: %w", err)
	}
	return text, nil
}

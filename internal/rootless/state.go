package rootless

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"

	"github.com/google/renameio/v2"

	"banger/internal/paths"
)

// state is what the file layout.NamespaceHolder() says. It is replaced as a whole,
// under the lock; who only looks reads it without.
type state struct {
	Holder process `json:"holder"`
	Pasta  process `json:"pasta"`
	Keeper process `json:"keeper"`
	// Forwards says that pasta passes on DNS queries to the host's loopback.
	Forwards bool `json:"dns_forward"`
}

// loadState returns the zero state if there is no file, or if it can't be
// read: then nothing of it is worth keeping.
func loadState(layout paths.Layout) (state, error) {
	var s state
	data, err := os.ReadFile(layout.NamespaceHolder())
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return s, fmt.Errorf("read the state of the namespaces: %w", err)
	}
	if json.Unmarshal(data, &s) != nil {
		return state{}, nil
	}
	return s, nil
}

// end ends all processes of the namespaces: first the one that would start
// others again.
func (s state) end(ctx context.Context) error {
	return errors.Join(s.Keeper.end(ctx), s.Pasta.end(ctx), s.Holder.end(ctx))
}

func (s state) save(layout paths.Layout) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("write the state of the namespaces: %w", err)
	}
	if err := renameio.WriteFile(layout.NamespaceHolder(), data, 0o600); err != nil {
		return fmt.Errorf("write the state of the namespaces: %w", err)
	}
	return nil
}

// Problems tells, a sentence each, what is missing of the namespaces although
// they exist.
func Problems(layout paths.Layout) []string {
	s, err := loadState(layout)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	if !s.Pasta.alive() {
		problems = append(problems, "VMs have no network: pasta isn't running; it is started again when that is possible, see the log")
	}
	if !s.Keeper.alive() {
		problems = append(problems, "nothing keeps VMs from addresses that the host gets from now on, or starts pasta again: banger daemon restart")
	}
	return problems
}

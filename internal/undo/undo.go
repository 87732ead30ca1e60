// Package undo collects the steps that take back multi-step work which failed
// half-way.
package undo

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// timeout bounds one undo step, so that a hanging one can't keep the others
// from running.
const timeout = 30 * time.Second

// Stack runs its steps in reverse order unless the work was kept:
//
//	u := undo.New()
//	defer func() { err = u.Finish(err) }()
//	… create a tap …
//	u.Add("remove tap", func(ctx context.Context) error { … })
//
// A Stack is not safe for concurrent use.
type Stack struct {
	steps []step
}

type step struct {
	what string
	do   func(context.Context) error
}

// New returns an empty stack.
func New() *Stack { return &Stack{} }

// Add pushes a step; what names it in error messages, verb first. The step's
// context is not that of the failed work, which may be cancelled already.
func (s *Stack) Add(what string, do func(context.Context) error) {
	s.steps = append(s.steps, step{what, do})
}

// Finish drops the steps if err is nil. Otherwise it runs them, last first,
// and returns err joined with whatever failed meanwhile.
func (s *Stack) Finish(err error) error {
	if err == nil {
		s.steps = nil
		return nil
	}
	errs := []error{err}
	for i := len(s.steps) - 1; i >= 0; i-- {
		if e := s.run(s.steps[i]); e != nil {
			errs = append(errs, e)
		}
	}
	s.steps = nil
	if len(errs) == 1 {
		return err
	}
	return errors.Join(errs...)
}

func (s *Stack) run(st step) error {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := st.do(ctx); err != nil {
		return fmt.Errorf("%s: %w", st.what, err)
	}
	return nil
}

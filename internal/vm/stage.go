package vm

import (
	"fmt"
	"slices"
)

// Stage is how far a VM has come since its last start. It is kept in the record,
// so that a bangerd that starts knows what to look for.
type Stage string

// The stages, in the order in which a VM goes through them.
const (
	StageDown      Stage = "down"      // it has no VMM
	StageLaunching Stage = "launching" // a VMM is being started; if there is one, the record doesn't have its handle
	StageBooting   Stage = "booting"   // the VMM runs, its guest has no configuration yet
	StageBooted    Stage = "booted"    // the guest has its configuration; its init works
	StageReady     Stage = "ready"     // its init has finished
)

// stages are all of them.
var stages = []Stage{StageDown, StageLaunching, StageBooting, StageBooted, StageReady}

// moves lists the stages that come next. Every stage can end: StageDown is in
// reach of all of them.
var moves = map[Stage][]Stage{
	StageDown:      {StageLaunching},
	StageLaunching: {StageBooting, StageDown},
	StageBooting:   {StageBooted, StageDown},
	StageBooted:    {StageReady, StageDown},
	StageReady:     {StageDown},
}

// hasVMM tells whether the record has the handle of a VMM at that stage.
func (s Stage) hasVMM() bool { return s == StageBooting || s.hasGuest() }

// hasGuest tells whether a guest has its configuration at that stage.
func (s Stage) hasGuest() bool { return s == StageBooted || s == StageReady }

// illegalMove is what a mistake of the program comes to. Tests panic.
var illegalMove = func(err error) error { return err }

// advance moves a record on, unless it isn't at from any more: its VMM may have
// ended meanwhile. A move that isn't in moves spoils the record, so that it isn't
// stored.
func (r *Record) advance(from, to Stage) bool {
	if !slices.Contains(moves[from], to) {
		r.broken = illegalMove(fmt.Errorf("a VM can't go from stage %q to %q", from, to))
		return false
	}
	if r.Stage != from {
		return false
	}
	r.Stage = to
	return true
}

// checkStage says what is wrong with a record's stage.
func (r *Record) checkStage() error {
	switch {
	case !slices.Contains(stages, r.Stage):
		return fmt.Errorf("there is no stage %q", r.Stage)
	case r.Stage.hasVMM() != (r.Handle != nil):
		return fmt.Errorf("its stage is %q, with which what it says of the VMM doesn't go together", r.Stage)
	}
	return nil
}

package session

import (
	"fmt"

	"banger/internal/api"
)

// LostError reports that the connection ended before the command did: how the
// command ended, or whether it did, is unknown, and output may be missing.
type LostError struct {
	Cause error
}

// Error says what happened.
func (e *LostError) Error() string {
	return fmt.Sprintf("lost the connection to the guest while the command ran: %v", e.Cause)
}

// Unwrap makes the error an *api.Error of code CodeGuest as well.
func (e *LostError) Unwrap() []error {
	seen := api.Errorf(api.CodeGuest, "%s", e.Error()).
		WithHint("the VM may have stopped: see `banger vm list` and `banger vm logs`")
	return []error{seen, e.Cause}
}

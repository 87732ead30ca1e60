package api

import (
	"context"
	"errors"
	"fmt"
)

// Code classifies an error for programs. Codes cross the wire and are stable.
type Code string

// The codes of every error that bangerd reports.
const (
	CodeInvalid   Code = "invalid"   // the request itself is wrong
	CodeNotFound  Code = "not_found" // the named thing does not exist
	CodeExists    Code = "exists"    // the name is taken
	CodeConflict  Code = "conflict"  // the thing's state forbids the action
	CodeHost      Code = "host"      // the host lacks a tool, a permission or space
	CodeTimeout   Code = "timeout"   // a deadline passed
	CodeGuest     Code = "guest"     // the guest refused or failed
	CodeDaemon    Code = "daemon"    // bangerd can't be started or reached
	CodeVersion   Code = "version"   // banger and bangerd are of different versions
	CodeCancelled Code = "cancelled" // the caller went away or pressed Ctrl-C
	CodeInternal  Code = "internal"  // a bug or an unforeseen failure
)

// Error is what a user sees of a failure: one sentence of what failed and
// why, and, where something can be done, one of what to do. It is the JSON
// body of every failed request and matches with errors.Is by its code:
//
//	errors.Is(err, api.ErrNotFound)
type Error struct {
	Code Code   `json:"code"`
	Msg  string `json:"message"`
	Hint string `json:"hint,omitempty"`
	// VM names the VM that was left behind on purpose, for instance after a
	// time-out; empty otherwise.
	VM string `json:"vm,omitempty"`
}

// Sentinels to match by code with errors.Is.
var (
	ErrInvalid   = &Error{Code: CodeInvalid}
	ErrNotFound  = &Error{Code: CodeNotFound}
	ErrExists    = &Error{Code: CodeExists}
	ErrConflict  = &Error{Code: CodeConflict}
	ErrHost      = &Error{Code: CodeHost}
	ErrTimeout   = &Error{Code: CodeTimeout}
	ErrGuest     = &Error{Code: CodeGuest}
	ErrDaemon    = &Error{Code: CodeDaemon}
	ErrVersion   = &Error{Code: CodeVersion}
	ErrCancelled = &Error{Code: CodeCancelled}
)

// Error returns the message without the hint.
func (e *Error) Error() string { return e.Msg }

// Is reports whether target is an *Error of the same code.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Code == e.Code && (t.Msg == "" || t.Msg == e.Msg)
}

// Errorf makes an Error without a hint.
func Errorf(code Code, format string, args ...any) *Error {
	return &Error{Code: code, Msg: fmt.Sprintf(format, args...)}
}

// WithHint returns a copy of e that tells what to do.
func (e *Error) WithHint(format string, args ...any) *Error {
	c := *e
	c.Hint = fmt.Sprintf(format, args...)
	return &c
}

// AsError turns any error into an *Error that keeps the whole message. A
// wrapped *Error keeps its code and hint; anything else is CodeInternal.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		c := *e
		c.Msg = err.Error()
		return &c
	}
	if errors.Is(err, context.Canceled) {
		return &Error{Code: CodeCancelled, Msg: err.Error()}
	}
	return &Error{Code: CodeInternal, Msg: err.Error()}
}

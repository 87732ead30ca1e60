package main

import (
	"fmt"
	"slices"
)

// judge prints the tests that were skipped, and reports whether each was
// expected to be. Of those that were expected and ran it only warns.
func (r *report) judge(list []expectation, condition func(string) bool) bool {
	answers := make(map[string]bool)
	known := func(c string) bool {
		if _, asked := answers[c]; !asked {
			answers[c] = condition(c)
		}
		return answers[c]
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.skipped) > 0 {
		r.write(fmt.Sprintf("%d tests skipped:\n", len(r.skipped)))
	}
	unexpected := 0
	for _, test := range r.skipped {
		i := slices.IndexFunc(list, func(e expectation) bool { return e.matches(test) && e.holds(known) })
		if i < 0 {
			unexpected++
			r.write(fmt.Sprintf("  UNEXPECTED %s: %s\n", test, r.reasons[test]))
			continue
		}
		r.write(fmt.Sprintf("  %s: %s\n", test, list[i].reason))
	}
	for _, e := range list {
		if slices.Contains(e.conditions, sometimes) || !e.holds(known) {
			continue
		}
		if slices.ContainsFunc(r.ran, e.matches) && !slices.ContainsFunc(r.skipped, e.matches) {
			r.write(fmt.Sprintf("warning: SKIPS, line %d: %s:%s is expected to be skipped (%s), but ran\n", e.line, e.pkg, e.test, e.reason))
		}
	}
	if unexpected > 0 {
		r.write(fmt.Sprintf("FAIL: %d tests were skipped that SKIPS doesn't expect to be on this machine\n", unexpected))
	}
	return unexpected == 0
}

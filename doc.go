// Package banger has no code: the programs are below cmd, the packages below
// internal. Start with docs/architecture.md. Its tests hold the whole module to
// the rules of the design.
package banger

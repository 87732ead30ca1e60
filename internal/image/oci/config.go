package oci

import (
	"fmt"
	"io"
	"maps"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Config is how the image's publisher wants it to be run, as in
// https://github.com/opencontainers/image-spec/blob/main/config.md.
type Config struct {
	Env          []string          `json:"env,omitempty"` // NAME=value
	WorkingDir   string            `json:"working_dir,omitempty"`
	User         string            `json:"user,omitempty"` // user, uid, user:group or uid:gid
	Entrypoint   []string          `json:"entrypoint,omitempty"`
	Cmd          []string          `json:"cmd,omitempty"`
	ExposedPorts []string          `json:"exposed_ports,omitempty"` // e.g. "80/tcp"
	Volumes      []string          `json:"volumes,omitempty"`       // directories
	StopSignal   string            `json:"stop_signal,omitempty"`
	Shell        []string          `json:"shell,omitempty"`
	Labels       map[string]string `json:"labels,omitempty"`
}

func newConfig(f *v1.ConfigFile) Config {
	c := f.Config
	return Config{
		Env:          c.Env,
		WorkingDir:   c.WorkingDir,
		User:         c.User,
		Entrypoint:   c.Entrypoint,
		Cmd:          c.Cmd,
		ExposedPorts: slices.Sorted(maps.Keys(c.ExposedPorts)),
		Volumes:      slices.Sorted(maps.Keys(c.Volumes)),
		StopSignal:   c.StopSignal,
		Shell:        c.Shell,
		Labels:       c.Labels,
	}
}

func readConfig(r io.Reader) (*v1.ConfigFile, error) {
	config, err := v1.ParseConfigFile(r)
	if err != nil {
		return nil, fmt.Errorf("read the image's configuration: %w", err)
	}
	return config, nil
}

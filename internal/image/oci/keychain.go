package oci

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/docker/cli/cli/config"
	"github.com/docker/cli/cli/config/configfile"
	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
)

// Keychain finds the credentials of earlier logins: podman's file that
// REGISTRY_AUTH_FILE names, docker's, then podman's usual ones. The library's
// own keychain looks at podman's only where docker has no configuration.
func Keychain() authn.Keychain {
	return authn.NewMultiKeychain(
		podmanKeychain{func() []string { return []string{os.Getenv("REGISTRY_AUTH_FILE")} }},
		authn.DefaultKeychain,
		podmanKeychain{podmanFiles},
	)
}

// podmanFiles are where podman keeps logins: containers-auth.json(5).
func podmanFiles() []string {
	var files []string
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	}
	files = append(files, filepath.Join("/run/containers", strconv.Itoa(os.Getuid()), "auth.json"))
	if dir, err := os.UserConfigDir(); err == nil {
		files = append(files, filepath.Join(dir, "containers", "auth.json"))
	}
	return files
}

// podmanKeychain reads files of the format of podman.
type podmanKeychain struct{ files func() []string }

// Resolve implements authn.Keychain.
func (k podmanKeychain) Resolve(target authn.Resource) (authn.Authenticator, error) {
	return k.ResolveContext(context.Background(), target)
}

// ResolveContext implements authn.ContextKeychain.
func (k podmanKeychain) ResolveContext(_ context.Context, target authn.Resource) (authn.Authenticator, error) {
	for _, file := range k.files() {
		if file == "" {
			continue
		}
		logins, err := readLogins(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
			continue
		}
		if err != nil {
			return nil, err
		}
		login, err := find(logins, target)
		if err != nil {
			return nil, fmt.Errorf("look up the login for %s in %s: %w", target.RegistryStr(), file, err)
		}
		if login != nil {
			return authn.FromConfig(*login), nil
		}
	}
	return authn.Anonymous, nil
}

func readLogins(file string) (*configfile.ConfigFile, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("open the logins: %w", err)
	}
	defer f.Close()
	logins, err := config.LoadFromReader(f)
	if err != nil {
		return nil, fmt.Errorf("read the logins in %s: %w", file, err)
	}
	return logins, nil
}

// find returns the login for the longest part of the target's name that has
// one, or nil.
func find(logins *configfile.ConfigFile, target authn.Resource) (*authn.AuthConfig, error) {
	for _, key := range keys(target) {
		if auth, ok := logins.AuthConfigs[key]; ok {
			return login(auth), nil
		}
	}
	for _, host := range hosts(target) {
		if logins.CredentialHelpers[host] == "" && logins.CredentialsStore == "" {
			continue
		}
		auth, err := logins.GetAuthConfig(host)
		if err != nil {
			return nil, err
		}
		if found := login(auth); *found != (authn.AuthConfig{}) {
			return found, nil
		}
	}
	return nil, nil
}

func login(a types.AuthConfig) *authn.AuthConfig {
	return &authn.AuthConfig{
		Username:      a.Username,
		Password:      a.Password,
		Auth:          a.Auth,
		IdentityToken: a.IdentityToken,
		RegistryToken: a.RegistryToken,
	}
}

// keys returns what podman may have filed a login under, for
// "quay.io/org/app" that, "quay.io/org" and "quay.io".
func keys(target authn.Resource) []string {
	var all []string
	_, repository, _ := strings.Cut(target.String(), "/")
	for repository != "" {
		for _, host := range hosts(target) {
			all = append(all, host+"/"+repository)
		}
		repository = repository[:max(0, strings.LastIndexByte(repository, '/'))]
	}
	return append(all, hosts(target)...)
}

// hosts returns the names of the target's registry.
func hosts(target authn.Resource) []string {
	if host := target.RegistryStr(); host != name.DefaultRegistry {
		return []string{host}
	}
	return []string{"docker.io", name.DefaultRegistry, authn.DefaultAuthKey}
}

package workspace

import (
	"slices"
	"strings"
)

// withoutCredentials takes user names, passwords and tokens out of a URL. SSH
// keeps the user, which is part of the address there (git@host). Anything that
// is no URL with a scheme comes back as it is; among that is the form
// user@host:path, which can't carry a password.
//
// It cuts by hand, because URLs that git accepts needn't be valid: a password
// may have any character in it.
func withoutCredentials(url string) string {
	scheme, rest, ok := strings.Cut(url, "://")
	if !ok {
		return url
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	authority, tail := rest[:end], rest[end:]
	if !strings.Contains(authority, "@") && !plainHost(authority) && strings.Contains(tail, "@") {
		// user:pass/word@host: the password runs over what looks like the end.
		all := authority + tail
		at := strings.LastIndexByte(all, '@')
		authority, tail = all[:at+1], all[at+1:]
		if end := strings.IndexAny(tail, "/?#"); end >= 0 {
			authority, tail = authority+tail[:end], tail[end:]
		} else {
			authority, tail = authority+tail, ""
		}
	}
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		user, host := authority[:at], authority[at+1:]
		authority = host
		if isSSH(scheme) {
			user, _, _ = strings.Cut(user, ":")
			authority = user + "@" + host
		}
	}
	return scheme + "://" + authority + withoutSecretParameters(tail)
}

// plainHost reports whether what follows a host's colon is a port.
func plainHost(authority string) bool {
	_, port, ok := strings.Cut(authority, ":")
	return !ok || strings.HasPrefix(authority, "[") || strings.Trim(port, "0123456789") == ""
}

func isSSH(scheme string) bool {
	return slices.Contains([]string{"ssh", "git+ssh", "ssh+git"}, strings.ToLower(scheme))
}

// withoutSecretParameters drops those of a URL's query that look like
// credentials.
func withoutSecretParameters(tail string) string {
	path, query, ok := strings.Cut(tail, "?")
	if !ok {
		return tail
	}
	parameters := slices.DeleteFunc(strings.Split(query, "&"), func(p string) bool {
		name, _, _ := strings.Cut(strings.ToLower(p), "=")
		for _, word := range []string{"token", "key", "pass", "secret", "auth", "sig"} {
			if strings.Contains(name, word) {
				return true
			}
		}
		return false
	})
	if len(parameters) == 0 {
		return path
	}
	return path + "?" + strings.Join(parameters, "&")
}

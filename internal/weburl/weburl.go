// Package weburl keeps URLs' secrets out of messages and requests from
// unencrypted ways.
package weburl

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"
)

// maxRedirects is as in net/http.
const maxRedirects = 10

// userinfo matches what may be one in what is no URL.
var userinfo = regexp.MustCompile(`//.*@`)

// Redact returns a URL to show or log: without user and password, since a token
// may be either, and without its query, which signs the URLs of object stores.
// What can't be parsed loses all up to its last "@".
func Redact(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil || u.Host == "" {
		address, _, hasQuery := strings.Cut(userinfo.ReplaceAllString(rawURL, "//"), "?")
		return address + mark(hasQuery)
	}
	u.User = nil
	hasQuery := u.RawQuery != ""
	u.RawQuery, u.ForceQuery = "", false
	u.Fragment, u.RawFragment = "", ""
	return u.String() + mark(hasQuery)
}

// mark stands for a query.
func mark(hasQuery bool) string {
	if hasQuery {
		return "?…"
	}
	return ""
}

// Error returns err, but redacts the URL if it is one of net/http or net/url:
// those leave in the user, the query and, if they can't parse it, all.
func Error(err error) error {
	var failed *url.Error
	if !errors.As(err, &failed) {
		return err
	}
	return &url.Error{Op: failed.Op, URL: Redact(failed.URL), Err: failed.Err}
}

// DowngradeError says that a server of HTTPS sends its client to one without
// encryption.
type DowngradeError struct{ URL string }

func (e *DowngradeError) Error() string {
	return fmt.Sprintf("it redirects to %s, which isn't encrypted", Redact(e.URL))
}

// CheckRedirect is for http.Client: it follows up to ten redirects, but none
// from https to http.
func CheckRedirect(req *http.Request, via []*http.Request) error {
	if len(via) >= maxRedirects {
		return errors.New("it redirects in circles")
	}
	return checkDowngrade(via[len(via)-1].URL, req.URL)
}

// Client returns a copy of c that follows no redirects from https to http,
// unless c has rules of its own. Nil stands for http.Client's zero value.
func Client(c *http.Client) *http.Client {
	var checked http.Client
	if c != nil {
		checked = *c
	}
	if checked.CheckRedirect == nil {
		checked.CheckRedirect = CheckRedirect
	}
	return &checked
}

// Transport returns a transport that follows no redirects from https to http,
// for clients whose CheckRedirect isn't ours to set.
func Transport(inner http.RoundTripper) http.RoundTripper { return transport{inner} }

type transport struct{ inner http.RoundTripper }

// RoundTrip sends a request, unless it is the consequence of such a redirect:
// http.Client notes with a request the answer that has caused it.
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	if cause := req.Response; cause != nil && cause.Request != nil {
		if err := checkDowngrade(cause.Request.URL, req.URL); err != nil {
			if req.Body != nil {
				err = errors.Join(err, req.Body.Close())
			}
			return nil, err
		}
	}
	return t.inner.RoundTrip(req)
}

func checkDowngrade(from, to *url.URL) error {
	if from.Scheme == "https" && to.Scheme != "https" {
		return &DowngradeError{to.String()}
	}
	return nil
}

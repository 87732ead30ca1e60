package download

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"banger/internal/weburl"
)

// errBadRange means that the server can't send what comes after the bytes that
// are there.
var errBadRange = errors.New("the server answered with another part of the file")

// request asks for what comes after the bytes that are there. If the server
// sends the whole file instead, it forgets them.
func (t *transfer) request(ctx context.Context) (io.ReadCloser, error) {
	req, err := t.newRequest(ctx)
	if err != nil {
		return nil, err
	}
	if t.have > 0 {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", t.have))
		if t.origin.Validator != "" {
			req.Header.Set("If-Range", t.origin.Validator)
		}
	}
	res, err := t.client.Do(req)
	if err != nil {
		return nil, weburl.Error(err) // it is logged
	}
	if err := t.accept(res); err != nil {
		res.Body.Close()
		return nil, err
	}
	return res.Body, nil
}

// accept judges an answer before its body is read.
func (t *transfer) accept(res *http.Response) error {
	switch res.StatusCode {
	case http.StatusOK:
		if err := t.restart(); err != nil {
			return err
		}
		t.total = max(0, res.ContentLength)
		t.origin = origin{URL: t.url.String(), Validator: validator(res.Header)}
		if err := writeOrigin(t.f, t.origin); err != nil {
			return err
		}
	case http.StatusPartialContent:
		start, total, ok := contentRange(res.Header.Get("Content-Range"))
		if !ok || t.have == 0 || start != t.have {
			return errBadRange
		}
		t.total = total
	case http.StatusRequestedRangeNotSatisfiable:
		return errBadRange
	default:
		return newStatusError(res)
	}
	if t.MaxBytes > 0 && t.total > t.MaxBytes {
		return t.tooLong()
	}
	return nil
}

// validator returns what identifies this version of a file, for If-Range; ""
// if nothing does. Weak entity tags don't.
func validator(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) {
		return tag
	}
	return h.Get("Last-Modified")
}

// contentRange parses a Content-Range (RFC 9110, section 14.4). total is 0 if
// the server doesn't tell it.
func contentRange(s string) (start, total int64, ok bool) {
	var end int64
	if n, err := fmt.Sscanf(s, "bytes %d-%d/%d", &start, &end, &total); n == 3 && err == nil {
		return start, total, true
	}
	n, err := fmt.Sscanf(s, "bytes %d-%d/*", &start, &end)
	return start, 0, n == 2 && err == nil
}

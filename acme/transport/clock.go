package transport

import (
	"net/http"
	"net/url"
	"time"
)

// Clock asks the CA for the time: the Date of its answer to one request for the head of its directory, whatever the answer is. It is zero if
// the answer has none, or came from the cache of a proxy.
func Clock(o *Operation) (time.Time, error) {
	directory, err := url.Parse(o.pool.settings.Directory)
	if err != nil {
		return time.Time{}, err
	}
	request, err := http.NewRequestWithContext(o.ctx, http.MethodHead, directory.String(), nil)
	if err != nil {
		return time.Time{}, err
	}
	request.Header.Set("User-Agent", o.pool.settings.UserAgent)
	target, err := o.target(directory)
	if err != nil {
		return time.Time{}, err
	}
	if err := o.spend(); err != nil {
		return time.Time{}, err
	}
	response, _, err := o.exchange(request, target) //nolint:bodyclose // exchange has read it
	if err != nil || response.Header.Get("Age") != "" {
		return time.Time{}, err
	}
	at, malformed := http.ParseTime(response.Header.Get("Date"))
	if malformed != nil {
		at = time.Time{} // as if there were none
	}
	return at, nil
}

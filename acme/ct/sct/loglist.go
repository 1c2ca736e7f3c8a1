package sct

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// maxList limits a file with a log list, in bytes. Google's has 100 KB.
const maxList = 8 << 20

// Logs are the logs of a list, by their IDs.
type Logs map[[32]byte]Log

// Log is a log of certificate transparency.
type Log struct {
	Name     string // its description
	Operator string
	State    string    // pending, qualified, usable, readonly, retired or rejected; "" if the list does not say it
	Since    time.Time // since when it has this state
	Start    time.Time // it takes certificates that expire from then on; zero if any
	End      time.Time // and before this time; zero if any

	key crypto.PublicKey
}

// listed is what is read of Google's log list, version 3 (www.gstatic.com/ct/log_list/v3/log_list_schema.json).
type listed struct {
	Operators []struct {
		Name  string      `json:"name"`
		Logs  []listedLog `json:"logs"`
		Tiled []listedLog `json:"tiled_logs"` // those that speak static-ct
	} `json:"operators"`
}

type listedLog struct {
	Description string `json:"description"`
	ID          []byte `json:"log_id"`
	Key         []byte `json:"key"`
	State       map[string]struct {
		Timestamp time.Time `json:"timestamp"`
	} `json:"state"`
	Interval struct {
		Start time.Time `json:"start_inclusive"`
		End   time.Time `json:"end_exclusive"`
	} `json:"temporal_interval"`
}

// ReadLogs reads a file with a log list in JSON, version 3.
func ReadLogs(path string) (Logs, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxList+1))
	if err != nil {
		return nil, err
	}
	logs, err := ParseLogs(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return logs, nil
}

// ListTime returns when a file with a log list was made, as the list says; if it does not say it, when the file was written.
func ListTime(path string) (time.Time, error) {
	f, err := os.Open(path)
	if err != nil {
		return time.Time{}, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return time.Time{}, err
	}
	var said struct {
		At time.Time `json:"log_list_timestamp"`
	}
	if err := json.NewDecoder(io.LimitReader(f, maxList)).Decode(&said); err != nil {
		return time.Time{}, fmt.Errorf("%s: this is no log list in JSON, version 3", path)
	}
	if said.At.IsZero() {
		return info.ModTime(), nil
	}
	return said.At, nil
}

// ParseLogs reads the text of a log list in JSON, version 3. A log whose key cannot be used is left out: a new kind of key must not make the
// others useless.
func ParseLogs(text []byte) (Logs, error) {
	if len(text) > maxList {
		return nil, fmt.Errorf("a log list has at most %d MB", maxList>>20)
	}
	var l listed
	if err := json.Unmarshal(text, &l); err != nil {
		return nil, errors.New("this is no log list in JSON, version 3")
	}
	logs := Logs{}
	for _, operator := range l.Operators {
		for _, entries := range [][]listedLog{operator.Logs, operator.Tiled} {
			for _, entry := range entries {
				key, err := x509.ParsePKIXPublicKey(entry.Key)
				id := sha256.Sum256(entry.Key)
				if err != nil || string(id[:]) != string(entry.ID) {
					continue
				}
				log := Log{Name: entry.Description, Operator: operator.Name, Start: entry.Interval.Start, End: entry.Interval.End, key: key}
				for state, since := range entry.State {
					log.State, log.Since = state, since.Timestamp
				}
				logs[id] = log
			}
		}
	}
	if len(logs) == 0 {
		return nil, errors.New("the file has no log of a log list, version 3")
	}
	return logs, nil
}

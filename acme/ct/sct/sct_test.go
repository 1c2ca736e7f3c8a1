package sct_test

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"mxcert/acme/ct/cttest"
	"mxcert/acme/ct/sct"
)

const month = 30 * 24 * time.Hour

// A certificate, its pre-certificate and what the logs signed are about the same bytes.
func TestPrecertificateIsTheSame(t *testing.T) {
	t.Parallel()
	ca, log := cttest.NewCA(t, "CA"), cttest.NewLog(t, "one")
	certificate, pre := ca.Issue(t, cttest.Template(t, time.Now().Add(month), "mx.example.org"), cttest.Key(t).Public(), log)
	if sct.Hash(certificate) != sct.Hash(pre) || len(sct.Hash(pre)) != 64 {
		t.Errorf("%s and %s", sct.Hash(certificate), sct.Hash(pre))
	}
	if !sct.IsPrecertificate(pre) || sct.IsPrecertificate(certificate) {
		t.Error("the pre-certificate is not recognised")
	}
	plain := ca.Embed(t, cttest.Template(t, time.Now().Add(month), "mx.example.org"), cttest.Key(t).Public(), nil)
	if tbs, err := sct.TBS(plain); err != nil || string(tbs) != string(plain.RawTBSCertificate) {
		t.Error("a certificate without SCTs has another TBSCertificate")
	}
	sum := sha256.Sum256(plain.RawTBSCertificate)
	if sct.Hash(plain) != hex.EncodeToString(sum[:]) {
		t.Error("the hash is another one")
	}
	if _, err := sct.Embedded(plain); !errors.Is(err, sct.ErrNone) {
		t.Errorf("%v", err)
	}
}

func TestVerify(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ca, other := cttest.NewCA(t, "CA"), cttest.NewCA(t, "other CA")
	one, two, tiled, stranger := cttest.NewLog(t, "one"), cttest.NewLog(t, "two"), cttest.NewLog(t, "tiled"), cttest.NewLog(t, "stranger")
	ended, retired, rejected := cttest.NewLog(t, "ended"), cttest.NewLog(t, "retired"), cttest.NewLog(t, "rejected")
	logs, err := sct.ParseLogs(cttest.LogList(t, cttest.Listed{Log: one}, cttest.Listed{Log: two}, cttest.Listed{Log: tiled, Tiled: true, Start: now, End: now.Add(12 * month)},
		cttest.Listed{Log: ended, Start: now.Add(-12 * month), End: now}, cttest.Listed{Log: retired, State: "retired", Since: now.Add(-month)}, cttest.Listed{Log: rejected, State: "rejected"}))
	if err != nil || len(logs) != 6 {
		t.Fatal(err, len(logs))
	}
	template, key := cttest.Template(t, now.Add(month), "mx.example.org", "*.example.org"), cttest.Key(t)
	sign := func(l *cttest.Log, at time.Time) []byte {
		_, pre := ca.Issue(t, template, key.Public())
		return l.Sign(t, pre, ca.Certificate, at)
	}
	broken := sign(one, now)
	broken[len(broken)-1] ^= 1
	hash := sign(one, now)
	hash[43] = 2 // SHA-1
	for _, tt := range []struct {
		name string
		sct  []byte
		want string
	}{
		{"good", sign(one, now), ""},
		{"good, static-ct", sign(tiled, now), ""},
		{"an old one of a retired log", sign(retired, now.Add(-2*month)), ""},
		{"a new one of a retired log", sign(retired, now), "retired before"},
		{"a log that is not listed", sign(stranger, now), "does not have this log"},
		{"a changed signature", broken, "not that of"},
		{"another hash", hash, "not that of"},
		{"the future", sign(one, now.Add(time.Hour)), "in the future"},
		{"a log for other dates", sign(ended, now), "does not take certificates"},
		{"a rejected log", sign(rejected, now), "is rejected"},
	} {
		c := ca.Embed(t, template, key.Public(), cttest.List(sign(two, now), tt.sct))
		list, err := sct.Embedded(c)
		if err != nil || len(list) != 2 {
			t.Fatalf("%s: %v", tt.name, err)
		}
		if err := list[0].Verify(c, ca.Certificate, logs, now); err != nil {
			t.Errorf("%s: the first SCT: %v", tt.name, err)
		}
		err = list[1].Verify(c, ca.Certificate, logs, now)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v", tt.name, err)
		}
		if err := list[0].Verify(c, other.Certificate, logs, now); err == nil {
			t.Errorf("%s: the signature covers another issuer", tt.name)
		}
		if again := ca.Embed(t, cttest.Template(t, now.Add(month), "mx.example.org"), key.Public(), cttest.List(sign(two, now))); list[0].Verify(again, ca.Certificate, logs, now) == nil {
			t.Errorf("%s: the signature covers another certificate", tt.name)
		}
	}
}

// A list that is cut anywhere is an error, and never a shorter list.
func TestDamagedList(t *testing.T) {
	t.Parallel()
	ca, log := cttest.NewCA(t, "CA"), cttest.NewLog(t, "one")
	template, key := cttest.Template(t, time.Now().Add(month), "mx.example.org"), cttest.Key(t)
	_, pre := ca.Issue(t, template, key.Public())
	good := cttest.List(log.Sign(t, pre, ca.Certificate, time.Now()), log.Sign(t, pre, ca.Certificate, time.Now()))
	for n := range len(good) {
		if list, err := sct.Embedded(ca.Embed(t, template, key.Public(), good[:n:n])); err == nil && n > 0 {
			t.Fatalf("%d of %d bytes are %d SCTs", n, len(good), len(list))
		}
	}
	late := log.Sign(t, pre, ca.Certificate, time.Now())
	binary.BigEndian.PutUint64(late[33:], 1<<63)
	second := log.Sign(t, pre, ca.Certificate, time.Now())
	second[0] = 1
	var many [][]byte
	for range 33 {
		many = append(many, late[:0:0])
	}
	for name, list := range map[string][]byte{"a byte more": append(good[:len(good):len(good)], 0), "empty": {0, 0}, "the year 292 million": cttest.List(late), "version 2": cttest.List(second), "many": cttest.List(many...)} {
		if _, err := sct.Embedded(ca.Embed(t, template, key.Public(), list)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLogListIsBad(t *testing.T) {
	t.Parallel()
	one, two := cttest.NewLog(t, "one"), cttest.NewLog(t, "two")
	good := string(cttest.LogList(t, cttest.Listed{Log: one}, cttest.Listed{Log: two}))
	id := sha256.Sum256(one.SPKI(t))
	for name, text := range map[string]string{"empty": "", "HTML": "<html>", "no logs": `{"operators": []}`, "version 2": `{"operators": [{"name": "x", "logs": [{"key": "!"}]}]}`, "a number": "7"} {
		if logs, err := sct.ParseLogs([]byte(text)); err == nil {
			t.Errorf("%s: %d logs", name, len(logs))
		}
	}
	// A key that is not what the ID says is left out.
	forged := strings.Replace(good, `"log_id":"`, `"log_id":"AAAA`, 1)
	logs, err := sct.ParseLogs([]byte(forged))
	if _, there := logs[id]; err == nil && there && len(logs) == 2 {
		t.Error("a log with a wrong ID counts")
	}
	path := filepath.Join(t.TempDir(), "list.json")
	if err := os.WriteFile(path, []byte(good), 0o600); err != nil {
		t.Fatal(err)
	}
	if logs, err := sct.ReadLogs(path); err != nil || logs[id].Name != "one" || logs[id].Operator != "Operator" || logs[id].State != "usable" {
		t.Errorf("%v, %+v", err, logs[id])
	}
	if _, err := sct.ReadLogs(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}

func FuzzEmbedded(f *testing.F) {
	ca, log := cttest.NewCA(f, "CA"), cttest.NewLog(f, "one")
	template, key := cttest.Template(f, time.Now().Add(month), "mx.example.org"), cttest.Key(f)
	c, _ := ca.Issue(f, template, key.Public(), log)
	var at int
	for i, e := range c.Extensions {
		if e.Id.String() == "1.3.6.1.4.1.11129.2.4.2" {
			f.Add(e.Value)
			at = i
		}
	}
	logs, err := sct.ParseLogs(cttest.LogList(f, cttest.Listed{Log: log}))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, value []byte) {
		changed := *c
		changed.Extensions = append(c.Extensions[:0:0], c.Extensions...)
		changed.Extensions[at].Value = value
		list, err := sct.Embedded(&changed)
		if err == nil && len(list) == 0 {
			t.Error("no SCT and no error")
		}
		for _, s := range list {
			_ = s.Verify(&changed, ca.Certificate, logs, time.Now())
			if s.At.Year() > 9999 {
				t.Error(s.At)
			}
		}
	})
}

// FuzzParseLogs: whatever a log list is, it is an error, or logs with keys that fit their IDs.
func FuzzParseLogs(f *testing.F) {
	one, two := cttest.NewLog(f, "one"), cttest.NewLog(f, "two")
	f.Add(cttest.LogList(f, cttest.Listed{Log: one, State: "retired", Since: time.Now()}, cttest.Listed{Log: two, Tiled: true, Start: time.Now(), End: time.Now()}))
	f.Add([]byte(`{"operators":[{"logs":[{"key":"","log_id":"47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=","state":{"usable":{},"rejected":null}}]}]}`))
	ca := cttest.NewCA(f, "CA")
	c, _ := ca.Issue(f, cttest.Template(f, time.Now().Add(month), "mx.example.org"), cttest.Key(f).Public(), one, two)
	list, err := sct.Embedded(c)
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		logs, err := sct.ParseLogs(text)
		if err == nil && len(logs) == 0 {
			t.Error("no log and no error")
		}
		for _, s := range list {
			err := s.Verify(c, ca.Certificate, logs, time.Now())
			if _, listed := logs[s.Log]; !listed && !errors.Is(err, sct.ErrUnknownLog) {
				t.Errorf("a log that is not listed: %v", err)
			}
		}
	})
}

package fleet

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"

	"mxcert/acme/bundle"
	"mxcert/acme/fleet/seal"
)

// sign makes a value of a payload, whatever it is.
func sign(t testing.TB, identity *seal.Identity, k kind, payload any) []byte {
	t.Helper()
	value, err := wrap(identity, k, payload)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

// change returns a JSON object with another value in a field.
func change(t testing.TB, object []byte, field string, to any) []byte {
	t.Helper()
	fields := map[string]any{}
	if err := json.Unmarshal(object, &fields); err != nil {
		t.Fatal(err)
	}
	fields[field] = to
	text, err := json.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// payloadOf returns the payload of a value.
func payloadOf(t testing.TB, value []byte) []byte {
	t.Helper()
	e, err := parse(value, "k")
	if err != nil {
		t.Fatal(err)
	}
	return e.Payload
}

func TestWhatIsNoValueOfMxcertIsRefused(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	b := newBundle(t, "mx.example.org")
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		t.Fatal(err)
	}
	stranger := newIdentity(t)
	for name, c := range map[string]struct {
		value []byte
		id    string
	}{
		"nothing":             {nil, Truncated},
		"garbage":             {[]byte("\x00\xff CANARY"), Truncated},
		"null":                {[]byte("null"), Truncated},
		"a number":            {[]byte("1"), Truncated},
		"a list":              {[]byte("[]"), Truncated},
		"an empty object":     {[]byte("{}"), Truncated},
		"a version alone":     {[]byte(`{"version":1}`), Truncated},
		"version 0":           {change(t, value, "version", 0), Truncated},
		"a fraction":          {change(t, value, "version", 1.5), Truncated},
		"version 2":           {[]byte(`{"version":2,"other":[{"CANARY":1}]}`), LaterVersion},
		"version 2, all else": {change(t, value, "version", 2), LaterVersion},
		"two objects":         {append(bytes.Clone(value), value...), Truncated},
		"a byte more":         {append(bytes.Clone(value), '.'), Truncated},
		"very long":           {bytes.Repeat([]byte(" "), maxValue+1), Truncated},
		"very deep":           {[]byte(strings.Repeat(`{"version":`, 5000)), Truncated},
		"very deep lists":     {[]byte(`{"version":1,"payload":` + strings.Repeat("[", 50000)), Truncated},
		"very many":           {[]byte(`{"version":1,"x":[` + strings.Repeat("1,", 60000) + `1]}`), Truncated},
		"payload of a number": {change(t, value, "payload", 7), Truncated},
		"payload not base64":  {change(t, value, "payload", "CANARY!"), Truncated},
		"another payload":     {change(t, value, "payload", []byte(`{"version":1}`)), Forged},
		"no signature":        {change(t, value, "signature", nil), Truncated},
		"an empty signature":  {change(t, value, "signature", []byte{}), Truncated},
		"a short signature":   {change(t, value, "signature", []byte("CANARY")), Forged},
		"zeros":               {change(t, value, "signature", make([]byte, 64)), Forged},
		"another signer":      {change(t, value, "signer", string(v[1].identity.Recipient())), Forged},
		"an unknown signer":   {change(t, value, "signer", string(stranger.Recipient())), Forged},
		"a signer of garbage": {change(t, value, "signer", strings.Repeat("\x1b[31mCANARY", 5000)), Forged},
		"of a stranger":       {sign(t, stranger, kindBundle, json.RawMessage(payloadOf(t, value))), Forged},
		"for another purpose": {sign(t, v[0].identity, kindOrder, json.RawMessage(payloadOf(t, value))), Forged},
		"a payload of 2":      {sign(t, v[0].identity, kindBundle, json.RawMessage(change(t, payloadOf(t, value), "version", 2))), LaterVersion},
		"a list as payload":   {sign(t, v[0].identity, kindBundle, []int{1}), Truncated},
		"a name of a number":  {sign(t, v[0].identity, kindBundle, map[string]int{"version": 1, "name": 7}), Truncated},
	} {
		shared, err := v[1].openBundle(c.value, "mx", bundle.EC256, 0)
		wantRefused(t, name, err, c.id)
		if shared != nil {
			t.Errorf("%s: it is opened all the same", name)
		}
		if err != nil && (len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\x1b\x00\n") || !utf8.ValidString(err.Error())) {
			t.Errorf("%s: foreign text is in the error as it is: %q", name, err)
		}
	}
}

// Whatever happens to a value on its way, it is refused, or says the same.
func TestEachTruncationAndEachFlippedBitIsNoticed(t *testing.T) {
	v := newVaults(t, "berlin", 2)
	b := newBundle(t, "mx.example.org")
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		t.Fatal(err)
	}
	var opened int
	for i := range value {
		_, err := v[1].openBundle(value[:i], "mx", bundle.EC256, 0)
		wantRefused(t, "truncated", err, Truncated)
		damaged := bytes.Clone(value)
		damaged[i] ^= 1 << (i % 8)
		got, err := v[1].openBundle(damaged, "mx", bundle.EC256, 0)
		var r *Refused
		switch {
		case err == nil && got.Bundle.Same(b) && got.Generation == 7:
			opened++ // the case of a field's name
		case !errors.As(err, &r) || r.ID != Truncated && r.ID != Forged && r.ID != LaterVersion:
			t.Errorf("byte %d: got %v, %v", i, got, err)
		}
	}
	if opened > 40 {
		t.Errorf("%d flipped bits were not noticed, more than the names of fields have letters", opened)
	}
}

func TestAnEnvelopeThatIsTooLargeIsNotWritten(t *testing.T) {
	if value, err := wrap(newIdentity(t), kindNote, strings.Repeat("x", maxValue)); err == nil {
		t.Errorf("a value of %d bytes is written", len(value))
	}
	if _, err := wrap(newIdentity(t), kindNote, func() {}); err == nil {
		t.Error("a function is written")
	}
}

func FuzzOpenBundle(f *testing.F) {
	v := newVaults(f, "berlin", 2)
	b := newBundle(f, "mx.example.org")
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(value)
	f.Add([]byte(`{"version":1,"payload":"e30=","signer":"age1","signature":"AA=="}`))
	f.Add([]byte(`{"version":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := v[1].openBundle(text, "mx", bundle.EC256, 0)
		if err == nil && (!got.Bundle.Same(b) || got.Generation != 7) {
			t.Errorf("another bundle was accepted: %+v", got)
		}
		var r *Refused
		if err != nil && !errors.As(err, &r) {
			t.Errorf("the error is %v, no refusal", err)
		}
		if err != nil && len(err.Error()) > 600 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	})
}

// FuzzPayload has a signer whom hosts trust and who writes anything.
func FuzzPayload(f *testing.F) {
	v := newVaults(f, "berlin", 2)
	b := newBundle(f, "mx.example.org")
	value, err := v[0].sealBundle("mx", 7, generationOf(b), b)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(payloadOf(f, value))
	f.Add([]byte(`{"version":1,"fleet":"berlin","name":"mx","key_type":"ec256","generation":1,"sealed":"AA=="}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		signed, err := json.Marshal(envelope{1, payload, v[0].identity.Recipient(), v[0].identity.Sign(kindBundle.purpose(), payload)})
		if err != nil {
			t.Fatal(err)
		}
		got, err := v[1].openBundle(signed, "mx", bundle.EC256, 0)
		var r *Refused
		if err != nil && !errors.As(err, &r) {
			t.Errorf("the error is %v, no refusal", err)
		}
		if err == nil && got.Bundle.SPKI() != b.SPKI() {
			t.Errorf("another key was accepted: %+v", got)
		}
	})
}

package starttls

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"time"
)

// everything offers what OpenSSL and GnuTLS can do, and reads the server's first answer. It tells a server that crypto/tls cannot speak with
// from one that refuses everybody, such as a server whose certificate does not fit its key. It always returns an error, because the
// handshake cannot go on from there.
func (s *session) everything() error {
	if err := s.conn.SetDeadline(time.Now().Add(s.request.StepTimeout)); err != nil {
		return s.ioError(StepTLS, err)
	}
	if _, err := s.conn.Write(clientHello(s.request.ServerName, s.request.KeyType == Everything)); err != nil {
		return s.ioError(StepTLS, err)
	}
	var answer [7]byte // the header of a record, and either the level and the number of an alert or the type of a handshake message
	if _, err := io.ReadFull(s.in, answer[:]); err != nil {
		return s.ioError(StepTLS, err)
	}
	const alert, handshake, serverHello = 21, 22, 2
	switch {
	case answer[0] == handshake && answer[5] == serverHello:
		return s.fail(StepTLS, KindNotJudged, "the server speaks with senders that offer what Go's TLS library lacks")
	case answer[0] == alert && answer[6] == alertProtocolVersion:
		return s.fail(StepTLS, KindTLSVersion, "the server accepts none of the offered TLS versions")
	case answer[0] == alert:
		e := s.fail(StepTLS, KindValidationFailure, "the server refuses all that senders offer (alert %d): it may have no usable certificate", answer[6])
		e.Alert = answer[6]
		return e
	}
	return s.fail(StepTLS, KindValidationFailure, "the server does not answer with TLS")
}

// clientHello returns a ClientHello (RFC 8446 section 4.1.2) in one record, with the cipher suites, groups and signature algorithms of all
// senders: of modern ones with TLS 1.3, or of older ones with TLS 1.2. Modern ones also name finite field groups. A server that lacks these
// groups must then refuse DHE (RFC 7919 section 4), which it would do with an older sender. The key share is a random one, because nobody
// goes on with it.
func clientHello(serverName string, modern bool) []byte {
	random := make([]byte, 32+32+32)                                                                  // random, session ID, key share
	_, _ = rand.Read(random)                                                                          // never fails
	groups := numbers(0x001d, 0x0017, 0x001e, 0x0018, 0x0019, 0x0016, 0x0015, 0x001a, 0x001b, 0x001c) // X25519, P-256, X448, P-384, P-521, secp256k1, P-224, brainpool
	if modern {
		groups = append(groups, numbers(0x001f, 0x0020, 0x0021, 0x0100, 0x0101, 0x0102, 0x0103, 0x0104, 0x11ec, 0x11eb, 0x11ed)...) // brainpool of TLS 1.3, ffdhe, ML-KEM
	}
	extensions := concat(
		extension(0x000b, vector8([]byte{0})), // uncompressed points
		extension(0x000a, vector16(groups)),
		extension(0x000d, vector16(numbers(
			0x0403, 0x0503, 0x0603, 0x0807, 0x0808, 0x081a, 0x081b, 0x081c, // ECDSA, Ed25519, Ed448, brainpool
			0x0809, 0x080a, 0x080b, 0x0804, 0x0805, 0x0806, 0x0401, 0x0501, 0x0601, 0x0303, 0x0301, // RSA-PSS, RSA, with SHA-224
			0x0203, 0x0201, 0x0402, 0x0502, 0x0602, 0x0202, // SHA-1, DSA
		))),
		extension(0x0017, nil), // extended master secret
	)
	if modern {
		extensions = concat(extensions,
			extension(0x002b, vector8(numbers(0x0304, 0x0303, 0x0302, 0x0301))),
			extension(0x002d, vector8([]byte{1})),
			extension(0x0033, vector16(concat(numbers(0x001d), vector16(random[64:])))),
		)
	}
	if isName(serverName) {
		extensions = append(extensions, extension(0x0000, vector16(concat([]byte{0}, vector16([]byte(serverName)))))...)
	}
	body := concat(numbers(0x0303), random[:32], vector8(random[32:64]),
		vector16(numbers(
			0x1301, 0x1302, 0x1303, 0x1304, 0x1305,
			0xc02b, 0xc02c, 0xc02f, 0xc030, 0xcca8, 0xcca9, 0xc0ac, 0xc0ad, 0xc0ae, 0xc0af, 0xc023, 0xc024, 0xc027, 0xc028, 0xc009, 0xc00a, 0xc013, 0xc014,
			0x009e, 0x009f, 0xccaa, 0xc09e, 0xc09f, 0xc0a2, 0xc0a3, 0x0067, 0x006b, 0x0033, 0x0039, 0x00a2, 0x00a3, 0x0032, 0x0038, // DHE
			0xc05c, 0xc05d, 0xc060, 0xc061, 0xc052, 0xc053, 0xc072, 0xc073, 0xc076, 0xc077, 0xc086, 0xc087, 0xc08a, 0xc08b, 0xc07c, 0xc07d, 0x0045, 0x0088, // ARIA, Camellia
			0x009c, 0x009d, 0xc09c, 0xc09d, 0xc0a0, 0xc0a1, 0x003c, 0x003d, 0x002f, 0x0035, 0x0041, 0x0084, // RSA key exchange
			0x00ff, // secure renegotiation
		)),
		vector8([]byte{0}), vector16(extensions))
	message := concat([]byte{1, 0}, vector16(body))
	return concat([]byte{22, 3, 1}, vector16(message))
}

// isName reports whether a name can be sent in SNI (RFC 6066 section 3): an address cannot.
func isName(name string) bool {
	_, err := netip.ParseAddr(strings.Trim(name, "[]"))
	return name != "" && len(name) < 256 && err != nil
}

func numbers(list ...uint16) (out []byte) {
	for _, n := range list {
		out = binary.BigEndian.AppendUint16(out, n)
	}
	return out
}

func vector8(content []byte) []byte  { return append([]byte{byte(len(content))}, content...) }
func vector16(content []byte) []byte { return append(numbers(uint16(len(content))), content...) }

func extension(number uint16, content []byte) []byte {
	return concat(numbers(number), vector16(content))
}

func concat(parts ...[]byte) (out []byte) {
	for _, part := range parts {
		out = append(out, part...)
	}
	return out
}

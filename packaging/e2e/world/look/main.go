// Look asks the questions on its standard input ("NAME TYPE", one a line) as the product does, by acme/resolve, and prints an Answer in JSON
// for each, in the same order. With "SERVED" for the type, it asks every authoritative server for TLSA records, and verifies what they answer;
// Served has their answers. It runs in a host of a world, where the resolver is another than the test's.
package main

import (
	"bufio"
	"context"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"mxcert/acme/resolve"
)

// An Answer is what the product knows of an RRset.
type Answer struct {
	resolve.Answer
	Records int
	Failure string // of Err, as people read it
	Took    time.Duration
	Served  []Served
}

// Served is what one authoritative server answers.
type Served struct {
	Address, Fault string
	Records        int
	Signature      resolve.Signature
	Since, Until   time.Time
}

func main() {
	resolver := flag.String("resolver", "127.0.0.1:53", "the resolver: an address with a port")
	trusted := flag.String("trust", "", "resolvers whose validation counts, separated by commas")
	parallel := flag.Int("parallel", 4, "questions at a time")
	roots := flag.String("roots", "", "a file with the roots of resolvers over TLS")
	timeout := flag.Duration("timeout", 30*time.Second, "of one question")
	flag.Parse()
	r := resolve.New([]string{*resolver})
	if *trusted != "" {
		r.Trust(strings.Split(*trusted, ",")...)
	}
	if *roots != "" {
		pool, err := readRoots(*roots)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		r.Roots(pool)
	}
	var questions []string
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		questions = append(questions, lines.Text())
	}
	answers := make([]Answer, len(questions))
	var group sync.WaitGroup
	slots := make(chan struct{}, *parallel)
	for i, question := range questions {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			ctx, cancel := context.WithTimeout(context.Background(), *timeout)
			defer cancel()
			name, kind, _ := strings.Cut(question, " ")
			answers[i] = look(ctx, r, name, kind)
		})
	}
	group.Wait()
	out := json.NewEncoder(os.Stdout)
	for _, a := range answers {
		if err := out.Encode(a); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

func readRoots(path string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(path)
	pool := x509.NewCertPool()
	if err == nil && !pool.AppendCertsFromPEM(pem) {
		err = fmt.Errorf("%s: no certificates", path)
	}
	return pool, err
}

func look(ctx context.Context, r *resolve.Resolver, name, kind string) Answer {
	began := time.Now()
	var a resolve.Answer
	var records int
	switch kind {
	case "A":
		a, records = counted(r.LookIPv4(ctx, name))
	case "AAAA":
		a, records = counted(r.LookIPv6(ctx, name))
	case "MX":
		a, records = counted(r.LookMX(ctx, name))
	case "TLSA":
		a, records = counted(r.LookTLSA(ctx, name))
	case "TXT":
		a, records = counted(r.LookTXT(ctx, name))
	case "SERVED":
		return served(ctx, r, name)
	case "CNAME":
		a, records = counted(r.LookAlias(ctx, name))
	default:
		return Answer{Failure: "no such type: " + kind}
	}
	failure := ""
	if a.Err != nil {
		failure, a.Err = a.Err.Error(), nil
	}
	return Answer{Answer: a, Records: records, Failure: failure, Took: time.Since(began)}
}

func counted[T any](s resolve.Set[T]) (resolve.Answer, int) { return s.Answer, len(s.Records) }

func served(ctx context.Context, r *resolve.Resolver, name string) Answer {
	all, err := r.ServedTLSA(ctx, name)
	a := Answer{Answer: all.Keys}
	if a.Err = nil; err != nil {
		a.Failure = err.Error()
	}
	for _, one := range all.Answers {
		a.Served = append(a.Served, Served{one.Server.Address, one.Fault, len(one.Records), one.Signature, one.Since, one.Until})
	}
	return a
}

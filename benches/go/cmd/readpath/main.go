// Command readpath reads through two caches, as services in Go do: Ristretto, and behind it Redis by
// go-redis, which is asked once for a key however many wait for it.
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/dgraph-io/ristretto/v2"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"

	"zmsg.test/peers/meter"
)

const (
	valueBytes = 256
	ttl        = 24 * time.Hour
)

// path is what a read goes along.
type path struct {
	local  *ristretto.Cache[string, []byte]
	flight singleflight.Group
	remote *redis.Client
}

// open gives a path whose first cache holds so many bytes, with the ten counters for each value and
// the buffers that Ristretto's documentation advises.
func open(bytesMax int64, remote *redis.Client) *path {
	local, err := ristretto.NewCache(&ristretto.Config[string, []byte]{
		NumCounters: 10 * bytesMax / valueBytes,
		MaxCost:     bytesMax,
		BufferItems: 64,
	})
	meter.Must(err)
	return &path{local: local, remote: remote}
}

func (p *path) get(ctx context.Context, key string) ([]byte, error) {
	if value, ok := p.local.Get(key); ok {
		return value, nil
	}
	found, err, _ := p.flight.Do(key, func() (any, error) {
		if p.remote == nil {
			return nil, errors.New("not in the first cache: " + key)
		}
		value, err := p.remote.Get(ctx, key).Bytes()
		if err != nil {
			return nil, err
		}
		p.put(key, value)
		return value, nil
	})
	if err != nil {
		return nil, err
	}
	return found.([]byte), nil
}

func (p *path) put(key string, value []byte) bool {
	return p.local.SetWithTTL(key, value, int64(len(value)), ttl)
}

// read has to find the value.
func (p *path) read(key string) {
	value, err := p.get(context.Background(), key)
	if err == nil && len(value) != valueBytes {
		err = fmt.Errorf("%d bytes of %s", len(value), key)
	}
	meter.Must(err)
}

// local prints the nanoseconds of a read that the first cache answers, of the keys in a file, which
// take turns. It holds `PREFIX0` and so on, so many values, each a copy of its own.
func local(goroutines int, round time.Duration, file, prefix string, rows uint64, bytesMax int64) {
	p := open(bytesMax, nil)
	for row := range rows {
		key := prefix + strconv.FormatUint(row, 10)
		// A full buffer drops what is put.
		for !p.put(key, make([]byte, valueBytes)) {
			p.local.Wait()
		}
	}
	p.local.Wait()
	keys := lines(file)
	for _, key := range keys {
		p.read(key)
	}
	fmt.Println(meter.Nanoseconds(goroutines, round, func(goroutine int) func() {
		next := goroutine * len(keys) / goroutines
		return func() {
			if next++; next >= len(keys) {
				next = 0
			}
			p.read(keys[next])
		}
	}))
}

// remote prints how many reads are made a second, nearly all of which Redis answers: of `PREFIX0` and
// so on, in an order without locality.
func remote(goroutines int, round time.Duration, url, prefix string, rows uint64, bytesMax int64) {
	options, err := redis.ParseURL(url)
	meter.Must(err)
	p := open(bytesMax, redis.NewClient(options))
	call := func(goroutine, made uint64) {
		row := (goroutine*7_919 + made) * 0x9E37_79B9_7F4A_7C15 % rows
		p.read(prefix + strconv.FormatUint(row, 10))
	}
	// The connections are made before it counts.
	meter.PerSecond(goroutines, round/4, call)
	fmt.Println(meter.PerSecond(goroutines, round, call))
}

func lines(file string) []string {
	opened, err := os.Open(file)
	meter.Must(err)
	defer opened.Close()
	var lines []string
	scanner := bufio.NewScanner(opened)
	for scanner.Scan() {
		lines = append(lines, scanner.Text())
	}
	meter.Must(scanner.Err())
	return lines
}

func main() {
	const usage = "usage: readpath GOROUTINES ROUND local FILE PREFIX ROWS BYTES_MAX\n" +
		"       readpath GOROUTINES ROUND remote URL PREFIX ROWS BYTES_MAX"
	if len(os.Args) != 8 {
		meter.Must(errors.New(usage))
	}
	goroutines, err := strconv.Atoi(os.Args[1])
	meter.Must(err)
	round, err := time.ParseDuration(os.Args[2])
	meter.Must(err)
	rows, err := strconv.ParseUint(os.Args[6], 10, 64)
	meter.Must(err)
	bytesMax, err := strconv.ParseInt(os.Args[7], 10, 64)
	meter.Must(err)
	at, prefix := os.Args[4], os.Args[5]
	switch os.Args[3] {
	case "local":
		local(goroutines, round, at, prefix, rows, bytesMax)
	case "remote":
		remote(goroutines, round, at, prefix, rows, bytesMax)
	default:
		meter.Must(errors.New(usage))
	}
}

// Package meter measures calls as the targets in Rust do.
package meter

import (
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// block is how many calls are made between two looks at the clock.
const block = 1_000

// Nanoseconds tells what one call takes on each of so many goroutines at once: the mean of what they
// saw, each of which makes its call of its number and repeats it for a round.
func Nanoseconds(goroutines int, round time.Duration, caller func(goroutine int) func()) float64 {
	took := make([]float64, goroutines)
	var begin, done sync.WaitGroup
	begin.Add(goroutines)
	for number := range goroutines {
		done.Go(func() {
			call := caller(number)
			begin.Done()
			begin.Wait()
			began := time.Now()
			for made := block; ; made += block {
				for range block {
					call()
				}
				if passed := time.Since(began); passed >= round {
					took[number] = float64(passed.Nanoseconds()) / float64(made)
					return
				}
			}
		})
	}
	done.Wait()
	sum := 0.0
	for _, one := range took {
		sum += one
	}
	return sum / float64(goroutines)
}

// PerSecond tells how many calls so many goroutines make in a second, each of which makes one after
// the other for a round. The call is given which goroutine this is, and how many calls it made before.
func PerSecond(goroutines int, round time.Duration, call func(goroutine, made uint64)) float64 {
	var stop atomic.Bool
	var calls atomic.Uint64
	var done sync.WaitGroup
	began := time.Now()
	for number := range goroutines {
		done.Go(func() {
			made := uint64(0)
			for ; !stop.Load(); made++ {
				call(uint64(number), made)
			}
			calls.Add(made)
		})
	}
	time.Sleep(round)
	stop.Store(true)
	done.Wait()
	return float64(calls.Load()) / time.Since(began).Seconds()
}

// Must ends the program if something went wrong.
func Must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
